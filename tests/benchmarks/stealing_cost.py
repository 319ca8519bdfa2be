"""What the monitors of one account cost per query, and whether that grows with its past.

CPU time of the step that a store's transaction runs, in turn over other inputs, of the look at the input (its residual,
embedding and margin) that all accounts of a path share, and of the index of near-duplicates. A past of 10,000,000
queries is set, not asked: the counters in the state are raised, and nothing else in it grows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
from claim import Claim
from stealing.watched import calibrated

from medward.guard.accounts.monitors import AccountMonitors, observe_batch
from medward.guard.monitors.base import SCREEN
from medward.guard.monitors.near_duplicates import ImageSeen, NearDuplicateIndex
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches
from medward.guard.types import Outputs, take_rows

CLAIMS = ("stealing_monitors_per_query", "stealing_monitors_flat")
POLICY = Policy(on_error="withhold")
PASTS = (10**3, 10**5, 10**7)  # queries; the last is set
ASKED, ROUNDS, TIMED = 10**5, 9, 200
BUDGET = 150e-6  # seconds
GROWTH = 1.1


def measure() -> Iterator[Claim]:
    """The cost after each past, then what that is together."""
    model, profile, traffic = calibrated("pneumoniamnist", 0, POLICY.monitor.calibration_risk)
    outputs = model.spec.judged(forward_batches(model, traffic.inputs))
    sights = list(map(looked(profile, traffic.inputs, outputs), range(len(traffic))))
    monitors = AccountMonitors.of(POLICY, profile, 1)
    state, states = None, {}
    for n in range(ASKED):
        state, _ = monitors.watch([str(n)], sights[n % len(sights)], state)
        if n + 1 in PASTS:
            states[n + 1] = json.dumps(state)
    states[PASTS[-1]] = json.dumps(aged(state, PASTS[-1] - ASKED))
    steps = {past: stepped(monitors, sights, json.loads(kept)) for past, kept in states.items()}
    costs: dict[str, list[float]] = {}
    for _ in range(ROUNDS):  # in turn, so that whatever else the machine does falls on all alike
        for name, run in {
            **{f"step after {past}": step for past, step in steps.items()},
            "index of near-duplicates": indexed(profile, traffic.inputs, outputs),
            "look": looked(profile, traffic.inputs, outputs, screens=False),
            "screens": looked(profile, traffic.inputs, outputs, others=False),
            "forward pass": lambda i: model.predict(traffic.inputs[i : i + 1]),
        }.items():
            costs.setdefault(name, []).append(seconds(run))
    found = {name: median(each) for name, each in costs.items()}
    together = found[f"step after {PASTS[0]}"] + found["look"] + found["index of near-duplicates"]
    yield Claim(
        claim="stealing_monitors_per_query",
        value=together * 1e6,
        target=f"<= {BUDGET * 1e6:g} microseconds of CPU: look, step of one account, index of near-duplicates",
        met=together <= BUDGET,
        n=ROUNDS * TIMED,
        seed=0,
        details={
            "microseconds": {name: each * 1e6 for name, each in found.items()},
            "over_a_forward_pass": together / found["forward pass"],
            "calibration_rows": len(profile.reference),
            "width_of_residuals_and_embedding": [
                profile.fitted["residuals"].reference.shape[1],
                profile.fitted["embedding"].reference.shape[1],
            ],
        },
    )
    ratio = found[f"step after {PASTS[-1]}"] / found[f"step after {PASTS[0]}"]
    yield Claim(
        claim="stealing_monitors_flat",
        value=ratio,
        target=f"<= {GROWTH:g}: the step after {PASTS[-1]} queries to that after {PASTS[0]}",
        met=ratio <= GROWTH,
        n=ROUNDS * TIMED,
        seed=0,
        details={"microseconds": {str(past): found[f"step after {past}"] * 1e6 for past in PASTS},
                 "bytes_of_state": {str(past): len(kept) for past, kept in states.items()}},
    )  # fmt: skip


def looked(
    profile: Profile, inputs: np.ndarray, outputs: Outputs, *, screens: bool = True, others: bool = True
) -> Callable[[int], Any]:
    """What the parts see of a row: the screens, and the `others`. Rows are at hand, as they are in a request."""
    kept = {source: each for source, each in profile.fitted.items() if (screens if source == SCREEN else others)}
    own = replace(profile, fitted=kept)
    rows = [take_rows(inputs, outputs, np.array([i])) for i in range(len(inputs))]

    def look(i: int) -> Any:
        sight, failed = observe_batch(POLICY, own, *rows[i])
        assert not failed
        return sight

    return look


def indexed(profile: Profile, inputs: np.ndarray, outputs: Outputs) -> Callable[[int], None]:
    """One image after the other through the index, its lists at hand."""
    index, lists = NearDuplicateIndex(salt=b"salt", calibration="c"), dict[str, Any]()
    counted = [0]

    def step(i: int) -> None:
        counted[0] += 1
        contents, (code,) = profile.contents.see(inputs[i : i + 1])
        arrival = ImageSeen(contents[0], code, f"{counted[0]}", int(outputs.scores[i].argmax()), "clinic")
        keys = index.keys([code])
        lists.update(index.step({key: lists.get(key) for key in keys}, [arrival], counted[0])[0])

    return step


def aged(state: Any, queries: int) -> Any:
    """`state` with all its counters raised."""
    if isinstance(state, dict):
        return {key: each + queries if key == "n" else aged(each, queries) for key, each in state.items()}
    return [aged(each, queries) for each in state] if isinstance(state, list) else state


def stepped(monitors: AccountMonitors, sights: list[Any], state: Any) -> Callable[[int], None]:
    """One query after the other, from `state` on."""
    held = [state, 0]

    def step(i: int) -> None:
        held[0], _ = monitors.watch([f"new {held[1]}"], sights[i], held[0])
        held[1] += 1

    return step


def seconds(run: Callable[[int], Any]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    for i in range(TIMED):
        run(i)
    return (time.process_time() - start) / TIMED
