"""Thieves who stay near what is forgiven as a repeat, and what they have when they are flagged.

An image that looks like a recent one of its account, and is answered alike, counts as a repeat. So thieves walk through
photographs in small steps, send each in several forms, or put the detail of each on the layout of one. What that gains
shows in what was asked until the flag, and in what of it the screen of single inputs let pass: how many inputs, how
many of them far apart, and how good a clone they make. Everything goes through the deployed step. All sets are ones
that this project has tuned on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import stealing
from blind_spots import ALPHA, POLICY, TASKS, peaks_of, summary
from claim import Claim
from ordinary import calibrated
from stealing.asked import finished, named, sources_of

from medward import guard
from medward.attacks import extraction
from medward.attacks.base import AttackData
from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.attacks.extraction.answers import views_of
from medward.attacks.extraction.base import StolenAnswers, Strategy, clone_decisions, distil_clone
from medward.attacks.extraction.borrowed_layout import BorrowedLayout, hybrid_images
from medward.attacks.extraction.walked_pool import WalkedPool
from medward.attacks.validation.ordinary.measure import WatchedGuard
from medward.guard.accounts.transaction import NearDuplicateBatch
from medward.guard.data.split import Split
from medward.guard.models.base import Model
from medward.guard.monitors.strangeness import STRANGENESS
from medward.guard.profile import forward_batches
from medward.guard.release.scores import probabilities
from medward.guard.request import Request
from medward.guard.types import Action, Array, Query

CLAIMS = ("near_repeat_thieves",)
THIEVES, PATIENCE, POOL, DRAWS = 2, 1000, 1001, 2
EPOCHS, GAIN = 8, 0.1
LONGEST = 4  # times as many epochs for a clone of few answers
PHOTOGRAPHS, TWICE, FORMS = "photographs", "photographs, each twice", "photographs, each in 8 forms"
VIEWS = {PHOTOGRAPHS: 1, TWICE: 2, FORMS: 8}
ORDINARY, ORDINARY_WALKED = "ordinary images", "ordinary images, 12 steps from each to the next"
DETAIL_ON_ORDINARY = "details of photographs on an ordinary image"
STRATEGIES: dict[str, Strategy] = {
    "photographs, 12 steps from each to the next": WalkedPool(steps=12),
    "photographs, 40 steps from each to the next": WalkedPool(steps=40),
    "details of photographs on the layout of one": BorrowedLayout(),
    ORDINARY_WALKED: WalkedPool(steps=12),
}
FOREIGN = (*VIEWS, *list(STRATEGIES)[:3])
AT_HOME = (ORDINARY, ORDINARY_WALKED, DETAIL_ON_ORDINARY)
"""What thieves ask about: photographs, and with ordinary images of their own."""
PLAIN = {ORDINARY_WALKED: ORDINARY}
"""What a way is compared with, where that is not `PHOTOGRAPHS`: the same inputs, asked as they are."""
SALT = bytes(16)  # of the index of near-duplicates
PAIRS = 0.02  # of ordinary pairs that are nearer to one another than what counts as far apart
BEFORE = Path(__file__).with_name("near_repeats_before.json")
"""What `near_repeat_thieves` found at the commit that it names."""
CODE = (Path(__file__).read_bytes(), *(sources_of(package) for package in (guard, stealing, extraction)))


def measure() -> Iterator[Claim]:
    """How good a clone is of all that was asked until the flag, at its best over that of photographs as they are."""
    found = {
        task: gains([kept(f"near-repeats-{task}", number, thieves_of(task)) for number in range(DRAWS)])
        for task in TASKS
    }
    rows = [(task, way, found[task][way]) for task in TASKS for way in (*FOREIGN, *AT_HOME)]
    gains_of = {
        f"{task}: {way}": row["clone_of_asked"] - found[task][PLAIN.get(way, PHOTOGRAPHS)]["clone_of_asked"]
        for task, way, row in rows
        if way != ORDINARY
    }
    best = max(gains_of, key=lambda each: gains_of[each])
    gained = gains_of[best]
    yield Claim(
        claim=CLAIMS[0],
        value=round(gained, 4),
        target=f"<= {GAIN:g}: balanced agreement of a clone of all that was asked up to alpha {ALPHA:g}, screens aside,"
        " over that of what is asked as it is, photographs or, where its thief has many, ordinary images; the best way "
        f"on any set ({best}), means of {DRAWS * THIEVES} thieves",
        met=gained <= GAIN,
        n=sum(row["flagged"]["n"] for _, _, row in rows),
        seed=0,
        details={
            "tasks": found,
            "index_of_near_duplicates_flags": {
                task: kept(f"near-repeats-index-{task}", 0, indexed(task)) for task in TASKS
            },
            "gains": {name: round(each, 4) for name, each in gains_of.items()},
            "never_flagged": [f"{task}: {way}" for task, way, row in rows if row["flagged"]["never"]],
            "queries_at_most": PATIENCE,
            "draws": DRAWS,
            "thieves_of_each_way_and_draw": THIEVES,
            "epochs_of_a_clone": EPOCHS,
            "far_apart": f"a root mean square difference beyond that of {PAIRS:.0%} of pairs of ordinary images",
            "before": json.loads(BEFORE.read_text()) if BEFORE.exists() else None,
        },
    )


def asked_by(way: str, pool: Array, own: Array, model: Model, seed: int) -> Array:
    """The first `PATIENCE` inputs of a thief who has the photographs `pool` and the ordinary images `own`."""
    rng = np.random.default_rng(seed)
    if way in VIEWS:
        return views_of(pool[rng.permutation(len(pool))][: PATIENCE // VIEWS[way]], VIEWS[way], model.spec, rng)
    if way == ORDINARY:
        return own[:PATIENCE]
    if way == DETAIL_ON_ORDINARY:
        made = hybrid_images(own[0], pool[: PATIENCE - 1], detail=BorrowedLayout().detail)
        return np.concatenate([own[:1], made.clip(model.spec.low, model.spec.high)])
    strategy, rows = (STRATEGIES[way], own if way == ORDINARY_WALKED else pool)
    nothing = Split(rows[:0])
    asker = strategy.open(AttackData(craft=nothing, test=nothing, pool=rows), model.spec, seed=seed)
    return asker.ask(PATIENCE, StolenAnswers(rows[:0], np.zeros((0, 2))), None)


def thieves_of(task: str) -> Callable[[int], dict[str, list[dict[str, Any]]]]:
    """By way, what each thief had when it was flagged; of the first also what it had stolen had nobody looked."""

    def run(number: int) -> dict[str, list[dict[str, Any]]]:
        model, profile, traffic = calibrated(task, number)
        watch, cut = WatchedGuard.of(model, POLICY, profile), profile.screen_cut(POLICY.screen.rate)
        order = np.random.default_rng(number).permutation(len(traffic))
        own, judged = (traffic.inputs[half] for half in np.array_split(order, 2))
        apart = ordinary_distance(judged)
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in (*FOREIGN, *AT_HOME)}
        for thief in range(THIEVES):
            seed = 100 * number + thief
            pool = natural_images(POOL, traffic.inputs.shape[1:], seed=seed)
            for way, thieves in found.items():
                asked = asked_by(way, pool, own, model, seed)
                sight = watch.see(asked)[0]
                peaks = peaks_of(watch, [(sight, row) for row in range(len(asked))])
                first = next((query for query, peak in enumerate(peaks, 1) if peak >= -math.log(ALPHA)), None)
                by_then = asked[:first]
                answered = by_then[np.asarray(sight[STRANGENESS])[:first] <= cut]
                thieves.append(
                    {
                        "flagged": first,
                        "asked_far_apart": far_apart(by_then, apart),
                        "answered": len(answered),
                        "answered_far_apart": far_apart(answered, apart),
                        "clone_of_asked": agreement(model, by_then, judged, seed),
                        "clone_of_answered": agreement(model, answered, judged, seed),
                        "clone_unguarded": None if seed else agreement(model, asked, judged, seed),
                    }
                )
        return found

    return run


def indexed(task: str) -> Callable[[int], dict[str, int | None]]:
    """By way, the query at which the index of near-duplicates first asks for an action on one thief's account."""

    def run(number: int) -> dict[str, int | None]:
        model, profile, traffic = calibrated(task, number)
        assert profile.contents is not None
        pool = natural_images(POOL, traffic.inputs.shape[1:], seed=number)
        own = np.array_split(traffic.inputs, 2)[0]
        found: dict[str, int | None] = {}
        for way in (*FOREIGN, *AT_HOME):
            asked = asked_by(way, pool, own, model, number)
            decided = forward_batches(model, asked).scores.argmax(axis=1)
            request = Request.admit(Query(principal=("thief",), inputs=asked), model.spec, SALT)
            batch = NearDuplicateBatch.of(POLICY.duplicates, profile.contents, SALT, request, decided)
            clusters = batch.index.step(dict.fromkeys(batch.keys), batch.arrivals, 0.0)[1]
            state, found[way] = batch.monitor.start(), None
            for query, each in enumerate(clusters, 1):
                state, verdict = batch.monitor.step(state, each)
                if verdict.action > Action.ALLOW:
                    found[way] = query
                    break
        return found

    return run


