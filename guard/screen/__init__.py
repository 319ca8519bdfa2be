"""One input at a time: how strange is it, and is that more than benign inputs ever are?"""

from guard.screen.conformal import Thresholds
from guard.screen.mahalanobis import EMBEDDINGS, Mahalanobis

__all__ = ["EMBEDDINGS", "Mahalanobis", "Thresholds"]
