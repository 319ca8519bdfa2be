"""Streams of images that are changed alike: inverted, turned, or some of each; queries until the alarm.

Different radiographs that are all inverted are no copies of one another, and far from what calibrated the guard. They
once passed for near-duplicates and blinded all monitors. An account sends a hundred images, all different, of which a
share is changed and the others are as they are. Everything goes through the deployed step. All sets are ones that this
project has tuned on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import stealing
from claim import Claim
from ordinary import POLICY, calibrated
from ordinary import summary as median_and_late
from stealing.asked import finished, named, sources_of

from medward import guard
from medward.attacks.validation.ordinary.measure import WatchedGuard
from medward.guard.types import Array

CLAIMS = ("blind_spot_streams_alarmed",)
TASKS = ("pneumoniamnist", "nih-cxr", "blood")
UPRIGHT = ("pneumoniamnist", "nih-cxr")
"""Sets whose images have an upright. Blood cells lie on their slide as they fell."""
ALPHA = 1e-3
ALPHAS = (ALPHA, *(rung.false_alarm for rung in POLICY.monitor.ladder))
SOON, LONG = 20, 100
DRAWS, STREAMS = 5, 10
SHARES = (1.0, 0.5, 0.2)
GAMMAS = (0.5, 0.7, 1.0, 1.4, 2.0)

Change = Callable[[Array, np.random.Generator], Array]
"""From ordinary images to as many as they are sent."""


def turned(quarters: int) -> Change:
    """By so many quarters of a turn."""
    return lambda x, rng: np.rot90(x, quarters, (2, 3))


def inverted(x: Array, rng: np.random.Generator) -> Array:
    """White for black."""
    return 1 - x


def inverted_by_gammas(x: Array, rng: np.random.Generator) -> Array:
    """White for black, each image by a display curve of its own."""
    return 1 - x ** rng.choice(GAMMAS, len(x))[:, None, None, None]


def each_by_one(changes: tuple[Change, ...]) -> Change:
    """Each image by one of `changes`, drawn for it."""

    def change(x: Array, rng: np.random.Generator) -> Array:
        which = rng.integers(len(changes), size=len(x))
        made = [each(x, rng) for each in changes]
        return np.stack([made[way][row] for row, way in enumerate(which.tolist())])

    return change


KINDS: dict[str, Change] = {
    "inverted": inverted,
    "inverted, by one of five gammas each": inverted_by_gammas,
    "turned by 90 degrees": turned(1),
    "turned by 180 degrees": turned(2),
    "inverted and turned by 180 degrees": lambda x, rng: turned(2)(inverted(x, rng), rng),
    "half inverted, half turned by 90 degrees": each_by_one((inverted, turned(1))),
    "all of these, shuffled": each_by_one((inverted, inverted_by_gammas, turned(1), turned(2))),
    "mirrored": lambda x, rng: x[..., ::-1],
    "unchanged": lambda x, rng: x,
}
JUDGED = {
    **{task: tuple(list(KINDS)[:7]) for task in UPRIGHT},
    "blood": ("inverted", "inverted, by one of five gammas each", "inverted and turned by 180 degrees"),
}
"""What is to be alarmed: what an image of the set never looks like. A mirrored chest is forgiven on purpose."""

CODE = (Path(__file__).read_bytes(), *(sources_of(package) for package in (guard, stealing)))


def measure() -> Iterator[Claim]:
    """The slowest of all streams that are to be alarmed."""
    found = {
        task: together([kept(f"blind-{task}", number, streams_of(task)) for number in range(DRAWS)]) for task in TASKS
    }
    judged = [found[task][f"{kind}, 1"][f"{ALPHA:g}"] for task in TASKS for kind in JUDGED[task]]
    worst = math.inf if any(each["never"] for each in judged) else max(each["worst"] for each in judged)
    yield Claim(
        claim=CLAIMS[0],
        value="never" if math.isinf(worst) else worst,
        target=f"<= {SOON} queries to alpha {ALPHA:g} for the slowest stream of images that are all changed, streams "
        "with turned blood cells left out, which are cells (the details have the slowest of these)",
        met=worst <= SOON,
        n=sum(each["n"] for each in judged),
        seed=0,
        details={
            "tasks": found,
            "slowest_median": max(each["median"] or math.inf for each in judged),
            "judged": JUDGED,
            "slowest_left_out": {
                f"{task}: {kind}": found[task][f"{kind}, 1"][f"{ALPHA:g}"]
                for task in TASKS
                for kind in list(KINDS)[:7]
                if kind not in JUDGED[task]
            },
            "draws": DRAWS,
            "streams_of_each_kind_and_draw": STREAMS,
            "length": LONG,
            "shares": SHARES,
        },
    )


def streams_of(task: str) -> Callable[[int], dict[str, list[dict[str, int | None]]]]:
    """By kind and share, for each stream the query at which it reaches each of `ALPHAS`."""

    def run(number: int) -> dict[str, list[dict[str, int | None]]]:
        model, profile, traffic = calibrated(task, number)
        rng, watch = np.random.default_rng(number), WatchedGuard.of(model, POLICY, profile)
        base = traffic.inputs[rng.permutation(len(traffic))[:300]]
        plain, found = watch.see(base)[0], {}
        for name, change in KINDS.items():
            changed = watch.see(np.ascontiguousarray(change(base, rng), np.float32))[0]
            for share in SHARES:
                own = [rng.permutation(len(base))[:LONG] for _ in range(STREAMS)]
                taken = [rng.random(len(rows)) < share for rows in own]
                found[f"{name}, {share:g}"] = [
                    alarms(watch, [(changed if odd else plain, row) for row, odd in zip(rows, odds, strict=True)])
                    for rows, odds in zip(own, taken, strict=True)
                ]
        return found

    return run


def alarms(watch: WatchedGuard, asked: list[tuple[Mapping[str, Any], int]]) -> dict[str, int | None]:
    """The query at which an account that asks rows, all of them different, reaches each of `ALPHAS`."""
    first: dict[str, int | None] = {f"{alpha:g}": None for alpha in ALPHAS}
    for query, peak in enumerate(peaks_of(watch, asked), 1):
        for alpha in ALPHAS:
            if peak >= -math.log(alpha):
                first[f"{alpha:g}"] = first[f"{alpha:g}"] or query
        if all(first.values()):
            break
    return first


def peaks_of(watch: WatchedGuard, asked: list[tuple[Mapping[str, Any], int]]) -> Iterator[float]:
    """The largest log wealth after each query; no two queries are of the same bytes."""
    state: Any = None
    for query, (sight, row) in enumerate(asked):
        one = {part: [column[row]] for part, column in sight.items()}
        state, (_, verdict, _) = watch.monitors.watch([str(query)], one, state)
        yield verdict.evidence["peak"]


def together(draws: list[dict[str, list[dict[str, int | None]]]]) -> dict[str, Any]:
    """Of all draws, by kind and alpha: median, worst and how many never."""
    return {
        name: {
            f"{alpha:g}": summary([found[f"{alpha:g}"] for each in draws for found in each[name]]) for alpha in ALPHAS
        }
        for name in draws[0]
    }


def summary(counts: list[int | None]) -> dict[str, Any]:
    """Of queries to an alarm, None where it never came: median, worst of those that came, how many in time."""
    ends = [math.inf if count is None else count for count in counts]
    said = median_and_late(ends)
    worst = max((count for count in counts if count is not None), default=None)
    return {**said, "worst": worst, f"within_{SOON}": sum(count <= SOON for count in ends)}


def kept(name: str, number: int, make: Callable[[int], Any]) -> Any:
    """What `make` makes of a draw, done once."""
    settings = (POLICY, ALPHAS, LONG, STREAMS, SHARES, GAMMAS, tuple(KINDS))
    return finished(f"{name}-{number}", named(repr(settings), *CODE), lambda: make(number))
