"""From the runs of one attack to a finding: intervals, the gate's verdict, and what the report draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.attacks.base import Access, Attack, AttackResult, Attempt
from medward.attacks.intervals import (
    Interval,
    auc_interval,
    paired_difference,
    rate_interval,
    surviving_share,
    worst_rate,
)
from medward.attacks.validation.finding import CONTROLS, MEASURES, TRANSFERRED, Arm, CleanCost, Curve, Finding, Status
from medward.attacks.validation.gate import CellIntervals, gate_bound, judge_cell
from medward.guard.policy import Policy

CURVE_POINTS = 200
"""Points kept of a curve; a plot shows no more."""
BEHIND: tuple[Arm, ...] = ("guarded", "adaptive")
TWIN = "The undefended run is on the model as it was before hardening."


def judge_attack(
    attack: Attack,
    results: Mapping[Arm, AttackResult],
    *,
    policy: Policy,
    clean: CleanCost,
    seed: int,
    classes: Sequence[str],
    adaptive: Attack | None = None,
    no_network: str = "",
    twin: bool = False,
) -> Finding:
    """Judge one attack on a model of these `classes`. `no_network` says why an evasion attack had to transfer from a
    surrogate, if so. With `twin` the undefended run of evasion was on the model as it was before hardening.

    An arm whose run could not be done has an empty outcome and says so in its flags.
    """
    measured = {arm: headline_number(attack, result, seed) for arm, result in results.items()}
    judged = {arm: _judged(attack, arm, results, measured, seed) for arm in BEHIND}
    baseline = _baseline(attack, results["undefended"], seed)
    flags = tuple(dict.fromkeys(flag for result in results.values() for flag in result.flags))
    evidence = CellIntervals(
        undefended=_works(attack, results["undefended"], measured["undefended"], seed),
        guarded=judged["guarded"],
        adaptive=judged["adaptive"],
        false_refusal=clean.site.false_refusal,
        accounts=clean.site.accounts,
        noise=baseline if attack.family == "evasion" else None,
        classes={arm: by_class(result.attempts, classes) for arm, result in results.items()},
        noise_classes=by_class(results["undefended"].attempts, classes, noise=True),
        gains=_gains(attack, results, seed),
        flags=flags,
    )
    status, reasons = judge_cell(attack.family, evidence, policy.gate)
    if twin and attack.family == "evasion":
        reasons = (*reasons, TWIN)
    threat, controls = attack.threat, CONTROLS[attack.family]
    if attack.family == "evasion" and no_network and threat.access >= Access.GRADIENTS:
        known = f"attacks by transfer from a surrogate, not white-box: {no_network}"
        threat, controls = (
            replace(threat, access=Access.SCORES, knowledge=known),
            TRANSFERRED,
        )
    return blank_finding(attack, policy, seed).model_copy(
        update={
            "threat": threat,
            "controls": controls,
            "status": status,
            "reasons": reasons,
            "undefended": measured["undefended"],
            "guarded": measured.get("guarded"),
            "adaptive": measured.get("adaptive"),
            "baseline": baseline,
            "judged_guarded": judged["guarded"],
            "judged_adaptive": judged["adaptive"],
            "adaptive_name": "" if adaptive is None else adaptive.name,
            "adaptive_threat": None if adaptive is None else adaptive.threat,
            "clean_cost": clean,
            "n": len(results["undefended"].outcome),
            "queries": {arm: result.queries for arm, result in results.items()},
            "flags": flags,
            "curves": {arm: _curves(result) for arm, result in results.items() if result.curves},
            "images": {name: _pixels(image) for name, image in results["undefended"].images.items()},
        }
    )


def blank_finding(
    attack: Attack,
    policy: Policy,
    seed: int,
    reasons: tuple[str, ...] = (),
    status: Status = Status.NOT_APPLICABLE,
) -> Finding:
    """A finding of an attack that was not run: not applicable to the model, or not tested with this data."""
    measure, judged_as = MEASURES[attack.family]
    return Finding(
        attack=attack.name,
        family=attack.family,
        defense=f"policy {policy.fingerprint}",
        threat=attack.threat,
        status=status,
        reasons=reasons,
        measure=measure,
        judged_as=judged_as,
        bound=gate_bound(attack.family, policy.gate),
        controls=CONTROLS[attack.family],
        seed=seed,
    )


def headline_number(attack: Attack, result: AttackResult, seed: int) -> Interval | None:
    """What one run achieved, on the attack's own scale, at its worst radius; None when it was judged on no row."""
    if result.attempts:
        return worst_rate([attempt.fooled for attempt in result.attempts])
    return _interval(attack, result.outcome, result.truth, seed)


