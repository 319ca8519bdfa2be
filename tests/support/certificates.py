"""Certificates with plausible figures, for tests that need one and no training."""

from __future__ import annotations

from medward.guard.certificate import Accuracy, PrivacyCertificate, RobustnessCertificate
from medward.guard.tasks.classification import Classification


def privacy_certificate(**changes):
    """What a training with differential privacy might state."""
    stated = {
        "epsilon": 7.9612,
        "delta": 1e-5,
        "target_epsilon": 8.0,
        "unit": "patient",
        "units": 400,
        "rows": {"train": 500, "selection": 100},
        "accountant": "PRV",
        "noise_multiplier": 0.9,
        "sample_rate": 0.1,
        "steps": 300,
        "clip": 1.0,
        "start": "fresh",
        "part": "all",
        "trained": 1200,
        "settings": {"epochs": 30},
        "not_covered": ("the choice of settings", "the normalisation of inputs"),
        "measure": "balanced accuracy",
        "measured": {"before": 0.9, "after": 0.8},
        "seed": 0,
        "data": "d" * 64,
        "original": "a" * 64,
        "hardened": "b" * 64,
        "versions": {"medward": "1"},
    }
    return PrivacyCertificate(**(stated | changes))


def robustness_certificate(**changes):
    """What an adversarial training might state."""
    accuracy = Accuracy(clean=0.9, universal=0.3, per_input=0.2)
    stated = {
        "method": "uat",
        "settings": {"margin": 1.4},
        "epsilon": 0.04,
        "unit": "input units",
        "low": 0.0,
        "high": 1.0,
        "task": Classification(classes=("a", "b"), output="logits"),
        "measure": "balanced accuracy",
        "seed": 0,
        "rows": {"train": 500, "selection": 100},
        "data": "d" * 64,
        "original": "a" * 64,
        "hardened": "b" * 64,
        "before": accuracy,
        "after": accuracy.model_copy(update={"universal": 0.8}),
        "epochs": 10,
        "best_epoch": 9,
        "versions": {"medward": "1"},
    }
    return RobustnessCertificate(**(stated | changes))
