"""One patient again and again, and a search around one image: what it would cost to forgive the first.

Next views of an image count as repeats for all parts but *shared*, which judges how they differ from the first. So
forty noisy views of one patient, sent all day, look like somebody who asks about small changes of one image, and are
acted upon. This counts accounts of both, as deployed and where from the third near-repeat of an image on none counted
for *shared* either. All sets are ones that this project has tuned on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from medward.guard.types import Action, Array

CLAIMS = ("one_patient_price",)
DRAWS, PATIENTS, SEARCHES, QUERIES = 2, 20, 8, 150
COUNTED = 2  # near-repeats of an image
RADIUS = 0.05  # of a search, of the range of values
RULES = ("as deployed", f"from near-repeat {COUNTED + 1} of an image on nothing counts")
CODE = (Path(__file__).read_bytes(), *(sources_of(package) for package in (guard, stealing, evasion)))


def measure() -> Iterator[Claim]:
    """The share of searches that would no longer be acted upon."""
    draws = [kept(task, number) for task in TASKS for number in range(DRAWS)]
    tasks = {task: together([kept(task, number) for number in range(DRAWS)]) for task in TASKS}
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
            "radius": RADIUS,
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


def kept(task: str, number: int) -> Any:
    """One draw, done once."""
    settings = named(repr((POLICY, PATIENTS, SEARCHES, QUERIES, COUNTED, RADIUS)), *CODE)
    return finished(f"one-patient-{task}-{number}", settings, lambda: draw(task, number))
