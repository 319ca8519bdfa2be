"""Disclosure: what a model was shown or learned by heart is got out of it, however it is asked and answers."""
