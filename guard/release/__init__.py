"""What leaves: output filters, none of which changes a diagnosis."""

from guard.release.levels import ReleaseLevels, probabilities

__all__ = ["ReleaseLevels", "probabilities"]
