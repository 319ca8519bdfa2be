"""What a leakage budget does to thieves with images of the right kind, and how many legitimate users ever meet it.

Nobody who watches queries can tell these thieves from a client, so only what is told limits them. A limit is given in
bits as so many labels' worth, on a day or in all. A limit of L bits a day gives a thief in D days what D times L bits
in all give at once; the patient thief checks that. The users are invented: `daily_queries` says how.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import log2
from typing import Any

import numpy as np
from claim import Claim
from stealing.thefts import POLICY, TASK, Plan, curves, gain, kept, notes, share
from stealing.watched import victim
from support.release import ReleaseLevels
from torch import nn

from medward.attacks.extraction import HeadAlgebra, Jacobian, RandomPool, SemiSupervised, Theft
from medward.guard.accounts.budget import Leakage, PriceRequest
from medward.guard.policy import BudgetPolicy, LevelName, Policy, ReleasePolicy
from medward.guard.types import Ints, Level

CLAIMS = ("stealing_budget_effect",)
LIMITS = (250, 500, 1000, 2000)  # in labels
DRAWN = ("undefended", "guarded")
RELEASES: tuple[LevelName, ...] = ("rounded", "label")
ROWS = 1600  # public rows, about
THIEVES: dict[str, tuple[Theft, str]] = {
    "same kind": (Theft(strategy=RandomPool()), "public"),
    "same kind, labelled": (Theft(strategy=RandomPool(), labelled=True), "public"),
    "semi-supervised": (Theft(strategy=SemiSupervised(), labels="hard", epochs=8), "public"),
    "a tenth photographs": (Theft(strategy=RandomPool(), pool_share=0.1), "both"),
    "jbda from rows of the same kind": (Theft(strategy=Jacobian()), "both"),
}
MEANS = (20, 50, 150)
USERS, DAYS, SPREAD = 10_000, 365, 0.6
PLAN = Plan(queries=ROWS)


def measure() -> Iterator[Claim]:
    """Every thief under every limit, and the users beside it."""
    return planned(PLAN)


def planned(plan: Plan) -> Iterator[Claim]:
    """The same at another size; with some of the seeds it does their runs, which are then kept."""
    network = victim(TASK)[0].module.net
    head = Theft(strategy=HeadAlgebra(encoder=nn.Sequential(*list(network.children())[:-1])))
    found = {}
    for name, (theft, holds) in {**THIEVES, "head algebra": (head, "public")}.items():
        arms = limited(plan.theft(theft), patient=name == "same kind")
        found[name] = {
            each: [kept(plan, thief, policy, seed, holds) for seed in plan.seeds]
            for each, (thief, policy) in arms.items()
        }
    yield effect(found, clinic(plan.seeds[0]), plan)


def limited(theft: Theft, *, patient: bool) -> dict[str, tuple[Theft, Policy | None]]:
    """Who steals from what: no policy is the bare model; the curve is drawn where there is no limit."""
    last = replace(theft, points=1)
    arms: dict[str, tuple[Theft, Policy | None]] = {"undefended": (theft, None), "guarded": (theft, POLICY)}
    for release, limit in itertools.product(RELEASES, LIMITS):
        arms[arm(release, limit)] = (last, limiting(release, total_bits=limit * label_bits()))
    if patient:
        day = limiting(RELEASES[0], daily_bits=LIMITS[0] * label_bits())
        arms["patient"] = (replace(last, per_day=answers(RELEASES[0], LIMITS[0])[1]), day)
    return arms


def arm(release: LevelName, limit: int) -> str:
    """The name of a theft under a limit in all."""
    return f"{release}, {limit} in all"


def limiting(release: LevelName, **limits: float) -> Policy:
    """The policy with a release level and limits."""
    return POLICY.model_copy(update={"release": ReleasePolicy(level=release), "budget": BudgetPolicy(**limits)})


def label_bits() -> float:
    """Of one label of the victim's classes."""
    return log2(len(victim(TASK)[0].spec.classes))


