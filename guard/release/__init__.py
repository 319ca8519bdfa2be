"""What leaves: output filters, none of which changes a diagnosis, and how many bits they let through."""

from guard.release.levels import ReleaseLevels
from guard.release.quantise import Codebook
from guard.release.scores import probabilities
from guard.release.temperature import fit_temperature
from guard.release.topk import spread_rest

__all__ = ["Codebook", "ReleaseLevels", "fit_temperature", "probabilities", "spread_rest"]
