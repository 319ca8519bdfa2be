"""One patient again and again, and attacks on one image or on images alike: what it would cost to forgive the first.

Next views of an image count as repeats for all parts but *shared*, which judges how they differ from the first. So
forty noisy views of one patient, sent all day, look like somebody who asks about small changes of one image, and are
acted upon. This counts accounts of both, and of those who send one perturbation on images that look most like one
another, as deployed and where from the third near-repeat of an image on none counted for *shared* either. All sets are
ones that this project has tuned on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import stealing
from blind_spots import POLICY, TASKS
from claim import Claim
from eprocess import clopper_pearson
from ordinary import calibrated
from stealing.asked import finished, named, sources_of

from medward import guard
from medward.attacks import evasion
from medward.attacks.base import AttackData
from medward.attacks.evasion import HopSkipJump, Square
from medward.attacks.target import Response, Target, open_oracle
from medward.attacks.validation.ordinary.behaviour import VisitSettings
from medward.attacks.validation.ordinary.loops import one_patient
from medward.attacks.validation.ordinary.measure import WatchedGuard, benign_traffic
from medward.guard.accounts import monitors
from medward.guard.data.split import Split
from medward.guard.models.base import Model
from medward.guard.monitors.repeats import RecentInputs, find_repeats
from medward.guard.screens.embeddings import layout_embedding
from medward.guard.types import Action, Array

CLAIMS = ("one_patient_price",)
DRAWS, PATIENTS, SEARCHES, QUERIES = 2, 20, 8, 150
COUNTED = 2  # near-repeats of an image
RADIUS = 0.05  # of a search, of the range of values
ALIKE, SIZE = 60, 4 / 255  # images that are perturbed alike, by how much of the range
RULES = ("as deployed", f"from near-repeat {COUNTED + 1} of an image on nothing counts")
CODE = (Path(__file__).read_bytes(), *(sources_of(package) for package in (guard, stealing, evasion)))


def measure() -> Iterator[Claim]:
    """The share of searches that would no longer be acted upon."""
    tasks = {task: together([drawn(task, number) for number in range(DRAWS)]) for task in TASKS}
    draws = [drawn(task, number) for task in TASKS for number in range(DRAWS)]
    every = together(draws)
    now, then = (every[rule]["searches"]["acted"] for rule in RULES)
    yield Claim(
        claim=CLAIMS[0],
        value=(now - then) / max(now, 1),
        interval=clopper_pearson(now - then, max(now, 1)) if now >= then else None,
        target="reported: of the searches around one image that are acted upon, the share that would not be any more",
        met=True,
        n=every[RULES[0]]["searches"]["n"],
        seed=0,
        details={
            "all": every,
            "tasks": tasks,
            "draws": DRAWS,
            "queries_at_most": QUERIES,
            "radius_of_searches": RADIUS,
            "perturbation": SIZE,
            "images_perturbed": ALIKE,
            "searches_by": "Square and HopSkipJump, of an image each",
        },
    )


def draw(task: str, number: int) -> dict[str, dict[str, list[bool]]]:
    """By rule which accounts of patients, and of searches, are coarsened or withheld within `QUERIES`."""
    model, profile, traffic = calibrated(task, number)
    watch, rng = WatchedGuard.of(model, POLICY, profile), np.random.default_rng(number)
    settings = VisitSettings(accounts=PATIENTS, queries=QUERIES)
    visits = one_patient(benign_traffic(model, traffic, number), rng, settings)
    sight, digests = watch.see(visits.rows)
    asked = [searched(model, traffic, row) for row in rng.permutation(len(traffic))[:SEARCHES].tolist()]
    seen = [watch.see(each) for each in asked]
    found = {}
    for rule, rows in zip(RULES, (find_repeats, CountedOut()), strict=True):
        with patch.object(monitors, "find_repeats", rows):
            found[rule] = {
                "patients": [acted(watch, sight, digests, order) for order in visits.orders],
                "searches": [acted(watch, *each, np.arange(len(each[1]))) for each in seen],
            }
    return found


def drawn(task: str, number: int) -> dict[str, dict[str, list[bool]]]:
    """One draw, of all three."""
    accounts, perturbed = kept("one-patient", task, number, draw), kept("alike", task, number, perturbed_alike)
    return {rule: accounts[rule] | perturbed[rule] for rule in RULES}


def perturbed_alike(task: str, number: int) -> dict[str, dict[str, list[bool]]]:
    """By rule which accounts are acted upon that send one perturbation on the images most like one of the traffic."""
    model, profile, traffic = calibrated(task, number)
    watch, rng = WatchedGuard.of(model, POLICY, profile), np.random.default_rng(number)
    layouts = layout_embedding(np.asarray(traffic.inputs, np.float64), None)
    seen = []
    for row in rng.permutation(len(traffic))[:SEARCHES].tolist():
        nearest = np.argsort(np.square(layouts - layouts[row]).sum(axis=1), kind="stable")[:ALIKE]
        change = SIZE * rng.choice((-1.0, 1.0), traffic.inputs.shape[1:])
        seen.append(watch.see(np.clip(traffic.inputs[nearest] + change, 0, 1).astype(np.float32)))
    found = {}
    for rule, rows in zip(RULES, (find_repeats, CountedOut()), strict=True):
        with patch.object(monitors, "find_repeats", rows):
            found[rule] = {"perturbed": [acted(watch, *each, np.arange(len(each[1]))) for each in seen]}
    return found


def acted(watch: WatchedGuard, sight: Any, digests: Sequence[str], order: np.ndarray) -> bool:
    """Whether an account that asks rows in an `order` is coarsened."""
    return watch.follow(sight, digests, order, 1).action >= Action.COARSEN


def searched(model: Model, traffic: Split, row: int) -> Array:
    """What a search for a small change of one image asks; every other one by labels alone."""
    assert traffic.labels is not None
    one = Split(traffic.inputs[[row]], traffic.labels[[row]])
    attack = (Square if row % 2 else HopSkipJump)(epsilon=RADIUS, queries=QUERIES)
    oracle, asked = open_oracle(model), list[Array]()

    def listen(inputs: Array) -> Response:
        asked.append(np.array(inputs))
        return oracle(inputs)

    data = AttackData(craft=one, test=one, reference=one.labels)
    attack.run(Target(model.spec, listen, attack.threat), data, seed=row)
    return np.concatenate(asked)[:QUERIES]


class CountedOut:
    """`find_repeats`, but near-repeats of an image are exact from the `COUNTED` + 1st on; of one account at a time."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __call__(
        self, recent: RecentInputs, digests: Sequence[str], codes: Sequence[str], radius: int, answers: Any = None
    ) -> tuple[RecentInputs, list[str]]:
        """The memory and the repeats, row by row."""
        if not recent["digests"]:
            self._counts = {}
        found = []
        for row, (digest, code) in enumerate(zip(digests, codes, strict=True)):
            mark = None if answers is None else [answers[row]]
            recent, (how,) = find_repeats(recent, [digest], [code], radius, mark)
            if how == "near":
                first = recent["codes"][-1]
                self._counts[first] = self._counts.get(first, 0) + 1
                how = "exact" if self._counts[first] > COUNTED else how
            found.append(how)
        return recent, found


def together(draws: list[dict[str, dict[str, list[bool]]]]) -> dict[str, Any]:
    """By rule how many accounts of each kind were acted upon."""
    return {
        rule: {
            kind: {
                "acted": sum(sum(each[rule][kind]) for each in draws),
                "n": sum(len(each[rule][kind]) for each in draws),
            }
            for kind in draws[0][rule]
        }
        for rule in draws[0]
    }


def kept(name: str, task: str, number: int, make: Callable[[str, int], Any]) -> Any:
    """What `make` makes of a draw, done once."""
    settings = (POLICY, PATIENTS, SEARCHES, QUERIES, COUNTED, RADIUS, ALIKE, SIZE)
    return finished(f"{name}-{task}-{number}", named(repr(settings), *CODE), lambda: make(task, number))
