"""The aggregator that a policy asks for."""

from __future__ import annotations

import logging
from dataclasses import fields, is_dataclass
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator, ClientProbe
from medward.guard.federated.policy import FederatedPolicy
from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.guard.federated.rules import RULES
from medward.guard.federated.rules.base import Rule
from medward.guard.federated.rules.bucketing import Bucketing
from medward.guard.federated.sanitise import UpdateBounds

_LOG = logging.getLogger("medward")


def configured_aggregator(policy: FederatedPolicy, probe: ClientProbe | None = None) -> Aggregator:
    """The aggregator of `policy`, which sees clients by `probe`.

    Without `detect` nobody is judged; without a `probe` neither, which is logged as a warning. Raises `MedwardError`
    for a whole policy: the section counts.
    """
    if not isinstance(policy, FederatedPolicy):
        raise MedwardError(
            f"policy: must be its section [federated], Policy.load(path).federated, got {type(policy).__name__}"
        )
    if policy.detect and probe is None:
        _LOG.warning(
            "detect = true, and there is no probe: no client is judged; give one, or say detect = false in [federated]"
        )
    judging = policy.detect and probe is not None
    return Aggregator(
        rule=configured_rule(policy),
        detector=RobustFedDetect(**_chosen(RobustFedDetect, policy)) if judging else None,
        probe=probe if judging else None,
        bounds=UpdateBounds(**_chosen(UpdateBounds, policy)),
    )


def configured_rule(policy: FederatedPolicy) -> Rule:
    """The rule that `policy` names, with its settings.

    One malicious client spoils all of its group, so behind a bucket the rule bears that many times more.
    """
    kind = RULES[policy.rule]
    settings = _chosen(kind, policy)
    if policy.bucket == 1:
        return kind(**settings)
    if "malicious_share" in settings:
        settings["malicious_share"] *= policy.bucket
    return Bucketing(rule=kind(**settings), size=policy.bucket)


def _chosen(kind: type, policy: FederatedPolicy) -> dict[str, Any]:
    """The settings of `kind` that the policy has under the same name."""
    names = [each.name for each in fields(kind)] if is_dataclass(kind) else []
    return {name: getattr(policy, name) for name in names if hasattr(policy, name)}
