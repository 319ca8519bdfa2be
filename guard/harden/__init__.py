"""Training that makes a model harder to fool. Needs torch; never used on the serving path, knows no attack."""

from medward.guard.harden.certificate import Accuracy, Certificate, Hardened, Hardener
from medward.guard.harden.method import HardeningMethod
from medward.guard.harden.robust.pgd import AdversarialTraining
from medward.guard.harden.robust.retraining import Retraining
from medward.guard.harden.robust.trades import Trades
from medward.guard.harden.robust.training import Training
from medward.guard.harden.robust.universal import UniversalTraining

__all__ = ["HARDENERS", "Accuracy", "Certificate", "Hardened", "Hardener", "Training"]

HARDENERS: dict[str, HardeningMethod] = {
    method.name: method for method in (UniversalTraining(), AdversarialTraining(), Trades(), Retraining())
}
"""Every method by name, at its default settings; ``dataclasses.replace`` gives it others."""
