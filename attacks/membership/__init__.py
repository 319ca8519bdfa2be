"""Membership inference: was this patient's record in the training set?"""

from medward.attacks.membership.augmentation import AugmentationRobustness
from medward.attacks.membership.boundary import BoundaryDistance
from medward.attacks.membership.loss import LossThreshold
from medward.attacks.membership.shadow_attack import OfflineLiRA, ShadowAttack

__all__ = ["AugmentationRobustness", "BoundaryDistance", "LossThreshold", "OfflineLiRA", "ShadowAttack"]
