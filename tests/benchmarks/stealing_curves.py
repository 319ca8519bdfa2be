"""What detection buys: clones of PneumoniaMNIST's CNN over the queries, and what is left of them when it flags.

These thieves hold no patient's image: photographs, what they make of photographs, or what a generator draws. Each
steals from the bare model, from the guard as it is deployed, from the guard's monitors alone (its screen, which would
refuse most of these inputs one by one, only flags), from either by 100 accounts of one organisation, and as the thief
who knows the guard and has a new account for every row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from claim import Claim
from stealing.thefts import ALPHA, POLICY, Plan, curves, gain, kept, notes, share

from medward.attacks.extraction import (
    DFME,
    ActiveThief,
    AdaptivePool,
    Alignment,
    CopyCat,
    Disagreement,
    Jacobian,
    RandomPool,
    Theft,
)
from medward.attacks.intervals import paired_difference
from medward.guard.policy import Policy, ScreenPolicy

THIEVES: dict[str, Theft] = {
    "knockoff": Theft(strategy=RandomPool()),
    "knockoff_adaptive": Theft(strategy=AdaptivePool()),
    "copycat": Theft(strategy=CopyCat(), labels="hard"),
    "activethief": Theft(strategy=ActiveThief()),
    "alignment": Theft(strategy=Alignment()),
    "jbda": Theft(strategy=Jacobian()),
    "dfme": Theft(strategy=DFME()),
    "disagreement": Theft(strategy=Disagreement()),
}
CLAIMS = tuple(f"stealing_gain_at_flag_{name}" for name in THIEVES)
BOUND = 0.25
FLAGGED = ("guarded", "guarded, accounts", "monitors alone", "monitors alone, accounts")
"""The arms whose thief can be flagged: a new account for every row leaves no history."""
PLAN = Plan()


def measure() -> Iterator[Claim]:
    """For every thief what is left, when it is flagged, of what it gains from the bare model."""
    return planned(PLAN)


def planned(plan: Plan) -> Iterator[Claim]:
    """The same at another size; with some of the seeds it does their runs, which are then kept."""
    for name, theft in THIEVES.items():
        runs = {
            arm: [kept(plan, thief, policy, seed) for seed in plan.seeds]
            for arm, (thief, policy) in arms(plan.theft(theft), plan.accounts).items()
        }
        yield gained(name, runs, plan)


def arms(theft: Theft, accounts: int) -> dict[str, tuple[Theft, Policy | None]]:
    """Who steals from what; no policy is the bare model."""
    unscreened = POLICY.model_copy(update={"screen": ScreenPolicy(action="flag")})
    strict = unscreened.model_copy(update={"monitor": POLICY.monitor.model_copy(update={"parents": "withhold"})})
    many = replace(theft, accounts=accounts)
    return {
        "undefended": (theft, None),
        "guarded": (theft, POLICY),
        "guarded, accounts": (many, POLICY),
        "monitors alone": (theft, unscreened),
        "monitors alone, accounts": (many, unscreened),
        "monitors alone, accounts, parents act": (many, strict),
        "adaptive": (theft.adaptive(POLICY), POLICY),
    }


def gained(name: str, runs: Mapping[str, Sequence[Mapping[str, Any]]], plan: Plan) -> Claim:
    """Gain at the flag over the gain from the bare model, of the arm where most is left; any seed above it misses."""
    free = gain(runs["undefended"])
    proof = paired_difference(free.mean(axis=0), np.zeros(free.shape[1]), seed=0)
    works = proof.low > 0
    shares = {arm: share(gain(runs[arm], "agrees_at_flag"), free) for arm in FLAGGED}
    worst = max(shares, key=lambda arm: shares[arm]["mean"]) if works else None
    seeds = [each for found in shares.values() for each in found["seeds"]]
    return Claim(
        claim=f"stealing_gain_at_flag_{name}",
        value="inconclusive: the bare model was not stolen" if worst is None else shares[worst]["mean"],
        interval=None if worst is None else tuple(shares[worst]["interval"]),
        target=f"<= {BOUND} of the undefended gain, in every arm and seed",
        met=works and all(each is not None and each <= BOUND for each in seeds),
        n=free.shape[1],
        seed=0,
        details={
            "arm": worst,
            "undefended_gain": [proof.value, proof.low, proof.high],
            "share_at_flag": shares,
            "queries_to_flag": {arm: [run["flagged"] for run in runs[arm]] for arm in FLAGGED},
            "queries_to_first_action": {arm: [run["acted"] for run in runs[arm]] for arm in FLAGGED},
            "answers_at_flag": {arm: [run["answered_at_flag"] for run in runs[arm]] for arm in FLAGGED},
            "share_at_full_budget": {arm: share(gain(found), free) for arm, found in runs.items()},
            "levels": {arm: [run["levels"] for run in found] for arm, found in runs.items() if arm != "undefended"},
            "curves": {arm: curves(found) for arm, found in runs.items()},
            "notes": {arm: said for arm, found in runs.items() if (said := notes(found))},
            "seeds": list(plan.seeds),
            "accounts": plan.accounts,
            "alpha": ALPHA,
            "no_victim": "the best constant answer, for the thief knows no labels",
            "interval_assumes": "independent test rows; a row's gain is its mean over the seeds",
        },
    )
