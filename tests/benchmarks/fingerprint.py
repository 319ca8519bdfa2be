"""Whether a fingerprint tells clones by eight thieves from independent models of the same data, and claims no others.

Fifty independent models of each task are divided by chance into those that choose inputs and the null, several times
over; as in the product the null is of models of all rows. Suspects are eight thieves' clones and outsiders, trained by
the victim's own recipe on all of its rows. Beside it stands the negative control: inputs that the model merely gets
wrong. PneumoniaMNIST and both models of cardiotocograms were tuned on, WDBC was seen before the rule of power was
settled; blood cells were not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from claim import Claim
from eprocess import clopper_pearson
from fingerprint_models import (
    MORE_OF_ALL_ROWS,
    OUTSIDERS,
    OWN_CLONES,
    REFERENCES,
    SEEDS,
    TASKS,
    THIEVES,
    candidates,
    of_all_rows,
    outsider_decisions,
    own_clone_decisions,
    own_decisions,
    reference_decisions_on,
    scene,
    thief_decisions,
)

from medward.attacks.ownership.compare import ALPHA_EVIDENCE, compare, fingerprint_power
from medward.attacks.ownership.evidence import OwnershipEvidence
from medward.attacks.ownership.fingerprint import Fingerprint, chosen_fingerprint
from medward.attacks.ownership.own_clones import WAYS
from medward.guard.errors import MedwardError
from medward.guard.types import Ints

CLAIMS = ("fingerprint_clones_told", "fingerprint_false_claims")
DRAWS, INPUTS = 20, 120
CHOOSING, NULL = 20, 20
CHOOSING_ALIKE, LEFT = 15, 6
"""Models by the victim's recipe that choose inputs, and that are left as suspects; the others join the null."""
LEVELS = (0.05, 0.01)
"""Fitted p-values at which independent models that were left out of the null are counted."""
TUNED = ("pneumoniamnist", "WDBC", "fetal CTG", "fetal CTG, boosted trees")
OWN_KIND = ("jbda", "semi-supervised")
"""Thieves who ask about cases like the model's own; the others ask about unrelated inputs."""
LEAST = 0.9


def measure() -> Iterator[Claim]:
    """How well clones are told, then how often independent models are taken for clones."""
    tasks = {name: task_table(name) for name in TASKS}
    yield told(tasks)
    yield false_claims(tasks)


@dataclass(frozen=True, kw_only=True)
class Division:
    """A division of a task's models by chance: its fingerprint, whose inputs are places of candidates, and who is left.

    `outside` are decisions of outsiders that neither chose inputs nor are in the null.
    """

    found: Fingerprint
    outside: Ints

    def compared(self, decided: Ints) -> OwnershipEvidence:
        """What a suspect's decisions on all candidates show."""
        return compare(self.found, decided[self.found.inputs])


def task_table(name: str) -> dict[str, Any]:
    """All of one task, by what was known and chosen: without the victim's recipe, with it, and the control."""
    stolen = {thief: [thief_decisions(name, thief, seed) for seed in SEEDS[name]] for thief in THIEVES}
    known = OUTSIDERS[name] >= REFERENCES
    arms = {"other recipes": {}, "own errors": {"errors": True, "recipe": known}}
    if known:
        arms["with the recipe"] = {"recipe": True}
    runs = {thief: [decided for decided, _ in each] for thief, each in stolen.items()}
    return {
        **{arm: _together(_divisions(name, **how), runs) for arm, how in arms.items()},
        "agreement_of_clones_on_test_rows": {thief: [agreed for _, agreed in each] for thief, each in stolen.items()},
        "candidates": len(candidates(name).inputs),
    }


def _divisions(name: str, *, recipe: bool = False, errors: bool = False) -> list[Division]:
    """The divisions that gave a fingerprint; one that could not is refused by the product itself."""
    made = []
    for number in range(DRAWS):
        with contextlib.suppress(MedwardError):
            made.append(_divided(name, number, recipe=recipe, errors=errors))
    return made


