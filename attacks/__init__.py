"""Medward's attack suite. An attack sees a `Target`; the matrix in ``attacks.matrix`` judges what it achieved."""
