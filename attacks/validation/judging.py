"""From the runs of one attack to a finding: intervals, the gate's verdict, and what the report draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medward.attacks.base import Access, Attack, AttackResult
from medward.attacks.intervals import Interval
from medward.attacks.validation.cause import find_causes, untested_causes
from medward.attacks.validation.family import Family, Runs
from medward.attacks.validation.finding import CleanCost, Curve, Finding, Status
from medward.attacks.validation.gate import arm_statuses, judge_cell
from medward.guard.policy import Policy

CURVE_POINTS = 200
"""Points kept of a curve; a plot shows no more."""
TWIN = "The undefended run is on the model as it was before hardening."


def judge_attack(
    family: Family, runs: Runs, *, policy: Policy, clean: CleanCost, no_network: str = "", before: bool = False
) -> Finding:
    """Judge one attack of `family`. `no_network` says why one that wants the network had none, if so. With `before` the
    undefended run was on the model as it was before training defended it.

    An arm whose run could not be done has an empty outcome and says so in its flags.
    """
    attack, results = runs.attack, runs.results
    flags = tuple(dict.fromkeys(flag for result in results.values() for flag in result.flags))
    cell = family.judge(runs)
    flags = tuple(dict.fromkeys((*flags, *cell.flags)))
    cell = replace(
        cell,
        false_refusal=clean.site.false_refusal,
        accounts=clean.site.accounts,
        sensitivity_lost=clean.site.sensitivity_lost,
        ordinary=clean.ordinary,
        uncertified=_both(cell.uncertified, clean.site.uncertified_worst),
        uncertified_classes={
            name: share
            for name in {**clean.site.uncertified_classes, **cell.uncertified_classes}
            for share in [_both(cell.uncertified_classes.get(name), clean.site.uncertified_classes.get(name))]
            if share is not None
        },
        flags=flags,
    )
    limit, settled = family.bound(policy.gate), cell.settled(policy.gate)
    status, reasons = judge_cell(settled, limit, policy.gate)
    measured = {arm: family.achieved(result, runs.seed) for arm, result in results.items()}
    threat, controls = attack.threat, family.controls
    if no_network and threat.access >= Access.GRADIENTS:
        threat, controls = family.without_network(threat, no_network)
    return blank_finding(family, attack, policy, runs.seed).model_copy(
        update={
            "threat": threat,
            "controls": controls,
            "status": status,
            "verdicts": arm_statuses(settled, limit, policy.gate),
            "causes": find_causes(settled, status, limit, policy.gate),
            "shortages": settled.rows_to_give(limit) if status is Status.TOO_FEW_ROWS else {},
            "reasons": (*reasons, *settled.notes, TWIN) if before else (*reasons, *settled.notes),
            "undefended": measured["undefended"],
            "hardened": family.achieved(runs.bare, runs.seed) if before and runs.bare is not None else None,
            "guarded": measured.get("guarded"),
            "adaptive": measured.get("adaptive"),
            "baseline": cell.baseline,
            "judged_guarded": cell.guarded,
            "judged_adaptive": cell.adaptive,
            "adaptive_name": "" if runs.adaptive is None else runs.adaptive.name,
            "adaptive_threat": None if runs.adaptive is None else runs.adaptive.threat,
            "clean_cost": clean.model_copy(update={"ordinary": ()}),  # which the report tells once
            "n": len(results["undefended"].outcome),
            "queries": {arm: result.queries for arm, result in results.items()},
            "flags": flags,
            "directions": {arm: dict(found) for arm, found in cell.directions.items() if found},
            "measures": {arm: dict(found) for arm, found in cell.measures.items() if found},
            "figures": dict(cell.figures),
            "proposal": cell.proposal,
            "curves": {arm: _curves(result) for arm, result in results.items() if result.curves},
            "images": {name: _pixels(image) for name, image in results["undefended"].images.items()},
        }
    )


def blank_finding(
    family: Family,
    attack: Attack,
    policy: Policy,
    seed: int,
    reasons: tuple[str, ...] = (),
    status: Status = Status.NOT_APPLICABLE,
) -> Finding:
    """A finding of an attack that was not run: not applicable to the model, or not tested with this data."""
    return Finding(
        attack=attack.name,
        family=family.name,
        defense=f"policy {policy.fingerprint}",
        threat=attack.threat,
        status=status,
        reasons=reasons,
        causes=untested_causes(status),
        measure=family.measure,
        judged_as=family.judged_as,
        bound=family.bound(policy.gate),
        controls=dict(family.controls),
        seed=seed,
    )


def _both(first: Interval | None, second: Interval | None) -> Interval | None:
    """What holds of two shares if it holds of this: either end is that of the larger; the only one of one."""
    if first is None or second is None:
        return first or second
    larger = max(first, second, key=lambda each: each.value)
    return Interval(larger.value, max(first.low, second.low), max(first.high, second.high), larger.n)


def _curves(result: AttackResult) -> dict[str, Curve]:
    """The curves, thinned evenly."""
    thin = {}
    for name, (xs, ys) in result.curves.items():
        kept = sorted({round(i) for i in np.linspace(0, len(xs) - 1, min(len(xs), CURVE_POINTS))})
        thin[name] = (tuple(float(xs[i]) for i in kept), tuple(float(ys[i]) for i in kept))
    return thin


def _pixels(image: Any) -> list[Any]:
    return list(np.round(np.asarray(image, np.float64), 5).tolist())
