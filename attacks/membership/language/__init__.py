"""Membership of texts in the training data of a language model."""
