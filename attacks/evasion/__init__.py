"""Evasion: inputs changed within a small ball so that the model decides otherwise."""

from attacks.evasion.pgd import PGD
from attacks.evasion.uap import UniversalPerturbation

__all__ = ["PGD", "UniversalPerturbation"]
