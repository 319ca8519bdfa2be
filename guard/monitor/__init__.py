"""One account over time."""

from guard.monitor.combine import Combined
from guard.monitor.coverage import Coverage
from guard.monitor.embedding import Embedding
from guard.monitor.eprocess import EProcess
from guard.monitor.leakage import Ask, Leakage, budgets_for, charge, utc_day
from guard.monitor.residual import Residuals
from guard.monitor.shared import SharedPerturbation, Sighting

__all__ = [
    "Ask",
    "Combined",
    "Coverage",
    "EProcess",
    "Embedding",
    "Leakage",
    "Residuals",
    "SharedPerturbation",
    "Sighting",
    "budgets_for",
    "charge",
    "utc_day",
]
