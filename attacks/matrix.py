"""The matrix: every attack against the bare model, against the guard, and again by an attacker who knows the guard.

Each run is kept on disk as soon as it is done, so a validation that was killed goes on where it stopped. The guard
starts every run with an empty memory. Evasion is judged with a new account for every row: only what the guard sees
in a single input can help it there.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from attacks.base import Attack, AttackData, AttackResult, ThreatModel
from attacks.clean import ask_all, measure
from attacks.finding import ARMS, CONTROLS, MEASURES, Arm, CleanCost, Curve, Finding, Status
from attacks.gate import Measured, bound, judge
from attacks.intervals import Interval, auc_interval, paired_difference, rate, surviving_share
from attacks.journal import Journal, code_version, pack_result, settings_of, unpack_result
from attacks.progress import Progress
from attacks.report import Provenance, Report
from attacks.samples import attack_data, conformed
from attacks.target import Target, guarded_oracle, open_oracle
from guard.data import Split, digest
from guard.pipeline import Guard
from guard.policy import Policy
from guard.profile import Profile
from guard.protocols import Model, Store
from guard.stores import MemoryStore

if TYPE_CHECKING:
    import torch

THIEF_TRACE = 200
"""Queries of the pure thief whose e-value the report draws."""
CURVE_POINTS = 200
LIBRARIES = ("medward", "numpy", "scipy", "torch", "onnxruntime", "scikit-learn")


class Deployed(Protocol):
    """What is validated: a bundle, or anything like it."""

    @property
    def model(self) -> Model: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def profile(self) -> Profile: ...
    @property
    def digest(self) -> str: ...
    def guard(self, *, store: Store) -> Guard: ...


def validate(
    bundle: Deployed,
    splits: Mapping[str, Split],
    out: Path,
    *,
    attacks: Sequence[Attack],
    network: torch.nn.Module | None = None,
    no_network: str = "no differentiable form of the model was given",
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> Report:
    """Run `attacks` against `bundle`, judge them by its policy's gate, write the report into `out`.

    `splits` is raw data as ``guard.data.load_npz`` reads it and needs "test"; "train" and "holdout" let membership
    be tested. `network` is the deployed model as a torch module for white-box attacks; without one they transfer
    from a surrogate and the findings say `no_network`. The same seed gives the same findings, resumed or not.
    Raises `MedwardError` for data that does not fit the model.
    """
    model, spec = bundle.model, bundle.model.spec
    data, missing = attack_data(model, conformed(splits, spec), seed=seed)
    journal = Journal(out / "cells", resume)
    common = {
        "bundle": bundle.digest,
        "policy": bundle.policy.fingerprint,
        "data": digest(*(splits[name] for name in sorted(splits))),
        "code": code_version(),
        "seed": seed,
        "white_box": network is not None,
    }
    with Progress(total=3 * len(attacks) + 1, shown=progress) as bar:
        kept, recalled = journal.once(
            {**common, "run": "clean"}, partial(_clean, bundle, conformed(splits, spec), data, seed)
        )
        clean = CleanCost.model_validate(kept["cost"])
        bar.done("clean cost", str(clean.site.false_refusal), recalled=recalled)
        findings = []
        for attack in attacks:
            reason = missing.get(attack.family, "")
            if reason:
                findings.append(_not_applicable(attack, bundle, reason, seed))
                bar.done(attack.name, reason, steps=3)
                continue
            results: dict[Arm, AttackResult] = {}
            for arm, runner in zip(ARMS, (attack, attack, _adaptive(attack)), strict=True):
                if runner is None:
                    bar.done(f"{attack.name}, adaptive", "no attacker who knows the guard")
                    continue
                settings = {**common, "run": arm, "attack": settings_of(runner)}
                packed, recalled = journal.once(settings, partial(_run, runner, arm, bundle, data, network, seed))
                results[arm] = unpack_result(packed)
                bar.done(f"{attack.name}, {arm}", str(_headline(attack, results[arm], seed)), recalled=recalled)
            findings.append(
                _finding(attack, bundle, results, clean, seed, no_network if network is None else "")
            )
    report = Report(
        findings=tuple(findings),
        clean=clean,
        accounts=kept["accounts"],
        alarms={rung.action: rung.false_alarm for rung in bundle.policy.monitor.ladder},
        gate=bundle.policy.gate,
        provenance=Provenance(
            model=spec.name,
            classes=spec.classes,
            shape=spec.shape,
            bundle=bundle.digest,
            policy=bundle.policy.fingerprint,
            data=common["data"],
            rows={name: len(split) for name, split in sorted(splits.items())},
            seed=seed,
            code=common["code"],
            white_box=network is not None,
            versions={**_versions(), "python": platform.python_version()},
        ),
    )
    report.save(out)
    return report


def _run(
    attack: Attack, arm: Arm, bundle: Deployed, data: AttackData, network: torch.nn.Module | None, seed: int
) -> Any:
    """One arm of one attack, packed for the journal."""
    if arm == "undefended":
        oracle, profile = open_oracle(bundle.model), None
    else:
        guard = bundle.guard(store=MemoryStore())
        oracle, profile = guarded_oracle(guard, fresh=attack.family == "evasion"), bundle.profile
    target = Target(bundle.model.spec, oracle, attack.threat, network=network, profile=profile)
    result = attack.run(target, data, seed=seed)
    return pack_result(replace(result, queries=max(result.queries, target.queries)))


def _clean(bundle: Deployed, splits: Mapping[str, Split], data: AttackData, seed: int) -> Any:
    """The clean cost and the e-values of benign accounts and of a thief, packed for the journal."""

    def fresh_guard() -> Guard:
        return bundle.guard(store=MemoryStore())

    site = "holdout" if "holdout" in splits else "test"
    drift = ("test", splits["test"]) if site != "test" else None
    cost, accounts = measure(bundle.model, fresh_guard, (site, splits[site]), drift, seed=seed)
    if data.pool is not None:
        accounts["thief"] = ask_all(fresh_guard(), data.pool[:THIEF_TRACE], "thief").curve
    return {"cost": cost.model_dump(mode="json"), "accounts": accounts}


def _finding(
    attack: Attack,
    bundle: Deployed,
    results: Mapping[Arm, AttackResult],
    clean: CleanCost,
    seed: int,
    no_network: str,
) -> Finding:
    """Judge one attack from its arms' results."""
    gate = bundle.policy.gate
    measured = {arm: _headline(attack, result, seed) for arm, result in results.items()}
    baseline = _baseline(attack, results["undefended"], seed)
    seen, judged = measured["undefended"], {arm: measured.get(arm) for arm in ARMS}
    if attack.family == "extraction":
        gains = {arm: _gain(result) for arm, result in results.items()}
        none = np.zeros_like(gains["undefended"])
        seen = paired_difference(gains["undefended"], none, seed=seed)
        judged = {arm: surviving_share(gain, gains["undefended"], seed=seed) for arm, gain in gains.items()}
    flags = tuple(dict.fromkeys(flag for arm in results for flag in results[arm].flags))
    status, reasons = judge(
        attack.family,
        Measured(
            undefended=seen,
            guarded=judged.get("guarded"),
            adaptive=judged.get("adaptive"),
            false_refusal=clean.site.false_refusal,
            noise=baseline if attack.family == "evasion" else None,
            flags=flags,
        ),
        gate,
    )
    adaptive = _adaptive(attack)
    transfers = attack.family == "evasion" and no_network
    return _blank(attack, bundle, seed).model_copy(
        update={
            "threat": _transferring(attack.threat, no_network) if transfers else attack.threat,
            "status": status,
            "reasons": reasons,
            "undefended": measured["undefended"],
            "guarded": measured.get("guarded"),
            "adaptive": measured.get("adaptive"),
            "baseline": baseline,
            "judged_guarded": judged.get("guarded"),
            "judged_adaptive": judged.get("adaptive"),
            "adaptive_name": "" if adaptive is None else adaptive.name,
            "clean_cost": clean,
            "n": measured["undefended"].n,
            "queries": {arm: result.queries for arm, result in results.items()},
            "flags": flags,
            "curves": {arm: _curves(result) for arm, result in results.items()},
            "images": {
                name: np.round(np.asarray(image, np.float64), 5).tolist()
                for name, image in results["undefended"].images.items()
            },
        }
    )