def ordinary_distance(images: Array) -> float:
    """The root mean square difference that `PAIRS` of ordinary pairs fall below."""
    flat = images[:300].reshape(min(len(images), 300), -1).astype(np.float64)
    squares = np.square(flat).sum(axis=1)
    apart = squares[:, None] + squares - 2 * flat @ flat.T
    pairs = apart[np.triu_indices(len(flat), 1)]
    return math.sqrt(max(0.0, float(np.quantile(pairs, PAIRS))) / flat.shape[1])


def far_apart(images: Array, distance: float) -> int:
    """How many of `images` can be taken, first come first, that are all farther than `distance` from one another."""
    taken: list[Array] = []
    for image in images:
        if (
            not taken
            or np.sqrt(np.square(np.stack(taken) - image).reshape(len(taken), -1).mean(axis=1)).min() > distance
        ):
            taken.append(image)
    return len(taken)


def agreement(model: Model, asked: Array, ordinary: Array, seed: int) -> float:
    """How often a clone of the model's own scores of `asked` agrees on ordinary images, less the best constant answer.

    Classes count alike, or most images of one class would be most of the figure.
    """
    decided = forward_batches(model, ordinary).scores.argmax(axis=1)
    classes = np.unique(decided)
    if not len(asked):
        return 0.0
    answers = probabilities(forward_batches(model, asked).scores, "logits")
    epochs = round(EPOCHS * min(LONGEST, max(1.0, PATIENCE / len(asked))))
    clone = distil_clone(model.spec, StolenAnswers(asked, answers), epochs=epochs, seed=seed)
    assert clone is not None
    said = clone_decisions(clone, ordinary)
    return float(np.mean([(said[decided == each] == each).mean() for each in classes])) - 1 / len(classes)


def gains(draws: list[dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """By way, of all thieves of all draws: when they were flagged, medians of counts, means of clones."""
    counts = ("asked_far_apart", "answered", "answered_far_apart")
    clones = ("clone_of_asked", "clone_of_answered", "clone_unguarded")
    found = {}
    for way in draws[0]:
        thieves = [thief for each in draws for thief in each[way]]
        known = {key: [thief[key] for thief in thieves if thief[key] is not None] for key in (*counts, *clones)}
        found[way] = {
            "flagged": summary([thief["flagged"] for thief in thieves]),
            **{key: float(np.median(known[key])) for key in counts},
            **{key: round(float(np.mean(known[key])), 4) for key in clones if known[key]},
        }
    return found


def kept(name: str, number: int, make: Callable[[int], Any]) -> Any:
    """What `make` makes of a draw, done once."""
    settings = (POLICY, ALPHA, THIEVES, PATIENCE, POOL, EPOCHS, LONGEST, VIEWS, STRATEGIES)
    return finished(f"{name}-{number}", named(repr(settings), *CODE), lambda: make(number))
