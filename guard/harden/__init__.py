"""Training that makes a model harder to fool. Needs torch; never used on the serving path, knows no attack."""

from medward.guard.certificate import Accuracy, AnyCertificate, PrivacyCertificate, RobustnessCertificate
from medward.guard.harden.certificate import Hardened, Hardener
from medward.guard.harden.certified.training import CertifiedTraining
from medward.guard.harden.method import HardeningMethod
from medward.guard.harden.robust.pgd import AdversarialTraining
from medward.guard.harden.robust.retraining import Retraining
from medward.guard.harden.robust.trades import Trades
from medward.guard.harden.robust.training import Training
from medward.guard.harden.robust.universal import UniversalTraining
from medward.guard.plugins import Plugin, checked_plugins

__all__ = [
    "HARDENERS",
    "Accuracy",
    "AnyCertificate",
    "Hardened",
    "Hardener",
    "PrivacyCertificate",
    "RobustnessCertificate",
    "Training",
    "known_hardeners",
    "plugin_hardeners",
]

HARDENERS: dict[str, HardeningMethod] = {
    method.name: method
    for method in (UniversalTraining(), AdversarialTraining(), Trades(), CertifiedTraining(), Retraining())
}
"""Medward's own methods by name, at their default settings; ``dataclasses.replace`` gives them others."""

PRIVATE = "dp"
"""The name of private training (`guard.harden.private`), which is none of these: it must be told what may be spent."""


def plugin_hardeners() -> tuple[Plugin, ...]:
    """The methods of other packages that are installed. Raises `MedwardError` for one that cannot be used."""
    return checked_plugins(
        "hardeners",
        {**HARDENERS, PRIVATE: None},
        lambda value: (
            "" if isinstance(value, HardeningMethod) else f"is a {type(value).__name__} and not a HardeningMethod"
        ),
    )


def known_hardeners() -> dict[str, HardeningMethod]:
    """Every method by name, Medward's own first."""
    return {**HARDENERS, **{each.name: each.value for each in plugin_hardeners()}}
