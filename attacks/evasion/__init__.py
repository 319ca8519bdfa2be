"""Evasion: inputs changed within a small ball so that the model decides otherwise."""

from attacks.evasion.apgd import APGD
from attacks.evasion.fgsm import FGSM
from attacks.evasion.gd_uap import DataFree
from attacks.evasion.hill_climb_uap import HillClimb
from attacks.evasion.hopskipjump import HopSkipJump
from attacks.evasion.ifgsm_uap import IterativeFGSM
from attacks.evasion.oars import OARS
from attacks.evasion.pgd import PGD
from attacks.evasion.square import Square
from attacks.evasion.standard import Standard
from attacks.evasion.uap import UniversalPerturbation

__all__ = [
    "APGD",
    "FGSM",
    "OARS",
    "PGD",
    "DataFree",
    "HillClimb",
    "HopSkipJump",
    "IterativeFGSM",
    "Square",
    "Standard",
    "UniversalPerturbation",
]