def answers(release: LevelName, limit: int) -> tuple[int, int]:
    """How many different inputs are answered at the level `release`, and how many at all, within a limit of one day."""
    policy = limiting(release, daily_bits=limit * label_bits())
    spec = victim(TASK)[0].spec
    levels = ReleaseLevels(output=spec.output, decimals=policy.release.decimals)
    offers = levels.offers(np.zeros((1, len(spec.classes)), np.float32), policy.release.default)
    budget = Leakage(daily=policy.budget.daily_bits, label_share=policy.budget.label_share)
    _, got = budget.step(None, 0, [PriceRequest(str(i), offers) for i in range(limit + 1)])
    return got.count(policy.release.default), sum(level < Level.WITHHELD for level in got)


def daily_queries(mean: float, rng: np.random.Generator) -> Ints:
    """Queries of each user on each day ``(USERS, DAYS)``, all of different inputs.

    An assumption, not data: days are independent, a day's expected number is log-normal around `mean` with `SPREAD`,
    and its number Poisson.
    """
    expected = mean * rng.lognormal(-(SPREAD**2) / 2, SPREAD, (USERS, DAYS))
    return np.asarray(rng.poisson(expected), np.int64)


def clinic(seed: int) -> list[dict[str, Any]]:
    """For every limit the share of users who are ever told labels only, and ever nothing."""
    rng = np.random.default_rng(seed)
    days = {mean: daily_queries(mean, rng) for mean in MEANS}
    rows = []
    for per, release, limit in itertools.product(("day", "all"), RELEASES, LIMITS):
        fine, most = answers(release, limit)
        users = {}
        for mean, asked in days.items():
            peak = asked.max(axis=1) if per == "day" else asked.sum(axis=1)
            users[str(mean)] = {"refused": float(np.mean(peak > most))}
            if release != "label":
                users[str(mean)]["coarsened"] = float(np.mean(peak > fine))
            if per == "day":
                users[str(mean)]["days_refused"] = float(np.mean(asked > most))
        rows.append({"release": release, "labels": limit, "per": per, "fine": fine, "answers": most, "users": users})
    return rows


def effect(
    found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], users: list[dict[str, Any]], plan: Plan
) -> Claim:
    """The table; its headline is the most that the tightest limit leaves to any thief."""
    thieves = {}
    for name, runs in found.items():
        free = gain(runs["undefended"])
        thieves[name] = {
            each: {
                "agreement": [round(float(np.mean(run["agrees"])), 4) for run in some],
                "no_victim": [round(float(np.mean(run["no_victim"])), 4) for run in some],
                "flagged": [run.get("flagged") for run in some],
                "levels": [run.get("levels") for run in some],
                **share(gain(some), free),
            }
            for each, some in runs.items()
        }
    tightest = {name: arms[arm(RELEASES[0], LIMITS[0])] for name, arms in thieves.items()}
    left = {name: each for name, each in tightest.items() if each["mean"] is not None}
    worst = max(left, key=lambda name: left[name]["mean"], default=None)
    return Claim(
        claim=CLAIMS[0],
        value="inconclusive: nobody stole the bare model" if worst is None else left[worst]["mean"],
        interval=None if worst is None else tuple(left[worst]["interval"]),
        target=f"reported: most of any thief's gain left at {LIMITS[0]} labels' worth in all; users beside it",
        met=worst is not None,
        n=len(next(iter(found.values()))["undefended"][0]["agrees"]),
        seed=0,
        details={
            "thief": worst,
            "thieves": thieves,
            "users": users,
            "users_assume": f"independent days, log-normal (sigma {SPREAD}) Poisson counts, {USERS} users, {DAYS} days",
            "curves": {name: {each: curves(runs[each]) for each in DRAWN} for name, runs in found.items()},
            "notes": {name: notes([run for some in runs.values() for run in some]) for name, runs in found.items()},
            "label_share": POLICY.budget.label_share,
            "seeds": list(plan.seeds),
            "interval_assumes": "independent test rows; a row's gain is its mean over the seeds",
        },
    )
