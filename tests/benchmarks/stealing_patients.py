"""How many queries until the pool thief of an image model is flagged, by how many patients or rows calibrate its guard.

The thief asks photographs, alone or as a tenth of an account's queries; beside each figure of the tenth is the limit
ln(1 / alpha) / KL(h || b) at b = ln(1 / delta) / n for n reference rows (`guard.bundle.power.dilution_limit`). Where a
class is rare its inputs are ranked among that class alone, and each stratum brings evidence at a tail of its own, of
fewer rows: `limit_within_strata`. Of NIH patients are known, of blood cells slides, and the reference has one row of
each; PneumoniaMNIST names no patients, nor do "cells" here, whose slides are no traffic: rows of these are subsets, to
show three sizes. Benign accounts ask the same traffic.

Every set was seen while the screens and monitors were chosen: no other image set could be had here, and figures on one
that stays unopened are made elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import stealing
from claim import Claim
from specialists import pooled, summary
from stealing import blood, watched
from stealing.asked import finished, named, sources_of
from stealing.fleet import first_alarms

from medward import guard
from medward.attacks.benchmarks.datasets.natural import pool_for
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.bundle.power import ORDINARY_TAIL, dilution_limit, evidence_per_query
from medward.guard.data.split import Split
from medward.guard.models.base import Model
from medward.guard.policy import Policy
from medward.guard.profile import Profile, calibration_size, forward_batches
from medward.guard.statistics.strata import STRATUM

CLAIMS = ("stealing_patients_pure", "stealing_patients_diluted")
POLICY = Policy(on_error="withhold")
ALPHA, DELTA, TENTH = 1e-3, POLICY.monitor.calibration_risk, 0.1
DRAWS, ACCOUNTS, PATIENCE, PHOTOGRAPHS = 10, 40, 1000, 1000
CALIBRATION = 0.8  # of the slides that the victim of blood cells never saw
PURE, NEAR = {120: 15, 500: 8}, 1.5
"""At least so many reference rows, or nearly, and the median that they are to reach; and how near the limit."""
NEARLY = 0.9
CODE = (Path(__file__).read_bytes(), *(sources_of(package) for package in (guard, stealing)))


class Subject(NamedTuple):
    """A data set, what its calibration rows are counted in, and how many are the reference; None for all there are."""

    data: str
    counted: str
    reference: int | None = None

    @property
    def name(self) -> str:
        """As results and tables have it."""
        return f"{self.data}, {self.counted}" + (f", {self.reference}" if self.reference else "")


SUBJECTS = (
    Subject("nih-cxr", "patients"),
    Subject("blood", "slides"),
    *(Subject("pneumoniamnist", "rows", size) for size in (120, 500, 1500)),
    *(Subject("blood", "cells", size) for size in (120, 500, 1500)),
)


def measure() -> Iterator[Claim]:
    """The thief alone, then as a tenth."""
    turns = [
        (subject, number) for number in range(DRAWS) for subject in SUBJECTS
    ]  # a run that was stopped has all sets
    draws = {turn: _draw(*turn) for turn in turns}
    found = {subject: together([draws[subject, number] for number in range(DRAWS)]) for subject in SUBJECTS}
    yield pure(found)
    yield diluted(found)


def _draw(subject: Subject, number: int) -> dict[str, Any]:
    settings = repr((POLICY, ACCOUNTS, PATIENCE, PHOTOGRAPHS, CALIBRATION))
    key = named(settings, *CODE)
    found: dict[str, Any] = finished(f"patients-{subject.name}-{number}", key, lambda: _asked(subject, number))
    return found


def _asked(subject: Subject, number: int) -> dict[str, Any]:
    """One draw: reference rows in each stratum, and queries until thieves and benign accounts are flagged."""
    model, profile, traffic = calibrated(subject, number)
    photographs = pool_for(model.spec, traffic.inputs, PHOTOGRAPHS, 1000 + number)
    inputs = np.concatenate([traffic.inputs, photographs])
    monitors, pool = AccountMonitors.of(POLICY, profile, 1), pooled(profile, inputs, forward_batches(model, inputs))
    rng, n = np.random.default_rng(number), len(traffic)
    stolen = n + np.stack([rng.permutation(PHOTOGRAPHS)[:PATIENCE] for _ in range(ACCOUNTS)])
    own = np.stack([_in_turn(n, rng) for _ in range(ACCOUNTS)])
    mixed = np.where(rng.random(own.shape) < TENTH, stolen, own)
    asked = {"pure": stolen, "tenth": mixed, "benign": own}
    flags = {kind: first_alarms(monitors, pool, rows, ALPHA) for kind, rows in asked.items()}
    count = 1 if profile.strata is None else profile.strata.count
    strata = np.asarray(pool.get(STRATUM, np.zeros(len(inputs), np.int64)), np.int64)
    return {
        "reference": [len(each) for each in profile.screening.by_stratum(count)],
        "traffic": (np.bincount(strata[:n], minlength=count) / n).tolist(),
        "photographs": (np.bincount(strata[n:], minlength=count) / PHOTOGRAPHS).tolist(),
        "flags": flags,
    }


def _in_turn(n: int, rng: np.random.Generator) -> np.ndarray:
    """`PATIENCE` of `n` rows, each once in random order before any comes again."""
    return np.concatenate([rng.permutation(n) for _ in range(-(-PATIENCE // n))])[:PATIENCE]


def calibrated(subject: Subject, number: int) -> tuple[Model, Profile, Split]:
    """A victim, its profile after draw `number`, and traffic that neither knows."""
    rows = None if subject.reference is None else calibration_size(Profile(fitted={}, rows=1), subject.reference)
    if subject.counted == "cells":
        assert rows is not None
        return blood.calibrated(rows, number, DELTA)
    if subject.counted == "slides":
        return _blood_by_slide(number)
    if rows is None:
        return watched.calibrated(subject.data, number, DELTA)
    model, _ = watched.victim(subject.data)
    known, traffic = watched.divided(subject.data, number)
    return model, Profile.fit(model, known.inputs[:rows], risk=DELTA, seed=number, secret=number), traffic


def _blood_by_slide(number: int) -> tuple[Model, Profile, Split]:
    model, task = blood.victim()
    unseen = task.splits["unseen"]
    slides = np.random.default_rng(number).permutation(np.unique(unseen.patients))
    mine = np.isin(unseen.patients, slides[: int(CALIBRATION * len(slides))])
    known = unseen.take(np.flatnonzero(mine))
    profile = Profile.fit(model, known.inputs, risk=DELTA, patients=known.patients, seed=number, secret=number)
    return model, profile, unseen.take(np.flatnonzero(~mine))


def together(draws: list[dict[str, Any]]) -> dict[str, Any]:
    """All draws of a subject: the median of each kind of account, and the limit for a tenth."""
    reference = int(np.median([sum(each["reference"]) for each in draws]))
    limit = dilution_limit(math.log(1 / DELTA) / reference, TENTH, ALPHA)
    kinds = {
        kind: summary([math.inf if each is None else each for draw in draws for each in draw["flags"][kind]])
        for kind in ("pure", "tenth")
    }
    within = [limit_within_strata(draw["reference"], draw["traffic"], draw["photographs"]) for draw in draws]
    benign = [each is not None for draw in draws for each in draw["flags"]["benign"]]
    strata = sorted({len(each["reference"]) for each in draws})
    return {
        "reference": reference,
        "strata": strata,
        **kinds,
        "limit": limit if math.isfinite(limit) else None,
        "limit within strata": float(np.median(within)) if math.isfinite(np.median(within)) else None,
        "benign": [sum(benign), len(benign)],
    }


def limit_within_strata(reference: Sequence[int], traffic: Sequence[float], theft: Sequence[float]) -> float:
    """The limit for a tenth, in queries, where the evidence of each stratum is gathered at a tail of its own.

    By stratum the reference rows, and the shares of ordinary and of stolen inputs. Delta is shared by rows.
    """
    gain = 0.0
    for rows, ordinary, stolen in zip(reference, traffic, theft, strict=True):
        asked = TENTH * stolen + (1 - TENTH) * ordinary
        if asked and rows:
            hit = (TENTH * stolen + (1 - TENTH) * ordinary * ORDINARY_TAIL) / asked
            tail = min(1.0, math.log(sum(reference) / (DELTA * rows)) / rows)
            gain += asked * evidence_per_query(hit, tail)
    return math.log(1 / ALPHA) / gain if gain else math.inf


def pure(found: dict[Subject, dict[str, Any]]) -> Claim:
    """The thief who asks nothing else; the slowest median."""
    medians = {subject: each["pure"]["median"] for subject, each in found.items()}
    slow = [
        subject.name
        for subject, each in found.items()
        for rows, most in PURE.items()
        if each["reference"] >= NEARLY * rows and (medians[subject] is None or medians[subject] > most)
    ]
    told = [each for each in medians.values() if each is not None]
    return Claim(
        claim=CLAIMS[0],
        value="never" if len(told) < len(medians) else max(told),
        target="median " + ", ".join(f"<= {most} with about {rows} rows" for rows, most in PURE.items()),
        met=not slow,
        n=sum(each["pure"]["n"] for each in found.values()),
        seed=0,
        details={"missed": slow, **_frame(found)},
    )


def diluted(found: dict[Subject, dict[str, Any]]) -> Claim:
    """The thief as a tenth of all queries; the largest ratio of a median to its limit."""
    ratios = {
        subject.name: None
        if each["tenth"]["median"] is None or each["limit"] is None
        else each["tenth"]["median"] / each["limit"]
        for subject, each in found.items()
        if each["reference"] >= NEARLY * min(PURE)
    }
    known = [each for each in ratios.values() if each is not None]
    never = len(known) < len(ratios)
    return Claim(
        claim=CLAIMS[1],
        value="never" if never else max(known),
        target=f"<= {NEAR:g}: median at 10 % to its limit, at about 120, 500 and 1,500 reference rows",
        met=not never and max(known) <= NEAR,
        n=sum(each["tenth"]["n"] for each in found.values()),
        seed=0,
        details={"ratios": ratios, **_frame(found)},
    )


def _frame(found: dict[Subject, dict[str, Any]]) -> dict[str, Any]:
    settings = {"alpha": ALPHA, "delta": DELTA, "draws": DRAWS, "accounts": ACCOUNTS, "patience": PATIENCE}
    return {"subjects": {subject.name: each for subject, each in found.items()}, **settings}


if __name__ == "__main__":
    print(json.dumps([each.__dict__ for each in measure()], default=str, indent=1))
