"""Membership inference: was this patient's record in the training set?"""

from medward.attacks.membership.lira import OfflineLiRA
from medward.attacks.membership.loss import LossThreshold

__all__ = ["LossThreshold", "OfflineLiRA"]