def _divided(name: str, number: int, *, recipe: bool, errors: bool) -> Division:
    rng, where, own = np.random.default_rng(number), scene(name), own_decisions(name)
    whole = rng.permutation(of_all_rows(name)).tolist()
    rest = rng.permutation([each for each in range(REFERENCES + MORE_OF_ALL_ROWS) if each not in whole[:NULL]]).tolist()
    compared, others = (
        np.array([reference_decisions_on(name, each) for each in numbers])
        for numbers in (whole[:NULL], rest[:CHOOSING])
    )
    alike = np.array([outsider_decisions(name, each) for each in rng.permutation(OUTSIDERS[name]).tolist()])
    choosing, null, outside = [others], [compared], alike
    if recipe:
        choosing, null = [*choosing, alike[:CHOOSING_ALIKE]], [*null, alike[CHOOSING_ALIKE:-LEFT]]
        outside = alike[-LEFT:]
    offered = candidates(name)
    found = chosen_fingerprint(
        where.model.spec,
        "",
        replace(offered, inputs=np.arange(len(own))),  # so that a fingerprint's inputs are their places
        own,
        np.concatenate(choosing),
        np.concatenate(null),
        [np.array([own_clone_decisions(name, way, each) for each in range(OWN_CLONES)]) for way in range(len(WAYS))],
        null_names=tuple("" for each in null for _ in each),
        null_sorts=np.repeat(np.arange(len(null)), [len(each) for each in null]),
        most=2 * INPUTS if errors else INPUTS,
        seed=number,
        labels=np.where(offered.rows >= 0, np.asarray(where.mine.labels)[offered.rows], -1) if errors else None,
    )
    return Division(found=found, outside=outside)


def _together(divisions: list[Division], stolen: Mapping[str, Sequence[Ints]]) -> dict[str, Any]:
    """What came of every suspect, over the divisions."""
    if not divisions:
        return {"fingerprints": 0}
    powers = [fingerprint_power(each.found) for each in divisions]
    outsiders = [each.compared(one) for each in divisions for one in each.outside]
    alone = [_left_out(each.found) for each in divisions]
    said = [{way.way: way for way in each.ways} for each in powers]
    ways = list(dict.fromkeys(name for each in said for name in each))
    return {
        "fingerprints": len(divisions),
        "inputs": int(np.median([len(each.found) for each in divisions])),
        "thieves": {thief: _stolen(thief, divisions, runs, ways) for thief, runs in stolen.items()},
        "outsiders": _suspected(outsiders, ways),
        "powerful": {way: float(np.mean([way in each and each[way].powerful for each in said])) for way in ways},
        "null_agreement": {
            way: {
                what: float(np.mean([take(each[way].null) for each in said if way in each]))
                for what, take in (("mean", np.mean), ("deviation", np.std), ("largest", np.max))
            }
            for way in ways
        },
        "left_out_claimed": np.sum([each["rank"] for each in alone], axis=0).tolist(),
        "left_out_claimed_fitted": {
            f"{level:g}": np.sum([each[level] for each in alone], axis=0).tolist() for level in LEVELS
        },
        "fit": _median([each.fitted.fit if each.fitted else None for each in powers]),
    }


def _stolen(thief: str, divisions: list[Division], runs: Sequence[Ints], ways: Sequence[str]) -> dict[str, Any]:
    """One thief, and the area over the divisions alone whose power statement claims its way."""
    found = [each.compared(run) for each in divisions for run in runs]
    own = WAYS[thief in OWN_KIND]
    claimed = [each for each in found if any(way.powerful for way in each.ways if way.way == own)]
    area = float(np.mean([_exceeded(each) for each in claimed])) if claimed else None
    return {**_suspected(found, ways), "auc_where_power": area, "with_power": len(claimed)}


def _suspected(found: Sequence[OwnershipEvidence], ways: Sequence[str]) -> dict[str, Any]:
    """One kind of suspect; `claimed` are those that stand out, whichever models by the recipe were tried."""
    agreed = [{way.way: way.agreement for way in each.ways} for each in found]
    return {
        "auc": float(np.mean([_exceeded(each) for each in found])),
        "claimed": sum(each.stands_out for each in found),
        "guessed": sum(each.guessed for each in found),
        "n": len(found),
        "median_p": float(np.median([each.p_value for each in found])),
        "median_fitted_p": _median([None if each.fitted is None else each.fitted.p_value for each in found]),
        "agreement": [float(np.mean([each[way] for each in agreed if way in each])) for way in ways],
    }


