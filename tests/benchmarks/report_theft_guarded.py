"""Report models stolen from behind a guard: how soon thieves are flagged, and what had left by the end of the theft.

The guard is as it is deployed, with the default policy and whole reports leaving; it judges images, never texts. Who is
flagged when is told by the product's own step through what thieves asked of the bare victim (three thefts of the first
victim, one of the second), mixed into radiographs of patients that the guard does not know: so a thief does not change
what it asks because of the guard. What a clone is worth is told by thefts from the guard itself. Alpha is 1e-3; 95 %
intervals are of medians over accounts, which share calibration draws, and least and largest over seeds for gaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import log2
from statistics import fmean
from typing import Any

import numpy as np
import torch
from claim import Claim
from eprocess import clopper_pearson
from report_scenes import ReportScene, trained_scene
from report_signals import SIGNALS, signals
from report_streams import DRAWS, SHARES, STOLEN, watched
from report_theft import (
    ALIGNED,
    HEADLINE,
    INSIDE,
    KIND,
    SECOND,
    STUDENT,
    Plan,
    all_cells,
    cell_settings,
    gap_closed,
    gaps,
    stolen_cells,
)
from stealing.scene import POLICY as FLAGGING
from stealing.thefts import Watched
from stealing_detection import summary

from medward.attacks.base import ACCURACY, LABEL_F1
from medward.attacks.extraction import Theft
from medward.attacks.extraction.judge import CLONE
from medward.attacks.extraction.reports import TextDistillation
from medward.attacks.target import Target, guarded_oracle
from medward.attacks.validation.journal import Journal
from medward.guard.accounts.stores import MemoryStore
from medward.guard.pipeline import Guard
from medward.guard.policy import BudgetPolicy, Policy, ReleasePolicy
from medward.guard.profile import Profile
from medward.guard.tasks.report_reader import Mention

CLAIMS = (
    "report_theft_flagged_pure",
    "report_theft_flagged_diluted",
    "report_theft_gap_guarded",
    "report_theft_false_alarms",
    "report_theft_within_budget",
    "report_theft_text_signals",
)
ALPHA = FLAGGING.monitor.ladder[0].false_alarm
TARGETS = {1.0: 10, 0.1: 100}  # queries
GAP = 0.25
DEPLOYED = Policy(on_error="withhold", release=ReleasePolicy(level="full"))
FINDINGS_LIMIT = 50  # answers of findings alone that a budget admits
MANY = 100
BY_PHOTOGRAPHS = (ALIGNED, f"{ALIGNED}-diluted")


def measure() -> Iterator[Claim]:
    """The claims, of the trained victims; nothing where one was not kept."""
    torch.set_num_threads(1)
    plan = Plan()
    scenes = {(name, seed): trained_scene(name, KIND, plan.photographs, seed=seed) for name, seed in all_cells(plan)}
    if any(each is None for each in scenes.values()):
        print("report_theft_guarded: skipped, a victim is missing; run make bench NAME=report_victims", flush=True)
        return
    yield from planned(plan, {key: each for key, each in scenes.items() if each is not None})


def planned(plan: Plan, scenes: Mapping[tuple[str, int], ReportScene]) -> Iterator[Claim]:
    """The same at another size and of other victims."""
    recorded = {HEADLINE: plan, SECOND: replace(plan, seeds=plan.seeds[:1])}
    theirs = {name: {seed: scenes[name, seed] for seed in each.seeds} for name, each in recorded.items()}
    found = {name: watched(each, name, theirs[name]) for name, each in recorded.items()}
    for claim, share in zip(CLAIMS[:2], SHARES, strict=True):
        yield noticed(claim, found, share)
    first = {seed: scenes[HEADLINE, seed] for seed in plan.seeds}
    arms = stolen_arms(plan, first, dict(arms_of(plan)))
    second = {seed: scenes[SECOND, seed] for seed in plan.seeds}
    elsewhere = stolen_arms(plan, second, {name: arm for name, arm in arms_of(plan) if name in BY_PHOTOGRAPHS})
    told = max(passed(each) for each in arms[BY_PHOTOGRAPHS[1]])
    alone = stolen_cells(plan, first, {INSIDE: replace(plan.thieves()[INSIDE], queries=told, points=1)})[INSIDE]
    yield surviving(plan, {HEADLINE: first, SECOND: second}, {HEADLINE: arms, SECOND: elsewhere}, {told: gaps(alone)})
    yield false_alarms(found)
    yield within_budget(plan, arms)
    yield text_signals({name: signals(each, name, theirs[name]) for name, each in recorded.items()})


def noticed(claim: str, found: Mapping[str, Sequence[Mapping[str, Any]]], share: float) -> Claim:
    """Queries until ADA-STEAL is flagged in one account."""
    lines = {name: summaries(each[0], share) for name, each in found.items()}
    said, most = lines[HEADLINE][STOLEN], TARGETS[share]
    medians = [each[STOLEN]["median"] for each in lines.values()]
    return Claim(
        claim=claim,
        value="never" if said["median"] is None else said["median"],
        interval=None if None in said["interval"] else tuple(said["interval"]),
        target=f"median <= {most} queries at alpha {ALPHA:g}, on both data sets",
        met=all(each is not None and each <= most for each in medians),
        n=said["n"],
        seed=0,
        details={
            "share": share,
            "thieves": lines,
            "by_reference_rows": {
                name: {f"{one['rows']['reference']:.0f}": summaries(one, share)[STOLEN] for one in each}
                for name, each in found.items()
            },
            **_frame(found),
        },
    )


def summaries(found: Mapping[str, Any], share: float) -> dict[str, dict[str, Any]]:
    """Queries to the flag of each thief who mixes so large a share of theft into its queries."""
    ending = f" {share:g}"
    return {
        line.removesuffix(ending): summary(counts) for line, counts in found["queries"].items() if line.endswith(ending)
    }


def false_alarms(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Claim:
    """How many clients were ever flagged who asked about patients of their own, each once and in random order."""
    counts = {name: [count for one in each for count in one["queries"]["client"]] for name, each in found.items()}
    hits = sum(int(np.isfinite(each).sum()) for each in counts.values())
    n = sum(map(len, counts.values()))
    return Claim(
        claim=CLAIMS[3],
        value=hits / n,
        interval=clopper_pearson(hits, n),
        target=f"<= {ALPHA:g} within sampling error",
        met=clopper_pearson(hits, n)[0] <= ALPHA,
        n=n,
        seed=0,
        details={
            "flagged": {name: int(np.isfinite(each).sum()) for name, each in counts.items()},
            "accounts": {name: len(each) for name, each in counts.items()},
            **_frame(found),
        },
    )


def _frame(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    return {
        "alpha": ALPHA,
        "calibration_risk": FLAGGING.monitor.calibration_risk,
        "calibration_draws": DRAWS,
        "rows_a_draw": {name: [dict(one["rows"]) for one in each] for name, each in found.items()},
    }


def arms_of(plan: Plan) -> Iterator[tuple[str, tuple[Theft, Policy]]]:
    """Who steals from which guard. One with radiographs and no budget is as good as a client: see the false alarms."""
    thieves = plan.thieves()
    inside = plan.theft(TextDistillation(source="in-domain", student=STUDENT))
    task_bits = FINDINGS_LIMIT * log2(len(Mention))  # of one finding
    tight = DEPLOYED.model_copy(update={"budget": BudgetPolicy(total_bits=task_bits)})
    for name in BY_PHOTOGRAPHS:
        yield name, (replace(thieves[name], points=1), DEPLOYED)
    yield "in-domain, budget", (inside, tight)
    yield "in-domain, budget, accounts", (replace(inside, accounts=MANY), tight)


def stolen_arms(
    plan: Plan, scenes: Mapping[int, ReportScene], arms: Mapping[str, tuple[Theft, Policy]]
) -> dict[str, list[dict[str, Any]]]:
    """What came of each arm, seed by seed, from guards calibrated on all rows but those of victim and thieves."""
    profiles = {seed: fitted(scene, seed) for seed, scene in scenes.items()}
    return {
        name: [kept_guarded(plan, scenes[seed], profiles[seed], *arm, seed) for seed in seeds_of(plan, name)]
        for name, arm in arms.items()
    }


def seeds_of(plan: Plan, name: str) -> tuple[int, ...]:
    """The seeds of an arm: one where a budget and nothing else decides what leaves."""
    return plan.seeds[:1] if "budget" in name else plan.seeds


def fitted(scene: ReportScene, seed: int) -> Profile:
    """A calibration on all rows that neither the victim nor its thieves have, by patient where these are known."""
    risk, rows = DEPLOYED.monitor.calibration_risk, scene.others
    return Profile.fit(scene.model, rows.inputs, risk=risk, patients=rows.patients, seed=seed, secret=seed)


def kept_guarded(
    plan: Plan, scene: ReportScene, profile: Profile, thief: Theft, policy: Policy, seed: int
) -> dict[str, Any]:
    """One theft from a guard, done once."""
    settings = {**cell_settings(scene, thief, seed), "policy": policy.fingerprint}
    found, recalled = Journal(plan.folder).once(settings, lambda: stolen_guarded(scene, profile, thief, policy, seed))
    if not recalled:
        print(f"{scene.name} {thief.name} guarded {seed}: {found}", flush=True)
    return dict(found)


def stolen_guarded(scene: ReportScene, profile: Profile, thief: Theft, policy: Policy, seed: int) -> dict[str, Any]:
    """One theft from the guard: what left at which level, when it was flagged, and what its clone is worth."""
    guard = Watched(Guard(model=scene.model, policy=policy, profile=profile, store=MemoryStore()))
    oracle = guarded_oracle(guard, accounts=thief.accounts or 1)
    result = thief.run(Target(scene.spec, oracle, thief.threat), scene.data, seed=seed)
    stop = guard.reached(ALPHA)
    levels = [level.label for answer in guard.answers for level in answer.levels]
    return {
        "f1": result.curves[f"{CLONE}{LABEL_F1}{ACCURACY}"][1][-1],
        "flagged": stop,
        "levels": dict(Counter(levels)),
        "levels_before_flag": dict(Counter(levels[:stop])),
        "flags": list(result.flags),
    }


def surviving(
    plan: Plan,
    scenes: Mapping[str, Mapping[int, ReportScene]],
    arms: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    alone: Mapping[int, Sequence[float]],
) -> Claim:
    """The share of the gap that is closed from behind the guard, by a thief who goes on when flagged.

    `alone` is the share that so many of its radiographs close from the bare victim, and nothing else.
    """
    closed = {
        data: {name: closed_by(scenes[data], found, seeds_of(plan, name)) for name, found in each.items()}
        for data, each in arms.items()
    }
    data, worst = max(
        ((data, closed[data][name]) for data in closed for name in BY_PHOTOGRAPHS), key=lambda each: fmean(each[1])
    )
    return Claim(
        claim=CLAIMS[2],
        value=fmean(worst),
        interval=(min(worst), max(worst)),
        target=f"< {GAP} of the gap, by ADA-STEAL and by ADA-STEAL among its own radiographs, in every seed of both "
        "data sets",
        met=all(max(closed[each][name]) < GAP for each in closed for name in BY_PHOTOGRAPHS),
        n=len(next(iter(scenes[data].values())).labels),
        details={
            "interval_is": "least and largest over seeds",
            "worst": data,
            "seeds": list(plan.seeds),
            "queries": plan.queries,
            "gap_closed": closed,
            "arms": {data: {name: list(found) for name, found in each.items()} for data, each in arms.items()},
            "radiographs_alone": {str(count): list(each) for count, each in alone.items()},
            "calibration_rows": {data: len(next(iter(each.values())).others) for data, each in scenes.items()},
        },
    )


def passed(found: Mapping[str, Any]) -> int:
    """How many queries were answered, whole or in part."""
    levels = Counter(found["levels"])
    return levels.total() - levels["withheld"]


def text_signals(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Claim:
    """Whether a signal of texts, had it all of alpha for itself, would flag what the guard does not see in time."""
    lines = {name: {line: summary(list(counts)) for line, counts in each.items()} for name, each in found.items()}
    best = min((lines[HEADLINE][f"{signal}, {STOLEN} 0.1"]["median"] or np.inf for signal in SIGNALS), default=np.inf)
    return Claim(
        claim=CLAIMS[5],
        value=best if np.isfinite(best) else "never",
        target="reported: median queries to flag diluted ADA-STEAL by the better of two signals of texts alone",
        met=True,
        n=lines[HEADLINE][f"{SIGNALS[0]}, {STOLEN} 0.1"]["n"],
        seed=0,
        details={"queries": lines, "alpha": ALPHA, "of_all_capital": True},
    )


def closed_by(
    scenes: Mapping[int, ReportScene], found: Sequence[Mapping[str, Any]], seeds: Sequence[int]
) -> list[float]:
    """The share of the gap that was closed, seed by seed."""
    return [
        gap_closed(each["f1"], scenes[seed].constant_f1, scenes[seed].victim_f1)
        for each, seed in zip(found, seeds, strict=True)
    ]


def within_budget(plan: Plan, arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> Claim:
    """How many answers a budget leaves a thief with radiographs, whom nobody can tell from a client."""
    told = [passed(each) for each in arms["in-domain, budget"]]
    return Claim(
        claim=CLAIMS[4],
        value=max(told),
        target=f"<= {FINDINGS_LIMIT} answers, the limit",
        met=max(told) <= FINDINGS_LIMIT,
        n=plan.queries,
        details={"seeds": list(plan.seeds[:1]), "arms": {name: list(found) for name, found in arms.items()}},
    )
