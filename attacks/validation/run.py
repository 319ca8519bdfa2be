"""The matrix: every attack on the bare model, on the guarded one, and again by one who knows the guard.

Each run is kept on disk as soon as it is done, so a validation that was killed goes on where it stopped. The
guard starts every run with an empty memory. Evasion is judged with a new account for every row: only what
the guard sees in a single input can help it there.

A model that was hardened is meant to withstand evasion without any guard, so that attack proves itself on the model's
`Twin`: the model as it was before. Extraction and membership do not: hardening defends against neither (and tends to
make membership worse), so what they take from the deployed model itself is what its guard must keep.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medward.attacks.base import Attack, AttackData, AttackResult
from medward.attacks.benchmarks.victims import accuracy
from medward.attacks.intervals import rate_interval
from medward.attacks.report.files import save_report
from medward.attacks.target import AccessDeniedError, BudgetSpentError, Clock, Target, guarded_oracle, open_oracle
from medward.attacks.validation.clean_cost import ask_all, measure_clean_cost
from medward.attacks.validation.finding import ARMS, Arm, CleanCost, Status
from medward.attacks.validation.journal import (
    Journal,
    code_version,
    data_digest,
    network_digest,
    pack_result,
    settings_of,
    unpack_result,
)
from medward.attacks.validation.judging import blank_finding, headline_number, judge_attack
from medward.attacks.validation.progress import Progress
from medward.attacks.validation.record import Provenance, Report, TwinFacts
from medward.attacks.validation.splits import attack_data, conform_splits, overlap_flags
from medward.guard.accounts.stores import MemoryStore, Store
from medward.guard.data.split import Split, tell_understanding
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches, idle_screen
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

if TYPE_CHECKING:
    import torch

THIEF_TRACE = 200
"""Queries of the pure thief whose e-value the report draws."""
ALIKE, WORSE, CHANCE = 0.7, 0.1, 0.1
"""How much a twin must decide like the deployed model, how much less accurate it may be, how much better than chance
it must be in balanced accuracy."""
_SAMPLE = 16
"""Rows whose outputs help to name the network."""
_LIBRARIES = ("medward", "numpy", "scipy", "torch", "onnxruntime", "scikit-learn")


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

    def guard(self, *, store: Store, clock: Callable[[], float] = ...) -> Guard:
        """The guarded model with `store` as its memory, which tells the time by `clock`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """The model as it was before it was hardened: `model` under the bundle's specification, and its SHA-256.

    `network` is the same model as a torch module in eval mode, None for `no_network`'s reason.
    """

    model: Model
    digest: str
    network: torch.nn.Module | None = None
    no_network: str = "no differentiable form of it was given"


