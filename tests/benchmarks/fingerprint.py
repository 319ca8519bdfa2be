"""Whether a fingerprint tells clones by eight thieves from independent models of the same data, and claims no others.

Forty independent models of each task are divided by chance into those that choose inputs and the null, several times
over. Suspects are eight thieves' clones and outsiders, trained by the victim's own recipe on all of its rows. Beside it
stands the negative control: inputs that the model merely gets wrong. PneumoniaMNIST was tuned on, the others not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from claim import Claim
from eprocess import clopper_pearson
from fingerprint_models import (
    OUTSIDERS,
    OWN_CLONES,
    REFERENCES,
    SEEDS,
    TASKS,
    THIEVES,
    candidates,
    outsider_decisions,
    own_clone_decisions,
    own_decisions,
    reference_decisions_on,
    scene,
    thief_decisions,
)

from medward.attacks.ownership.compare import ALPHA, OwnershipEvidence, compare, fingerprint_power
from medward.attacks.ownership.fingerprint import Fingerprint, chosen_fingerprint
from medward.attacks.ownership.own_clones import WAYS
from medward.guard.errors import MedwardError
from medward.guard.types import Ints

CLAIMS = ("fingerprint_clones_told", "fingerprint_false_claims")
DRAWS, INPUTS = 20, 120
LEVELS = (0.05, 0.01)
"""Fitted p-values at which independent models that were left out of the null are counted."""
TUNED = ("pneumoniamnist",)
OWN_KIND = ("jbda", "semi-supervised")
"""Thieves who ask about cases like the model's own; the others ask about unrelated inputs."""
LEAST = 0.9


def measure() -> Iterator[Claim]:
    """How well clones are told, then how often independent models are taken for clones."""
    tasks = {name: task_table(name) for name in TASKS}
    yield told(tasks)
    yield false_claims(tasks)


def task_table(name: str) -> dict[str, Any]:
    """All of one task: by draw of the independent models, what came of every suspect."""
    independent = np.array([reference_decisions_on(name, number) for number in range(REFERENCES)])
    outside = np.array([outsider_decisions(name, number) for number in range(OUTSIDERS)])
    stolen = {thief: [thief_decisions(name, thief, seed) for seed in SEEDS] for thief in THIEVES}
    draws = [_draw(name, independent, number) for number in range(DRAWS)]
    whole = {control: _together([each[control] for each in draws], stolen, outside) for control in draws[0]}
    return {
        **whole["disagreement"],
        "own_errors": whole["own errors"],
        "agreement_of_clones_on_test_rows": {thief: [agreed for _, agreed in runs] for thief, runs in stolen.items()},
        "candidates": len(candidates(name).inputs),
    }


