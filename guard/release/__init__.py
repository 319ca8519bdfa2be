"""What leaves: output filters, none of which changes a diagnosis, and how many bits they let through."""

from medward.guard.release.levels import ReleaseLevels
from medward.guard.release.quantise import Prototypes
from medward.guard.release.scores import probabilities
from medward.guard.release.temperature import fit_temperature
from medward.guard.release.topk import spread_rest

__all__ = ["Prototypes", "ReleaseLevels", "fit_temperature", "probabilities", "spread_rest"]
