"""The matrix: every attack on the bare model, on the guarded one, and again by one who knows the guard.

Each run is kept on disk as soon as it is done, so a validation that was killed goes on where it stopped. The
guard starts every run with an empty memory. Evasion is judged with a new account for every row: only what
the guard sees in a single input can help it there.
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

from attacks.base import Attack, AttackData, AttackResult
from attacks.clean import ask_all, measure
from attacks.finding import ARMS, Arm, CleanCost, Status
from attacks.journal import (
    Journal,
    code_version,
    data_digest,
    network_digest,
    pack_result,
    settings_of,
    unpack_result,
)
from attacks.judging import blank, finding, headline
from attacks.progress import Progress
from attacks.report import Provenance, Report
from attacks.samples import attack_data, conformed
from attacks.target import AccessDeniedError, BudgetSpentError, Target, guarded_oracle, open_oracle
from guard.data import Split
from guard.errors import MedwardError
from guard.pipeline import Guard
from guard.policy import Policy
from guard.profile import Profile
from guard.protocols import Model, Store
from guard.stores import MemoryStore
from guard.types import Array, ModelSpec

if TYPE_CHECKING:
    import torch

THIEF_TRACE = 200
"""Queries of the pure thief whose e-value the report draws."""
SAMPLE = 16
"""Rows whose outputs help to name the network."""
LIBRARIES = ("medward", "numpy", "scipy", "torch", "onnxruntime", "scikit-learn")


class Deployed(Protocol):
    """What is validated: a bundle, or anything like it."""

    @property
    def model(self) -> Model:
        """The undefended model, as it is deployed."""
        ...

    @property
    def policy(self) -> Policy:
        """The policy; its gate judges the findings."""
        ...

    @property
    def profile(self) -> Profile:
        """What the attacker who knows the guard knows."""
        ...

    @property
    def digest(self) -> str:
        """Names the bundle in findings and kept runs."""
        ...

    def guard(self, *, store: Store) -> Guard:
        """The guarded model with `store` as its memory."""
        ...


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

    `splits` is raw data as ``guard.data.load_npz`` reads it and needs "test"; "train" and "holdout" let
    membership be tested. `network` is the deployed model as a torch module in eval mode for white-box
    attacks; without one they transfer from a surrogate and the findings say `no_network`. The same seed gives the same
    findings, resumed or not. Raises `MedwardError` for data that does not fit the model.
    """
    model, policy = bundle.model, bundle.policy
    fitted = conformed(splits, model.spec)
    data, missing = attack_data(model, fitted, seed=seed)
    journal = Journal(out / "cells", resume)
    common = {
        "bundle": bundle.digest,
        "policy": policy.fingerprint,
        "data": data_digest(splits),
        "code": code_version(),
        "versions": _versions(),
        "seed": seed,
    }
    names = {**common, "network": network_digest(network, data.test.inputs[:SAMPLE])}
    findings = []
    with Progress(total=1 + len(ARMS) * len(attacks), shown=progress) as bar:
        kept, recalled = journal.once({**names, "run": "clean"}, partial(_clean, bundle, fitted, data, seed))
        clean = CleanCost.model_validate(kept["cost"])
        bar.done("clean cost", f"{clean.site.false_refusal} refused", recalled=recalled)
        for attack in attacks:
            if reason := missing.get(attack.family):
                findings.append(blank(attack, policy, seed, (reason,), Status.INCONCLUSIVE))
                bar.done(attack.name, reason, steps=len(ARMS))
                continue
            results: dict[Arm, AttackResult] = {}
            adaptive = attack.adaptive(policy)
            for arm, runner in zip(ARMS, (attack, attack, adaptive), strict=True):
                if runner is None:
                    bar.done(f"{attack.name}, {arm}", "no attacker who knows the guard")
                    continue
                settings = {**names, "run": arm, "attack": settings_of(runner)}
                packed, recalled = journal.once(settings, partial(_run, runner, arm, bundle, data, network, seed))
                results[arm] = unpack_result(packed)
                achieved = headline(attack, results[arm], seed)
                outcome = "judged on no row" if achieved is None else str(achieved)
                bar.done(f"{attack.name}, {arm}", outcome, recalled=recalled)
            findings.append(
                finding(
                    attack,
                    results,
                    policy=policy,
                    clean=clean,
                    seed=seed,
                    adaptive_name="" if adaptive is None else adaptive.name,
                    no_network=no_network if network is None else "",
                )
            )
    report = Report(
        findings=tuple(findings),
        clean=clean,
        accounts=kept["accounts"],
        alarms={rung.action: rung.false_alarm for rung in policy.monitor.ladder},
        gate=policy.gate,
        provenance=_provenance(model.spec, splits, white_box=network is not None, **common),
    )
    report.save(out)
    return report


def _run(
    attack: Attack, arm: Arm, bundle: Deployed, data: AttackData, network: torch.nn.Module | None, seed: int
) -> Any:
    """One arm of one attack, packed for the journal. An attack that cannot run is a flag, not a crash."""
    if arm == "undefended":
        oracle, profile = open_oracle(bundle.model), None
    else:
        guard = bundle.guard(store=MemoryStore())
        oracle, profile = guarded_oracle(guard, fresh=attack.threat.accounts is None), bundle.profile
    target = Target(bundle.model.spec, oracle, attack.threat, network=network, profile=profile)
    try:
        result = _checked(attack.run(target, data, seed=seed), arm)
    except (MedwardError, AccessDeniedError, BudgetSpentError) as error:
        result = AttackResult(outcome=np.zeros(0, bool), flags=(f"the {arm} run could not be done: {error}",))
    images = {**result.images, **_example(result, data.test.inputs, bundle.model.spec)}
    return pack_result(replace(result, queries=max(result.queries, target.queries), images=images))


def _checked(result: AttackResult, arm: Arm) -> AttackResult:
    """`result`, or one judged on no row and flagged when an outcome of it is not a finite number."""
    for what, values in (("outcomes", result.outcome), ("baseline outcomes", result.baseline)):
        if values is not None and (bad := int((~np.isfinite(values)).sum())):
            flag = f"{bad} of {len(values)} {what} of the {arm} run are not finite numbers"
            return replace(result, outcome=np.zeros(0, bool), baseline=None, flags=(*result.flags, flag))
    return result


def _example(result: AttackResult, inputs: Array, spec: ModelSpec) -> dict[str, Array]:
    """The first fooled image without and with a universal perturbation, if there is one."""
    delta = result.images.get("perturbation")
    if spec.modality != "image" or delta is None or delta.shape != spec.shape:
        return {}
    fooled = int(np.argmax(result.outcome)) if len(result.outcome) == len(inputs) else 0
    clean = inputs[fooled]
    return {"clean": clean, "perturbed": np.clip(clean + delta, spec.low, spec.high)}


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


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _provenance(spec: ModelSpec, splits: Mapping[str, Split], **facts: Any) -> Provenance:
    return Provenance(
        model=spec.name,
        modality=spec.modality,
        classes=spec.classes,
        shape=spec.shape,
        low=spec.low,
        high=spec.high,
        rows={name: len(split) for name, split in sorted(splits.items())},
        **facts,
    )