def _not_applicable(attack: Attack, bundle: Deployed, reason: str, seed: int) -> Finding:
    return _blank(attack, bundle, seed).model_copy(update={"reasons": (reason,)})


def _blank(attack: Attack, bundle: Deployed, seed: int) -> Finding:
    measure_name, judged_as = MEASURES[attack.family]
    return Finding(
        attack=attack.name,
        family=attack.family,
        defense=f"policy {bundle.policy.fingerprint}",
        threat=attack.threat,
        status=Status.NOT_APPLICABLE,
        reasons=(),
        measure=measure_name,
        judged_as=judged_as,
        bound=bound(attack.family, bundle.policy.gate),
        controls=CONTROLS[attack.family],
        seed=seed,
    )


def _headline(attack: Attack, result: AttackResult, seed: int) -> Interval:
    """What one run achieved, on the attack's own scale."""
    if attack.family == "membership":
        return auc_interval(result.outcome, _truth(result), seed=seed)
    return rate(result.outcome)


def _baseline(attack: Attack, result: AttackResult, seed: int) -> Interval | None:
    if result.baseline is None:
        return None
    if attack.family == "membership":
        return auc_interval(result.baseline, _truth(result), seed=seed)
    return rate(result.baseline)


def _gain(result: AttackResult) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Per row, agreement of the clone less that of the thief without a victim."""
    if result.baseline is None:
        raise ValueError("an extraction attack gives the agreement of a thief without a victim as its baseline")
    return np.asarray(result.outcome, np.float64) - np.asarray(result.baseline, np.float64)


def _truth(result: AttackResult) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if result.truth is None:
        raise ValueError("a membership attack says who is a member")
    return result.truth


def _adaptive(attack: Attack) -> Attack | None:
    make = getattr(attack, "adaptive", None)
    return None if make is None else make()


def _transferring(threat: ThreatModel, reason: str) -> ThreatModel:
    return replace(threat, knowledge=f"transfer from a surrogate: {reason}")


def _curves(result: AttackResult) -> dict[str, Curve]:
    """The curves, thinned to what a plot can show."""
    thin = {}
    for name, (xs, ys) in result.curves.items():
        index = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), CURVE_POINTS)).astype(int)) if len(xs) else []
        thin[name] = (tuple(float(xs[i]) for i in index), tuple(float(ys[i]) for i in index))
    return thin


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