def by_class(attempts: Sequence[Attempt], classes: Sequence[str], *, noise: bool = False) -> dict[str, Interval]:
    """The share fooled of the rows decided as each class, at its worst radius; by random noise with `noise`.

    Lower ends are corrected for the number of classes that are there, as they are for radii.
    """
    there = sorted({int(label) for attempt in attempts for label in np.unique(attempt.decided)})
    found = {}
    for label in there:
        rows = [(each.noisy if noise else each.fooled)[each.decided == label] for each in attempts]
        found[classes[label]] = worst_rate([some for some in rows if len(some)], among=len(there))
    return found


def _baseline(attack: Attack, result: AttackResult, seed: int) -> Interval | None:
    if result.attempts:
        return worst_rate([attempt.noisy for attempt in result.attempts])
    return None if result.baseline is None else _interval(attack, result.baseline, result.truth, seed)


def _interval(
    attack: Attack, outcome: NDArray[np.generic], truth: NDArray[np.bool_] | None, seed: int
) -> Interval | None:
    if len(outcome) == 0:
        return None
    if attack.family == "membership":
        return None if truth is None else auc_interval(outcome, truth, seed=seed)
    return rate_interval(outcome)


def _works(attack: Attack, result: AttackResult, achieved: Interval | None, seed: int) -> Interval | None:
    """What shows that the attack works at all on the undefended model."""
    if attack.family != "extraction" or achieved is None:
        return achieved
    return None if result.baseline is None else paired_difference(result.outcome, result.baseline, seed=seed)


def _judged(
    attack: Attack,
    arm: Arm,
    results: Mapping[Arm, AttackResult],
    measured: Mapping[Arm, Interval | None],
    seed: int,
) -> Interval | None:
    """What the gate compares with its bound. A thief's gain is over its own twin without a victim."""
    if attack.family != "extraction" or measured.get(arm) is None:
        return measured.get(arm)
    mine, free = _gain(results[arm]), _gain(results["undefended"])
    if mine is None or free is None or len(mine) != len(free):
        return None
    return surviving_share(mine, free, seed=seed)


def _gains(attack: Attack, results: Mapping[Arm, AttackResult], seed: int) -> dict[Arm, Interval]:
    """What a thief behind the guard gained over its own twin without a victim."""
    if attack.family != "extraction":
        return {}
    return {
        arm: paired_difference(results[arm].outcome, baseline, seed=seed)
        for arm in BEHIND
        if arm in results and (baseline := results[arm].baseline) is not None and len(baseline)
    }


def _gain(result: AttackResult) -> NDArray[np.float64] | None:
    """Per row, agreement of the clone less that of the thief without a victim."""
    if result.baseline is None:
        return None
    return np.asarray(result.outcome, np.float64) - np.asarray(result.baseline, np.float64)


def _curves(result: AttackResult) -> dict[str, Curve]:
    """The curves, thinned evenly."""
    thin = {}
    for name, (xs, ys) in result.curves.items():
        kept = sorted({round(i) for i in np.linspace(0, len(xs) - 1, min(len(xs), CURVE_POINTS))})
        thin[name] = (tuple(float(xs[i]) for i in kept), tuple(float(ys[i]) for i in kept))
    return thin


def _pixels(image: Any) -> list[Any]:
    return list(np.round(np.asarray(image, np.float64), 5).tolist())
