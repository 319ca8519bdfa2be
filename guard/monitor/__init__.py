"""One account over time."""

from guard.monitor.eprocess import EProcess
from guard.monitor.residual import Residuals
from guard.monitor.shared import SharedPerturbation, Sighting

__all__ = ["EProcess", "Residuals", "SharedPerturbation", "Sighting"]