def _left_out(found: Fingerprint) -> dict[Any, list[int]]:
    """How many models of the null are claimed when the others are the null, and how many there are.

    By rank that is one of all by construction; not so by the fitted distribution, where the null speaks not against it.
    """
    rest = [np.arange(len(found.null)) != one for one in range(len(found.null))]
    told = [
        compare(replace(found, null=found.null[keep], null_sorts=found.null_sorts[keep]), found.null[~keep][0])
        for keep in rest
    ]
    fitted = [each.fitted.p_value for each in told if each.fitted is not None and each.fitted.plausible]
    counts = {level: [sum(p <= level for p in fitted), len(fitted)] for level in LEVELS}
    return {"rank": [sum(each.p_value <= ALPHA_EVIDENCE for each in told), len(told)], **counts}


def _exceeded(told: OwnershipEvidence) -> float:
    """The share of the null that a suspect stands out from, a tie counted as none: its part of the area."""
    return 1 - (told.p_value * (1 + told.null) - 1) / told.null


def _median(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return float(np.median(known)) if known else None


def best_arm(table: Mapping[str, Any]) -> str:
    """The arm that an owner can have: with its own recipe where models by it were trained."""
    return "with the recipe" if "with the recipe" in table else "other recipes"


def told(tasks: Mapping[str, Mapping[str, Any]]) -> Claim:
    """The smallest area under the curve of a thief, over the divisions whose power statement claims its way.

    A task where no division claims any is not met: there the area says nothing.
    """
    areas = {
        f"{name}: {thief}": line["auc_where_power"]
        for name, table in tasks.items()
        for thief, line in table[best_arm(table)].get("thieves", {}).items()
        if line["with_power"]
    }
    worst = min(areas.values(), default=0.0)
    claiming = {name: table[best_arm(table)].get("powerful", {}) for name, table in tasks.items()}
    met = {
        name: any(ways.values()) and all(area >= LEAST for each, area in areas.items() if each.startswith(f"{name}: "))
        for name, ways in claiming.items()
    }
    return Claim(
        claim=CLAIMS[0],
        value=worst,
        target=f">= {LEAST:g}: area under the curve of any thief's clones against independent models, over the "
        "fingerprints whose power statement claims its way; of every task some do ("
        f"{'; '.join(f'{name} {_shares(ways)}' for name, ways in claiming.items())})",
        met=bool(met) and all(met.values()),
        n=sum(len(SEEDS[each.partition(": ")[0]]) for each in areas),
        seed=0,
        details={
            "tasks": dict(tasks),
            "areas_where_claimed": areas,
            "share_claiming_power": claiming,
            "tasks_met": met,
            "thieves_of_own_kind": OWN_KIND,
            "independent_models": REFERENCES + MORE_OF_ALL_ROWS,
            "models_by_the_recipe": OUTSIDERS,
            "divisions": DRAWS,
            "clones_of_a_thief": {name: len(each) for name, each in SEEDS.items()},
            "alpha": ALPHA_EVIDENCE,
            "tuned_on": TUNED,
        },
    )


def _shares(ways: Mapping[str, float]) -> str:
    """The share of a task's divisions that claim power, in each way."""
    return " and ".join(f"{share:.0%}" for share in ways.values()) or "none was made"


def false_claims(tasks: Mapping[str, Mapping[str, Any]]) -> Claim:
    """The largest share of any task of models by the victim's recipe that are taken for clones, others being known."""
    known = {name: table["with the recipe"]["outsiders"] for name, table in tasks.items() if "with the recipe" in table}
    blind = {name: table["other recipes"].get("outsiders") for name, table in tasks.items()}
    shares = {name: each["claimed"] / max(1, each["n"]) for name, each in known.items()}
    intervals = {name: clopper_pearson(round(shares[name] * OUTSIDERS[name]), OUTSIDERS[name]) for name in known}
    worst = max(shares, key=lambda name: shares[name])
    return Claim(
        claim=CLAIMS[1],
        value=shares[worst],
        interval=intervals[worst],
        target=f"of each task the interval holds {ALPHA_EVIDENCE:g} or less: models of all the same rows by the "
        "victim's recipe, with others of that recipe in the null, that are called evidence (without any in it nothing "
        "is called so, and the details have how many stand out)",
        met=all(low <= ALPHA_EVIDENCE for low, _ in intervals.values()),
        n=sum(OUTSIDERS[name] for name in known),
        seed=0,
        details={
            "intervals": intervals,
            "with_the_recipe": known,
            "without_the_recipe": blind,
            "interval_assumes": "independent models, each counted by its mean over the divisions that left it out",
        },
    )
