"""Membership inference: was this patient's record in the training set?"""

from attacks.membership.lira import OfflineLiRA
from attacks.membership.loss import LossThreshold

__all__ = ["LossThreshold", "OfflineLiRA"]
