"""Evasion: inputs changed within a small ball so that the model decides otherwise."""

from medward.attacks.evasion.apgd import APGD
from medward.attacks.evasion.fgsm import FGSM
from medward.attacks.evasion.gd_uap import DataFree
from medward.attacks.evasion.hill_climb_uap import HillClimb
from medward.attacks.evasion.hopskipjump import HopSkipJump
from medward.attacks.evasion.ifgsm_uap import IterativeFGSM
from medward.attacks.evasion.oars import OARS
from medward.attacks.evasion.pgd import PGD
from medward.attacks.evasion.square import Square
from medward.attacks.evasion.standard import Standard
from medward.attacks.evasion.uap import UniversalPerturbation

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