def run_validation(
    bundle: Deployed,
    splits: Mapping[str, Split],
    out: Path,
    *,
    attacks: Sequence[Attack],
    network: torch.nn.Module | None = None,
    no_network: str = "no differentiable form of the model was given",
    undefended: Twin | None = None,
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> Report:
    """Run `attacks` against `bundle`, judge them by its policy's gate, write the report into `out`.

    `splits` is raw data as ``guard.data.split.load_npz`` reads it and needs "test"; "train" and "holdout" let
    membership be tested. `network` is the deployed model as a torch module in eval mode for white-box
    attacks; without one they transfer from a surrogate and the findings say `no_network`. With `undefended` the
    undefended run of evasion attacks that twin, on its own gradients; everything else is about the bundle's model.
    The same seed gives the same findings, resumed or not. Splits that share rows or patients flag every finding that
    takes them for apart. Raises `MedwardError` for data that does not fit the model.
    """
    model, policy = bundle.model, bundle.policy
    fitted = conform_splits(splits, model.spec)
    data, missing = attack_data(model, fitted, seed=seed)
    shared = overlap_flags(fitted, data)
    journal = Journal(out / "cells", resume)
    out.mkdir(parents=True, exist_ok=True)
    tell_understanding(fitted, model.spec.task, low=model.spec.low, high=model.spec.high)
    common = {
        "bundle": bundle.digest,
        "policy": policy.fingerprint,
        "data": data_digest(splits),
        "code": code_version(),
        "versions": _versions(),
        "seed": seed,
    }
    names = {**common, "network": network_digest(network, data.test.inputs[:_SAMPLE])}
    deployed = _Bare(model, network, data, names)
    before = deployed if undefended is None else _before(undefended, data, names)
    twin = None if undefended is None else _compared(undefended, model, data)
    doubt = "" if twin is None else _doubtful(twin, data)
    findings = []
    with Progress(total=1 + len(ARMS) * len(attacks), shown=progress) as bar:
        kept, recalled = journal.once({**names, "run": "clean"}, partial(_clean, bundle, fitted, data, seed))
        clean = CleanCost.model_validate(kept["cost"])
        bar.done("clean cost", f"{clean.site.false_refusal} refused", recalled=recalled)
        for attack in attacks:
            if reason := missing.get(attack.family):
                findings.append(blank_finding(attack, policy, seed, (reason,), Status.INCONCLUSIVE))
                bar.done(attack.name, reason, steps=len(ARMS))
                continue
            results: dict[Arm, AttackResult] = {}
            adaptive = attack.adaptive(policy)
            for arm, runner in zip(ARMS, (attack, attack, adaptive), strict=True):
                if runner is None:
                    bar.done(f"{attack.name}, {arm}", "no attacker who knows the guard")
                    continue
                bare = before if arm == "undefended" and attack.family == "evasion" else deployed
                settings = {**bare.names, "run": arm, "attack": settings_of(runner)}
                source = before.network if arm == "guarded" and attack.family == "evasion" and undefended else None
                if source is not None:
                    settings["source"] = before.names["network"]
                packed, recalled = journal.once(settings, partial(_run, runner, arm, bundle, bare, source, seed))
                results[arm] = unpack_result(packed)
                if doubt and attack.family == "evasion":
                    results[arm] = replace(results[arm], flags=(*results[arm].flags, doubt))
                results[arm] = replace(results[arm], flags=(*results[arm].flags, *shared[attack.family]))
                achieved = headline_number(attack, results[arm], seed)
                outcome = "judged on no row" if achieved is None else str(achieved)
                bar.done(f"{attack.name}, {arm}", outcome, recalled=recalled)
            findings.append(
                judge_attack(
                    attack,
                    results,
                    policy=policy,
                    clean=clean,
                    seed=seed,
                    classes=model.spec.classes,
                    adaptive=adaptive,
                    no_network=no_network if network is None else _without_network(undefended),
                    twin=undefended is not None,
                )
            )
    report = Report(
        findings=tuple(findings),
        clean=clean,
        accounts=kept["accounts"],
        alarms={rung.action: rung.false_alarm for rung in policy.monitor.ladder},
        gate=policy.gate,
        notes=tuple(filter(None, [idle_screen(bundle.profile, policy.screen.rate)])),
        provenance=_provenance(
            model.spec,
            splits,
            white_box=network is not None,
            twin=twin,
            **common,
        ),
    )
    save_report(report, out)
    return report


@dataclass(frozen=True, slots=True)
class _Bare:
    """A model without its guard, its network, the attacker's data with its decisions, and what names runs on it."""

    model: Model
    network: torch.nn.Module | None
    data: AttackData
    names: Mapping[str, Any]


def _before(twin: Twin, data: AttackData, names: Mapping[str, Any]) -> _Bare:
    """The twin in the place of the deployed model: the same rows, its own decisions."""
    own = {"twin": twin.digest, "network": network_digest(twin.network, data.test.inputs[:_SAMPLE])}
    return _Bare(twin.model, twin.network, replace(data, reference=_decided(twin.model, data)), {**names, **own})


def _decided(model: Model, data: AttackData) -> Ints:
    return model.spec.decide(forward_batches(model, data.test.inputs).scores)


def _compared(twin: Twin, model: Model, data: AttackData) -> TwinFacts:
    """What the report says of the twin: how alike the two decide, and what hardening cost."""
    theirs, own, truth = _decided(twin.model, data), _decided(model, data), data.test.labels
    return TwinFacts(
        digest=twin.digest,
        white_box=twin.network is not None,
        agreement=rate_interval(theirs == own),
        accuracy=None if truth is None else rate_interval(theirs == truth),
        balanced=None if truth is None else accuracy(truth, theirs)[1],
        deployed_accuracy=None if truth is None else rate_interval(own == truth),
    )


def _doubtful(twin: TwinFacts, data: AttackData) -> str:
    """Why fooling the twin shows nothing, if so: a weaker model would lend its weakness, one at chance falls to all."""
    if twin.agreement.value < ALIKE:
        return f"not the model before hardening: it decides only {twin.agreement.value:.0%} of rows as the deployed one"
    before, after = twin.accuracy, twin.deployed_accuracy
    if before is not None and after is not None and before.value < after.value - WORSE:
        return f"not the model before hardening: accuracy {before.value:.0%}, the deployed one {after.value:.0%}"
    chance = 1 / max(2, len(np.unique(data.test.labels if data.test.labels is not None else ())))
    if twin.balanced is not None and twin.balanced <= chance + CHANCE:
        return (
            f"the model before hardening is at chance: balanced accuracy {twin.balanced:.0%}, more than "
            f"{chance + CHANCE:.0%} is needed before fooling it shows anything"
        )
    return ""


def _without_network(twin: Twin | None) -> str:
    return "" if twin is None or twin.network is not None else f"on the model before hardening: {twin.no_network}"


def _run(attack: Attack, arm: Arm, bundle: Deployed, bare: _Bare, source: torch.nn.Module | None, seed: int) -> Any:
    """One arm of one attack, packed for the journal. An attack that cannot run is a flag, not a crash.

    `source` is the network before hardening, whose examples must not transfer better than those of `bare` itself.
    """
    data, spec = bare.data, bare.model.spec
    if arm == "undefended":
        oracle, profile = open_oracle(bare.model), None
    else:
        clock, accounts = Clock(), attack.threat.accounts
        guard = bundle.guard(store=MemoryStore(clock=clock), clock=clock)
        oracle = guarded_oracle(
            guard, fresh=accounts is None, accounts=accounts or 1, clock=clock, per_day=attack.threat.per_day
        )
        profile = bundle.profile
    target = Target(spec, oracle, attack.threat, network=bare.network, profile=profile, twin=source)
    try:
        result = _checked(attack.run(target, data, seed=seed), arm)
    except (MedwardError, AccessDeniedError, BudgetSpentError) as error:
        result = AttackResult(outcome=np.zeros(0, bool), flags=(f"the {arm} run could not be done: {error}",))
    images = {**result.images, **_example(result, data.test.inputs, spec)}
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
    cost, accounts = measure_clean_cost(bundle.model, fresh_guard, (site, splits[site]), drift, seed=seed)
    if data.pool is not None:
        accounts["thief"] = ask_all(fresh_guard(), data.pool[:THIEF_TRACE], "thief").curve
    return {"cost": cost.model_dump(mode="json"), "accounts": accounts}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
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
        threshold=spec.threshold,
        rows={name: len(split) for name, split in sorted(splits.items())},
        **facts,
    )
