"""Medward's attack suite. An attack sees a `Target`; the matrix in ``attacks.validation.run`` judges what it
achieved.
"""
