"""Audits: does the training leak more than its certificate claims?"""

from medward.attacks.audit.canary_confidence import CanaryConfidence

__all__ = ["CanaryConfidence"]
