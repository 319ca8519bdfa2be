"""The matrix: every attack on the bare model, on the guarded one, and again by one who knows the guard.

Each run is kept on disk as soon as it is done, so a validation that was killed goes on where it stopped. The
guard starts every run with an empty memory.

A model that training defended is meant to withstand attacks of some families without any guard, so these prove
themselves on the model as it was before (`Deployment.before`). Others do not: what they take from the deployed model
itself is what its guard must keep. Both are run on the bare models before and after, for training against one attack
may help another.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from medward.attacks.base import Attack, AttackData, AttackResult, Examination
from medward.attacks.families import find_family
from medward.attacks.intervals import rate_interval
from medward.attacks.learners.table import chance_accuracy, matches_labels, task_balanced_accuracy
from medward.attacks.report.files import save_report
from medward.attacks.suite import attack_plugins
from medward.attacks.target import AccessDeniedError, BudgetSpentError, Target
from medward.attacks.validation.clean_cost import ask_all, measure_clean_cost
from medward.attacks.validation.deployment import PRIVACY, Deployment, ModelBefore, fresh_guard
from medward.attacks.validation.family import Family, NotTested, Runs
from medward.attacks.validation.finding import ARMS, Arm, CleanCost, Finding
from medward.attacks.validation.interaction import compare_models
from medward.attacks.validation.journal import (
    Journal,
    code_version,
    data_digest,
    network_digest,
    pack_result,
    settings_of,
    unpack_result,
    value_name,
)
from medward.attacks.validation.judging import blank_finding, judge_attack
from medward.attacks.validation.progress import Progress
from medward.attacks.validation.record import Interaction, Provenance, Report, TwinFacts
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.guard.bundle.folder import Bundle
from medward.guard.data.split import Split, tell_understanding
from medward.guard.errors import MedwardError
from medward.guard.plugins import plugin_versions
from medward.guard.profile import forward_batches, idle_screen
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import Task
from medward.guard.types import Array

THIEF_TRACE = 200
"""Queries of the pure thief whose e-value the report draws."""
ALIKE, WORSE, CHANCE = 0.7, 0.1, 0.1
"""How much the model before must decide like the deployed model, how much less accurate it may be, how much better than
chance it must be in balanced accuracy."""
_SAMPLE = 16
"""Rows whose outputs help to name the network."""
_LIBRARIES = ("medward", "numpy", "scipy", "torch", "onnxruntime", "scikit-learn")


def run_validation(
    deployment: Deployment,
    splits: Mapping[str, Split],
    out: Path,
    *,
    attacks: Sequence[Attack],
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> Report:
    """Run `attacks` against `deployment`, judge them by its policy's gate, write the report into `out`.

    `splits` is raw data as ``guard.data.split.load_npz`` reads it and needs "test"; "train" and "holdout" let whose
    records trained the model be asked. White-box attacks without a network transfer from a surrogate and the findings
    say why. The same seed gives the same findings, resumed or not. Splits that share rows or patients flag every
    finding that takes them for apart. Raises `MedwardError` for data that does not fit the model.
    """
    bundle = deployment.bundle
    model, policy = bundle.model, bundle.policy
    fitted = conform_splits(splits, model.spec)
    shared = share_rows(model, fitted, seed=seed, decide=deployment.decide)
    journal = Journal(out / "cells", resume)
    out.mkdir(parents=True, exist_ok=True)
    tell_understanding(fitted, model.spec.task, low=model.spec.low, high=model.spec.high)
    common = {
        "bundle": bundle.digest,
        "policy": policy.fingerprint,
        "data": data_digest(splits),
        "code": code_version(),
        "versions": _versions() | _plugin_versions(deployment, attacks),
        "seed": seed,
    }
    runner = _Runner(deployment, journal, common, shared.data)
    steps = len(ARMS) + (deployment.before is not None)
    with Progress(total=1 + steps * len(attacks), shown=progress) as bar:
        kept, recalled = journal.once(
            {**runner.names, "run": "clean"}, partial(_clean, bundle, fitted, shared.data, seed)
        )
        clean = CleanCost.model_validate(kept["cost"])
        bar.done("clean cost", f"{clean.site.false_refusal} refused", recalled=recalled)
        findings = []
        holdings: dict[str, AttackData | NotTested] = {}
        for attack in attacks:
            family = find_family(attack.family)
            if family.name not in holdings:  # one for all its attacks: controls are trained once
                holdings[family.name] = family.holdings(deployment, shared)
            held = holdings[family.name]
            if isinstance(held, NotTested):
                findings.append(blank_finding(family, attack, policy, seed, (held.reason,), held.status))
                bar.done(attack.name, held.reason, steps=steps)
                continue
            findings.append(runner.finding(family, attack, held, clean, bar))
    report = Report(
        findings=tuple(findings),
        clean=clean,
        accounts=kept["accounts"],
        alarms={rung.action: rung.false_alarm for rung in policy.monitor.ladder},
        gate=policy.gate,
        notes=tuple(
            filter(
                None, [idle_screen(bundle.profile, policy.screen.rate), _read_note(deployment), _coin_note(deployment)]
            )
        ),
        interactions=tuple(runner.interactions),
        certificate=bundle.card.certificate,
        provenance=_provenance(
            model.spec,
            splits,
            white_box=deployment.network is not None,
            twin=runner.facts,
            **common,
        ),
    )
    save_report(report, out)
    return report


class _Runner:
    """Runs attacks of every family on the arms of one deployment, each run once, and judges them.

    `names` is what names a run. Where there is a model before, `facts` is what the report says of it and `interactions`
    what training changed, attack by attack.
    """

    def __init__(self, deployment: Deployment, journal: Journal, common: Mapping[str, Any], data: AttackData) -> None:
        self._deployment, self._journal, self._seed = deployment, journal, int(common["seed"])
        sample, before, model = data.test.inputs[:_SAMPLE], deployment.before, deployment.bundle.model
        read = {} if deployment.decide is None else {"decide": value_name(deployment.decide)}
        read |= {} if deployment.manifest is None else {"manifest": deployment.manifest.digest}
        read |= {} if deployment.canaries is None else {"canaries": deployment.canaries.digest}
        self.names = {**common, **read, "network": network_digest(deployment.network, sample)}
        self.facts: TwinFacts | None = None
        self.interactions: list[Interaction] = []
        if before is not None:
            self._own = {"twin": before.digest, "network": network_digest(before.network, sample)}
            outputs = forward_batches(before.model, data.test.inputs).scores
            self._before = replace(data, outputs=outputs, reference=deployment.decided(outputs))
            self.facts = _compared(before, self._before, data, model.spec.task)
            self._doubt = _doubtful(before, self.facts, data, model.spec.task)

    def finding(self, family: Family, attack: Attack, data: AttackData, clean: CleanCost, bar: Progress) -> Finding:
        """`attack` on every arm, and what the gate says; with a model before, on the other bare model too."""
        bundle, before = self._deployment.bundle, self._deployment.before_claim(family.claim)
        results: dict[Arm, AttackResult] = {}
        adaptive = attack.adaptive(bundle.policy)
        for arm, runner in zip(ARMS, (attack, attack, adaptive), strict=True):
            if runner is None:
                bar.done(f"{attack.name}, {arm}", "no attacker who knows the guard")
                continue
            doubts = (self._doubt,) if before is not None and self._doubt else ()
            if arm == "undefended":
                results[arm] = self._bare(family, attack, data, bar, before=before is not None, doubts=doubts)
                continue
            names = self.names
            if before is not None and arm == "guarded" and before.network is not None:
                names = {**names, "source": self._own["network"]}
            what = f"{attack.name}, {arm}"
            results[arm] = self._once(family, runner, arm, self._deployment, data, names, bar, doubts=doubts, what=what)
        deployed = results["undefended"]
        if self._deployment.before is not None:
            doubts = (self._doubt,) if self._doubt else ()
            other = self._bare(family, attack, data, bar, before=before is None, doubts=doubts, also=True)
            bare = (results["undefended"], other) if before is not None else (other, results["undefended"])
            deployed = bare[1]
            self.interactions.append(
                compare_models(family, attack.name, *bare, claimed=before is not None, seed=self._seed)
            )
        examined = {
            each.name: unpack_result(
                self._journal.once(
                    {**self.names, "run": each.name, "attack": settings_of(attack)},
                    partial(_examine, attack, each, bundle.model.spec, self._seed),
                )[0]
            )
            for each in data.examinations
        }
        no_network = self._deployment.no_network if self._deployment.network is None else ""
        if self._deployment.network is not None and before is not None and before.network is None:
            no_network = f"on the model before hardening: {before.no_network}"
        return judge_attack(
            family,
            Runs(
                attack=attack,
                results=results,
                spec=bundle.model.spec,
                seed=self._seed,
                adaptive=adaptive,
                bare=deployed,
                held=data,
                examined=examined,
                privacy=self._deployment.privacy,
            ),
            policy=bundle.policy,
            clean=clean,
            no_network=no_network,
            before=before is not None,
        )

    def _bare(
        self,
        family: Family,
        attack: Attack,
        data: AttackData,
        bar: Progress,
        *,
        before: bool,
        doubts: tuple[str, ...],
        also: bool = False,
    ) -> AttackResult:
        """`attack` on the bare model, that `before` training or the deployed one; `also` besides the undefended arm."""
        deployment, names, held = replace(self._deployment, before=None), self.names, data
        if before:
            deployment, names = self._deployment.bare_before(), {**names, **self._own}
            held = replace(data, outputs=self._before.outputs, reference=self._before.reference)
        what = f"{attack.name}, " + (f"bare model {'before' if before else 'after'} training" if also else "undefended")
        return self._once(family, attack, "undefended", deployment, held, names, bar, doubts=doubts, what=what)

    def _once(
        self,
        family: Family,
        runner: Attack,
        arm: Arm,
        deployment: Deployment,
        data: AttackData,
        names: Mapping[str, Any],
        bar: Progress,
        *,
        doubts: tuple[str, ...],
        what: str,
    ) -> AttackResult:
        """One run of an attack on one arm, recalled where it was kept."""
        packed, recalled = self._journal.once(
            {**names, "run": arm, "attack": settings_of(runner)},
            partial(_run, family, runner, arm, deployment, data, self._seed),
        )
        found = unpack_result(packed)
        result = replace(found, flags=(*found.flags, *doubts, *data.flags))
        achieved = family.achieved(result, self._seed)
        outcome = "judged on no row" if achieved is None else str(achieved)
        bar.done(what, outcome, recalled=recalled)
        return result


def _read_note(deployment: Deployment) -> str:
    if not deployment.readable:
        return (
            f"the model {deployment.bundle.model.spec.rule}: nothing that it decides was attacked; say what it decides "
            "(--decide package:function)"
        )
    return "" if deployment.decide is None else f"what the model decides is read by {value_name(deployment.decide)}"


def _coin_note(deployment: Deployment) -> str:
    if deployment.before is None or deployment.manifest is None:
        return ""
    return (
        "the coin that held rows out was flipped after the model before was trained: where that one saw both sides, "
        "who was trained on cannot be told on it"
    )


def _compared(before: ModelBefore, theirs: AttackData, own: AttackData, task: Task) -> TwinFacts:
    """What the report says of the model before: how alike the two decide the test rows, and what training cost."""
    truth = own.test.labels
    if theirs.outputs is None or own.outputs is None or theirs.reference is None or own.reference is None:
        raise RuntimeError("shared rows know what the model says of them")
    known = truth is not None
    return TwinFacts(
        digest=before.digest,
        claim=before.claim,
        white_box=before.network is not None,
        agreement=rate_interval(theirs.reference == own.reference),
        accuracy=rate_interval(matches_labels(task, theirs.outputs, truth)) if known else None,
        balanced=task_balanced_accuracy(task, theirs.outputs, truth) if known else None,
        deployed_accuracy=rate_interval(matches_labels(task, own.outputs, truth)) if known else None,
    )


def _doubtful(model: ModelBefore, twin: TwinFacts, data: AttackData, task: Task) -> str:
    """Why fooling the twin shows nothing, if so: a weaker model would lend its weakness, one at chance falls to all.

    Noise in training may cost many decisions; that the model is the one before, its certificate says there.
    """
    if model.certified and model.claim == PRIVACY:
        return ""
    if twin.agreement.value < ALIKE:
        return f"not the model before hardening: it decides only {twin.agreement.value:.0%} of rows as the deployed one"
    before, after = twin.accuracy, twin.deployed_accuracy
    if before is not None and after is not None and before.value < after.value - WORSE:
        return f"not the model before hardening: accuracy {before.value:.0%}, the deployed one {after.value:.0%}"
    chance = chance_accuracy(task, data.test.labels)
    if twin.balanced is not None and twin.balanced <= chance + CHANCE:
        return (
            f"the model before hardening is at chance: balanced accuracy {twin.balanced:.0%}, more than "
            f"{chance + CHANCE:.0%} is needed before fooling it shows anything"
        )
    return ""


def _run(family: Family, attack: Attack, arm: Arm, deployment: Deployment, data: AttackData, seed: int) -> Any:
    """One arm of one attack, packed for the journal. An attack that cannot run is a flag, not a crash."""
    target = family.target(deployment, arm, attack, data)
    try:
        result = _checked(attack.run(target, data, seed=seed), arm)
    except (MedwardError, AccessDeniedError, BudgetSpentError) as error:
        result = AttackResult(outcome=np.zeros(0, bool), flags=(f"the {arm} run could not be done: {error}",))
    images = {**result.images, **_example(result, data.test.inputs, target.spec)}
    return pack_result(replace(result, queries=max(result.queries, target.queries), images=images))


def _examine(attack: Attack, examination: Examination, spec: ModelSpec, seed: int) -> Any:
    """One attack on a model of the examiner, packed for the journal; judged on no row where it cannot run."""
    try:
        oracle, data = examination.prepare()
        result = _checked(attack.run(Target(spec, oracle, attack.threat), data, seed=seed), "undefended")
    except (MedwardError, AccessDeniedError, BudgetSpentError) as error:
        result = AttackResult(outcome=np.zeros(0, bool), flags=(f"{examination.name} could not be examined: {error}",))
    return pack_result(replace(result, curves={}, images={}))


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


def _clean(bundle: Bundle, splits: Mapping[str, Split], data: AttackData, seed: int) -> Any:
    """The clean cost and the e-values of benign accounts and of a thief, packed for the journal."""
    site = "holdout" if "holdout" in splits else "test"
    drift = ("test", splits["test"]) if site != "test" else None
    cost, accounts = measure_clean_cost(
        bundle.model, partial(fresh_guard, bundle), (site, splits[site]), drift, seed=seed
    )
    if data.pool is not None:
        accounts["thief"] = ask_all(fresh_guard(bundle), data.pool[:THIEF_TRACE], "thief").curve
    return {"cost": cost.model_dump(mode="json"), "accounts": accounts}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _plugin_versions(deployment: Deployment, attacks: Sequence[Attack]) -> dict[str, str]:
    """Of other packages that shaped the bundle or brought attacks."""
    bundle = deployment.bundle
    shaped = dict(each.split(" ", 1) for each in bundle.card.plugins.values())
    return shaped | plugin_versions(attack_plugins(attacks, bundle.model.spec, deployment.decide))


def _provenance(spec: ModelSpec, splits: Mapping[str, Split], **facts: Any) -> Provenance:
    return Provenance(
        model=spec.name,
        modality=spec.modality,
        classes=spec.classes,
        shape=spec.shape,
        low=spec.low,
        high=spec.high,
        threshold=spec.threshold,
        task=spec.task.kind,
        rule=spec.rule,
        rows={name: len(split) for name, split in sorted(splits.items())},
        **facts,
    )
