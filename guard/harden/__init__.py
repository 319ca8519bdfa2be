"""Training that makes a classifier harder to fool. Needs torch; never used on the serving path, knows no attack."""

from guard.harden.base import Accuracy, Certificate, Hardened, Hardener
from guard.harden.course import Method
from guard.harden.pgd import AdversarialTraining
from guard.harden.retraining import Retraining
from guard.harden.trades import Trades
from guard.harden.training import Training
from guard.harden.universal import UniversalTraining

__all__ = ["HARDENERS", "Accuracy", "Certificate", "Hardened", "Hardener", "Training"]

HARDENERS: dict[str, Method] = {
    method.name: method for method in (UniversalTraining(), AdversarialTraining(), Trades(), Retraining())
}
"""Every method by name, at its default settings; ``dataclasses.replace`` gives it others."""
