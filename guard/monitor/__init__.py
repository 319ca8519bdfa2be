"""One account over time."""

from guard.monitor.eprocess import EProcess
from guard.monitor.leakage import Ask, Leakage, budgets_for, charge, utc_day
from guard.monitor.residual import Residuals
from guard.monitor.shared import SharedPerturbation, Sighting

__all__ = [
    "Ask",
    "EProcess",
    "Leakage",
    "Residuals",
    "SharedPerturbation",
    "Sighting",
    "budgets_for",
    "charge",
    "utc_day",
]
