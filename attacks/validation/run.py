"""The matrix: every attack on the bare model, on the guarded one, and again by one who knows the guard.

Each run is kept on disk as soon as it is done, so a validation that was killed goes on where it stopped. The
guard answers every run as with an empty memory.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medward.attacks.base import Attack, AttackData, without_proofs
from medward.attacks.families import find_family
from medward.attacks.report.files import save_report
from medward.attacks.suite import attack_plugins
from medward.attacks.validation.cause import Cause, causes_of
from medward.attacks.validation.clean_cost import ask_all, measure_clean_cost
from medward.attacks.validation.deployment import Deployment, fresh_guard
from medward.attacks.validation.family import NotTested
from medward.attacks.validation.finding import ARMS, CleanCost, Finding, Status
from medward.attacks.validation.journal import Journal, code_version, data_digest, value_name
from medward.attacks.validation.judging import blank_finding
from medward.attacks.validation.ordinary.measure import recalled_ordinary
from medward.attacks.validation.ordinary.verdict import told_ordinary
from medward.attacks.validation.plan import WHOLE_PLAN, RunAhead, ValidationPlan
from medward.attacks.validation.progress import Progress
from medward.attacks.validation.record import Provenance, Report, said_keys
from medward.attacks.validation.remembered_reports import with_remembered_reports
from medward.attacks.validation.runner import Runner
from medward.attacks.validation.splits import conform_splits, share_rows, unnamed_test
from medward.attacks.validation.traffic import unproposed_note
from medward.attacks.validation.waiving import lay_waivers, today_utc
from medward.guard.bundle.folder import Bundle
from medward.guard.data.report_labels import tell_odd_reports
from medward.guard.data.split import Split, tell_understanding
from medward.guard.plugins import plugin_versions
from medward.guard.profile import idle_screens
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport

_log = logging.getLogger("medward.data")

THIEF_TRACE = 200
"""Queries of the pure thief whose e-value the report draws."""
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
    places: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    plan: ValidationPlan = WHOLE_PLAN,
    against: Report | None = None,
    ahead: RunAhead | None = None,
) -> Report:
    """Run `attacks` against `deployment`, judge them by its policy's gate, write the report into `out`.

    `splits` is raw data as ``guard.data.split.load_npz`` reads it and needs "test"; "train" and "holdout" let whose
    records trained the model be asked. White-box attacks without a network transfer from a surrogate and the findings
    say why. The same seed gives the same findings, resumed or not. Splits that share rows or patients flag every
    finding that takes them for apart; a lone split that is not called "test" or "holdout" flags every finding on it.
    `places` are paths that commands in the report name, `settings` what else was said (`Provenance`), `plan` is how
    much is run, `against` an older report that the new one is compared with. `ahead` runs the attacks elsewhere, before
    they are judged here; without `resume` it deletes what was kept, so that nothing old is taken for its runs.
    Raises `MedwardError` for data that does not fit the model.
    """
    bundle = deployment.bundle
    model, policy = bundle.model, bundle.policy
    fitted = conform_splits(splits, model.spec)
    for name, split in splits.items():
        if isinstance(model.spec.task, WrittenReport) and isinstance(split, Split) and split.names is not None:
            tell_odd_reports(split.names, model.spec.task, f"{name}: labels")
    unnamed = unnamed_test(splits)
    shared = share_rows(model, fitted, seed=seed, decide=deployment.decide, unnamed=unnamed, most=plan.rows)
    journal = Journal(out / "cells", resume)
    if ahead is not None and not resume:
        journal.clear()
        journal = Journal(journal.folder)
    out.mkdir(parents=True, exist_ok=True)
    tell_understanding(fitted, model.spec.task, low=model.spec.low, high=model.spec.high)
    if unnamed:
        _log.warning("%s", unnamed)
    common = {
        "bundle": bundle.digest,
        "policy": policy.fingerprint,
        "data": data_digest(splits),
        "code": code_version(),
        "versions": library_versions() | _plugin_versions(deployment, attacks),
        "seed": seed,
    }
    run_by = {
        **common,
        "bundle": bundle.digest_without_waivers,
        "policy": policy.model_copy(update={"accept": ()}).fingerprint,
        **({} if plan.rows is None else {"rows": plan.rows}),
    }
    runner = Runner(deployment, journal, run_by, shared.data)
    steps = len(ARMS) + (deployment.before is not None)
    writes = isinstance(model.spec.task, WrittenReport)
    with Progress(total=2 + steps * len(attacks), shown=progress, begins=writes) as bar:
        if plan.told:
            bar.say(plan.told)

        def measure() -> Any:
            bar.begin("clean cost")
            return _clean(bundle, fitted, shared.data, seed)

        kept, recalled = journal.once({**runner.names, "run": "clean"}, measure)
        clean = CleanCost.model_validate(kept["cost"])
        bar.done("clean cost", f"{clean.site.false_refusal} refused", recalled=recalled)
        ordinary, recalled = recalled_ordinary(
            bundle,
            fitted.get("holdout", fitted["test"]),
            shared.data.pool,
            journal,
            runner.names,
            quick=plan.rows is not None,
            begin=lambda: bar.begin("ordinary behaviour"),
        )
        clean = clean.model_copy(update={"ordinary": ordinary})
        bar.done("ordinary behaviour", told_ordinary(ordinary, policy.gate.ordinary_alarms), recalled=recalled)
        if ahead is not None:
            ahead(plan, [each.name for each in attacks if each.name not in plan.left_out], journal.folder, bar.say)
        findings: list[Finding] = []
        shortages: list[str] = []
        holdings: dict[str, AttackData | NotTested] = {}
        for attack in attacks:
            family = find_family(attack.family)
            if family.name not in holdings:  # one for all its attacks: controls are trained once
                holdings[family.name] = family.holdings(deployment, shared)
                shortages += _told_shortages(holdings[family.name])
            held = holdings[family.name]
            if isinstance(held, NotTested):
                untested = blank_finding(family, attack, policy, seed, (held.reason,), held.status)
                findings.append(untested.model_copy(update={"causes": (held.cause,)}) if held.cause else untested)
                bar.done(attack.name, held.reason, steps=steps)
                continue
            if attack.name in plan.left_out:
                reasons = (plan.left_out[attack.name],)
                blank = blank_finding(family, attack, policy, seed, reasons, Status.INCONCLUSIVE)
                findings.append(blank.model_copy(update={"causes": (Cause.NOT_RUN,)}))
                bar.done(attack.name, reasons[0], steps=steps)
                continue
            findings.append(runner.finding(family, attack, held, clean, bar))
        interactions = tuple(runner.interactions)
        voided = _without_proofs(findings, holdings)
        for place, held in voided.items():  # runs are kept: they are judged again, and not run
            family, attack = find_family(findings[place].family), attacks[place]
            findings[place] = runner.finding(family, attack, held, clean, bar)
    report = Report(
        findings=lay_waivers(findings, policy.accept, today_utc()),
        clean=clean,
        accounts=kept["accounts"],
        alarms={rung.action: rung.false_alarm for rung in policy.monitor.ladder},
        gate=policy.gate,
        threat=policy.threat,
        notes=tuple(
            filter(
                None,
                [
                    *idle_screens(bundle.profile, bundle.sites, policy.screen.rate),
                    *bundle.cautions,
                    plan.note(sum(each.undefended is not None for each in findings), len(attacks)),
                    unnamed,
                    _read_note(deployment),
                    _coin_note(deployment),
                    *_unjudged_notes(findings),
                    unproposed_note(
                        deployment.traffic,
                        [each.attack for each in findings if each.undefended is not None],
                        plan.left_out,
                    ),
                    *shortages,
                ],
            )
        ),
        power={site: power for site, power in bundle.power_by_site.items() if power is not None},
        interactions=interactions,
        certificate=bundle.card.certificate,
        places=dict(places or {}),
        policy=said_keys(policy),
        quick=plan.quick,
        provenance=_provenance(
            model.spec,
            splits,
            white_box=deployment.network is not None,
            twin=runner.facts,
            settings={**(settings or {}), **_settings(deployment, plan)},
            **common,
        ),
    )
    save_report(report, out, against)
    return report


def _without_proofs(
    findings: Sequence[Finding], holdings: Mapping[str, AttackData | NotTested]
) -> dict[int, AttackData]:
    """What the attacks of some `findings`, by their places, are judged by once another one contradicted the bounds."""
    contradicted = [each.attack for each in findings if Cause.CONTRADICTED in causes_of(each)]
    found = {}
    for place, finding in enumerate(findings if contradicted else ()):
        held, ran = holdings.get(finding.family), finding.undefended is not None
        if ran and isinstance(held, AttackData) and held.certifier and finding.attack not in contradicted:
            found[place] = without_proofs(held, contradicted)
    return found


def _settings(deployment: Deployment, plan: ValidationPlan) -> dict[str, str]:
    """What was said of a validation besides bundle, policy, data and seed, as its report keeps it."""
    said = {
        "before": deployment.before and deployment.before.digest,
        "canaries": deployment.canaries and deployment.canaries.digest,
        "manifest": deployment.manifest and deployment.manifest.digest,
        "decide": deployment.decide and value_name(deployment.decide),
        "rows": plan.rows and str(plan.rows),
        "traffic": deployment.traffic and str(deployment.traffic.answers),
        "accounts": deployment.traffic and str(deployment.traffic.accounts),
    }
    return {name: value for name, value in said.items() if value}


def _told_shortages(held: AttackData | NotTested) -> tuple[str, ...]:
    """Of which rows there are too few, told before the first run of a family."""
    shortages = held.shortages if isinstance(held, AttackData) else ()
    for shortage in shortages:
        _log.warning("%s", shortage)
    return shortages


def _read_note(deployment: Deployment) -> str:
    if not deployment.readable:
        return (
            f"the model {deployment.bundle.model.spec.rule}: nothing that it decides was attacked; say what it decides "
            "(--decide package:function)"
        )
    return "" if deployment.decide is None else f"what the model decides is read by {value_name(deployment.decide)}"


def _unjudged_notes(findings: Sequence[Finding]) -> list[str]:
    """What was measured and not judged, as the policy has nothing that could be judged by it."""
    return [f"{each.attack}: {each.reasons[0].removesuffix('.')}" for each in findings if each.not_judged]


def _coin_note(deployment: Deployment) -> str:
    if deployment.before is None or deployment.manifest is None:
        return ""
    return (
        "the coin that held rows out was flipped after the model before was trained: where that one saw both sides, "
        "who was trained on cannot be told on it"
    )


def _clean(bundle: Bundle, splits: Mapping[str, Split], data: AttackData, seed: int) -> Any:
    """The clean cost and the e-values of benign accounts and of a thief, packed for the journal."""
    site = "holdout" if "holdout" in splits else "test"
    drift = ("test", splits["test"]) if site != "test" else None
    asked, timed = with_remembered_reports(bundle), (bundle.model, partial(fresh_guard, bundle))
    cost, accounts = measure_clean_cost(
        asked.model, partial(fresh_guard, asked), (site, splits[site]), drift, seed=seed, timed=timed
    )
    if data.pool is not None:
        accounts["thief"] = ask_all(fresh_guard(asked), data.pool[:THIEF_TRACE], "thief").curve
    return {"cost": cost.model_dump(mode="json"), "accounts": accounts}


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that outcomes depend on."""
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