def _draw(name: str, independent: Ints, number: int) -> dict[str, tuple[Fingerprint, Ints] | None]:
    """The fingerprint of one division, and the places of its inputs; the same of the model's own errors."""
    order = np.random.default_rng(number).permutation(len(independent))
    choosing, null = order[: len(order) // 2], order[len(order) // 2 :]
    offered, own = candidates(name), own_decisions(name)
    clones = [
        np.array([own_clone_decisions(name, way, each) for each in range(OWN_CLONES)]) for way in range(len(WAYS))
    ]
    labels = np.where(offered.rows >= 0, np.asarray(scene(name).mine.labels)[offered.rows], -1)
    # The inputs stand for themselves: their places are kept where a fingerprint has the inputs.
    places = replace(offered, inputs=np.arange(len(own)))
    found: dict[str, tuple[Fingerprint, Ints] | None] = {}
    for control, known in (("disagreement", None), ("own errors", labels)):
        try:
            made = chosen_fingerprint(
                scene(name).model.spec,
                "",
                places,
                own,
                independent[choosing],
                independent[null],
                clones,
                null_names=tuple(map(str, null)),
                null_sorts=np.zeros(len(null), np.int64),
                most=INPUTS if known is None else 2 * INPUTS,
                seed=number,
                labels=known,
            )
            found[control] = made, np.asarray(made.inputs)
        except MedwardError:
            found[control] = None
    return found


def _together(
    draws: list[tuple[Fingerprint, Ints] | None], stolen: Mapping[str, list[tuple[Ints, float]]], outside: Ints
) -> dict[str, Any]:
    """Over the draws that gave a fingerprint."""
    made = [each for each in draws if each is not None]
    if not made:
        return {"fingerprints": 0}
    suspects = {(thief, seed): run for thief, runs in stolen.items() for seed, (run, _) in enumerate(runs)}
    lines: dict[str, Any] = {}
    for thief in stolen:
        runs = [compare(found, suspects[thief, seed][places]) for found, places in made for seed in SEEDS]
        lines[thief] = {
            "auc": float(np.mean([_exceeded(each) for each in runs])),
            "claimed": float(np.mean([each.judgement == "evidence" for each in runs])),
            "median_p": float(np.median([each.p_value for each in runs])),
            "median_fitted_p": _median([None if each.fitted is None else each.fitted.p_value for each in runs]),
            "agreement": [float(np.mean([each.ways[way].agreement for each in runs])) for way in _ways(runs)],
        }
    powers = [fingerprint_power(found) for found, _ in made]
    alone = [_left_out(found) for found, _ in made]
    others = [compare(found, each[places]) for found, places in made for each in outside]
    return {
        "fingerprints": len(made),
        "inputs": int(np.median([len(found) for found, _ in made])),
        "thieves": lines,
        "powerful": {
            way.way: float(np.mean([power.ways[place].powerful for power in powers if len(power.ways) > place]))
            for place, way in enumerate(max(powers, key=lambda each: len(each.ways)).ways)
        },
        "null_agreement": [
            [
                float(np.mean([measure(power.ways[way].null) for power in powers]))
                for measure in (np.mean, np.std, np.max)
            ]
            for way in _ways(powers)
        ],
        "outsiders_claimed": [sum(each.judgement == "evidence" for each in others), len(others)],
        "outsiders_agreement": [float(np.mean([each.ways[way].agreement for each in others])) for way in _ways(others)],
        "left_out_claimed": np.sum([each["rank"] for each in alone], axis=0).tolist(),
        "left_out_claimed_fitted": {
            f"{level:g}": np.sum([each[level] for each in alone], axis=0).tolist() for level in LEVELS
        },
        "fit": _median([each.fitted.fit if each.fitted else None for each in powers]),
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
    return {"rank": [sum(each.p_value <= ALPHA for each in told), len(told)], **counts}


def _exceeded(told: OwnershipEvidence) -> float:
    """The share of the null that a suspect stands out from, a tie counted as none: its part of the area."""
    return 1 - (told.p_value * (1 + told.null) - 1) / told.null


def _ways(told: Sequence[OwnershipEvidence]) -> range:
    return range(min(len(each.ways) for each in told))


def _median(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return float(np.median(known)) if known else None


def told(tasks: Mapping[str, Mapping[str, Any]]) -> Claim:
    """The smallest area under the curve of a thief, of the ways that the power statement claims in most draws."""
    areas = {
        f"{name}, {thief}": line["auc"]
        for name, table in tasks.items()
        for thief, line in table.get("thieves", {}).items()
        if _claimed_way(table, thief)
    }
    worst = min(areas.values()) if areas else 0.0
    return Claim(
        claim=CLAIMS[0],
        value=worst,
        target=f">= {LEAST:g}: area under the curve, clones of any thief whose way the power statement claims, against "
        "independent models",
        met=bool(areas) and worst >= LEAST,
        n=len(areas) * len(SEEDS),
        seed=0,
        details={
            "tasks": dict(tasks),
            "areas_where_claimed": areas,
            "thieves_of_own_kind": OWN_KIND,
            "independent_models": REFERENCES,
            "draws": DRAWS,
            "clones_of_a_thief": len(SEEDS),
            "alpha": ALPHA,
            "tuned_on": TUNED,
        },
    )


def _claimed_way(table: Mapping[str, Any], thief: str) -> bool:
    way = WAYS[thief in OWN_KIND]
    return float(table.get("powerful", {}).get(way, 0.0)) > 0.5


def false_claims(tasks: Mapping[str, Mapping[str, Any]]) -> Claim:
    """The share of outsiders that are taken for clones; draws of one task share their models."""
    counts = {name: table["outsiders_claimed"] for name, table in tasks.items() if "outsiders_claimed" in table}
    hits = sum(some / all_ * OUTSIDERS for some, all_ in counts.values())
    n = OUTSIDERS * len(counts)
    interval = clopper_pearson(round(hits), n)
    return Claim(
        claim=CLAIMS[1],
        value=hits / n,
        interval=interval,
        target=f"interval holds {ALPHA:g}: models of all the same rows by the victim's own recipe, called evidence",
        met=interval[0] <= ALPHA,
        n=n,
        seed=0,
        details={
            "by_task": counts,
            "left_out": {name: table.get("left_out_claimed") for name, table in tasks.items()},
            "left_out_fitted": {name: table.get("left_out_claimed_fitted") for name, table in tasks.items()},
            "interval_assumes": "independent outsiders; each counts by its mean over draws of the other models",
        },
    )
