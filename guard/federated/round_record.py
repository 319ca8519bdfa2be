"""What a round leaves in the audit log: how much of each client was taken, whom it suspected or refused, and why.

Written by the integrations with `guard.audit.log.AuditLog`, read by ``medward federate audit``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import RoundResult
from medward.guard.federated.robust_feddetect import Suspicion
from medward.guard.federated.rules import RULES
from medward.guard.federated.rules.base import Rule, tolerated
from medward.guard.federated.rules.bucketing import Bucketing
from medward.guard.federated.rules.bulyan import Bulyan
from medward.guard.federated.rules.divide_and_conquer import DivideAndConquer
from medward.guard.federated.rules.fltrust import FLTrust
from medward.guard.federated.rules.foolsgold import FoolsGold
from medward.guard.federated.rules.krum import MultiKrum
from medward.guard.federated.rules.norm_clipped_mean import NormClippedMean
from medward.guard.federated.rules.trimmed_mean import TrimmedMean
from medward.guard.federated.rules.weighted_mean import WeightedMean
from medward.guard.federated.update import ClientUpdate

ROUND_EVENT = "federated-round"
"""The name of the event in an audit log."""
EPSILON_METRIC = "epsilon"
"""Under this name a client says in its metrics which epsilon its training has spent so far."""
LEAST_JUDGED = 3
"""Clients in a round, below which none of them can be told to be odd."""
_BETTER = "norm-clipped-mean of 2 clients or more bounds it"
_DIGITS = 4
_LONGEST = 300  # characters of a name or reason that a client had a hand in


def round_record(
    number: int, result: RoundResult, rule: Rule | str, updates: Sequence[ClientUpdate] = ()
) -> dict[str, Any]:
    """The record of round `number` as JSON has it.

    `rule` is what aggregated: a rule of Medward itself, or the name of a strategy of others. Of `updates` the record
    keeps the epsilon that each client says it has spent, which is its own word. Raises `MedwardError` for the name of
    a rule: what it bounds depends on its settings.
    """
    if isinstance(rule, str) and rule in RULES:
        raise MedwardError(f"rule: {rule!r} names a rule of Medward; give the rule itself (aggregator.rule)")
    judgement = result.judgement
    return {
        "event": ROUND_EVENT,
        "round": number,
        "rule": rule_text(rule),
        "weights": {_short(node): weight for node, weight in result.weights.items()},
        "lengths": {_short(node): round(length, _DIGITS) for node, length in result.lengths.items()},
        "trust": {} if judgement is None else {_short(node): trust for node, trust in judgement.trust.items()},
        "peaks": {} if judgement is None else {_short(node): list(peak) for node, peak in judgement.peaks.items()},
        "suspects": [] if judgement is None else [_said(each) for each in judgement.suspects],
        "spared": [] if judgement is None else [_said(each) for each in judgement.spared],
        "refusals": [{"node": _short(each.node), "reason": _short(each.reason)} for each in result.refusals],
        "epsilons": _epsilons(updates, result.weights),
        "unchanged": result.unchanged,
        "unprotected": unprotected(result, rule),
    }


def unprotected(result: RoundResult, rule: Rule | str) -> list[str]:
    """What nothing guarded in this round, a sentence each; nothing where no update was taken."""
    if not result.weights:
        return []
    told = ["no client was judged: the server has no probe, or its policy says detect = false"]
    told = told if result.judgement is None else []
    if result.judgement is not None and set(result.judgement.young) >= set(result.judgement.trust):
        told.append("every client was in its warm-up, in which only who differs much is suspected")
    if result.judgement is not None and len(result.judgement.trust) < LEAST_JUDGED:
        told.append(f"fewer than {LEAST_JUDGED} clients were judged: of two nobody can say which one is odd")
    trusted = result.weights if result.judgement is None else result.judgement.trust
    clients = len(trusted) if result.judgement is None else sum(each > 0 for each in trusted.values())
    if isinstance(rule, str):
        told.append(
            f"{rule} aggregated, which is no rule of Medward: how far one client moves the model is not bounded"
        )
    elif result.unchanged is None and not bounds_one(rule, clients):
        told.append(f"{rule_text(rule)} lets one client move the model anywhere; {_BETTER}")
    return told


def bounds_one(rule: Rule, clients: int) -> bool:
    """Whether one of `clients` that a rule aggregates is held by the others."""
    if isinstance(rule, Bucketing):
        return bounds_one(rule.rule, -(-clients // rule.size))
    if isinstance(rule, WeightedMean | FoolsGold):
        return False
    if isinstance(rule, FLTrust):
        return True
    if isinstance(rule, TrimmedMean | MultiKrum | Bulyan | DivideAndConquer) and not tolerated(
        clients, rule.malicious_share
    ):
        return False
    return clients >= (2 if isinstance(rule, NormClippedMean) else 3)


def rule_text(rule: Rule | str) -> str:
    """The name of a rule, and of the one that bucketing wraps."""
    if isinstance(rule, str):
        return rule
    return f"{rule.name} of {rule_text(rule.rule)}" if isinstance(rule, Bucketing) else rule.name


def _said(suspicion: Suspicion) -> dict[str, Any]:
    return {**asdict(suspicion), "node": _short(suspicion.node)}


def _epsilons(updates: Sequence[ClientUpdate], admitted: Mapping[str, float]) -> dict[str, float]:
    """What admitted clients say they have spent, where it is a number that can be one."""
    said = {update.node: update.metrics.get(EPSILON_METRIC) for update in updates if update.node in admitted}
    return {
        _short(node): float(value)
        for node, value in said.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max
    }


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
