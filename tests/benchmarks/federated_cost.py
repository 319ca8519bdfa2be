"""What a round costs the server, beside Flower's own aggregate, and how many clients are judged in a second.

Times are of one thread's processor, for a wall clock on a shared machine says more of its neighbours.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from claim import Claim

from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.feddetect import FedDetect, FedDetectState
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.guard.federated.rules.base import Rule
from medward.guard.federated.rules.norm_clipped_mean import NormClippedMean
from medward.guard.federated.rules.weighted_mean import WeightedMean
from medward.guard.federated.update import ClientUpdate

CLAIMS = ("federated_cost", "federated_many_clients")

SEED, CLIENTS, ARRAYS, SIZE = 0, 10, 25, 1_000_000
REPEATS = 7
MOST_RATIO = 1.1
MANY, MOST_SECONDS = 10_000, 1.0
MISSING = (
    "Flower: {error}; install flwr==1.42.0 in an environment elsewhere and name its site-packages in MEDWARD_PEERS"
)


def measure() -> Iterator[Claim]:
    """Two claims; the first needs Flower in a folder named in MEDWARD_PEERS, and 4 GiB."""
    yield _many_clients()
    yield _cost()


def _cost() -> Claim:
    sys.path += filter(None, os.environ.get("MEDWARD_PEERS", "").split(os.pathsep))
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    try:
        from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
        from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

        from medward.integrations.flower_replies import array_numbers
    except ModuleNotFoundError as error:
        raise MedwardError(MISSING.format(error=error)) from None
    generator = np.random.default_rng(SEED)
    start = [generator.standard_normal(SIZE, dtype=np.float32) for _ in range(ARRAYS)]
    records = [
        RecordDict(
            {"arrays": ArrayRecord(_moved(start, generator)), "metrics": MetricRecord({"num-examples": 100 + each})}
        )
        for each in range(CLIENTS)
    ]
    updates = _read(records, array_numbers)
    nodes = [update.node for update in updates]

    def ours(rule: Rule) -> list[np.ndarray]:
        return Aggregator(rule=rule).step(FederationState(), start, updates, nodes)[1].parameters

    def round_of(rule: Rule) -> ArrayRecord:
        """From replies to the new model's record, as `aggregate_arrayrecords` goes."""
        read = _read(records, array_numbers)
        result = Aggregator(rule=rule).step(FederationState(), start, read, nodes)[1]
        return ArrayRecord({str(place): Array(array) for place, array in enumerate(result.parameters)})

    def flower_arithmetic() -> list[np.ndarray]:
        """The sums of `aggregate_arrayrecords` on arrays that are read already."""
        total = sum(update.examples for update in updates)
        made: dict[int, Any] = {}
        for update in updates:
            for place, array in enumerate(update.parameters):
                share = update.examples / total
                made[place] = array * share if place not in made else made[place]
                if update is not updates[0]:
                    made[place] += array * share
        return list(made.values())

    rules = (WeightedMean(), NormClippedMean())
    steps: dict[str, Callable[[], Any]] = {
        "Flower": lambda: aggregate_arrayrecords(records, "num-examples"),
        "Flower, arrays read before": flower_arithmetic,
        **{rule.name: lambda rule=rule: round_of(rule) for rule in rules},
        **{f"{rule.name}, arrays read before": lambda rule=rule: ours(rule) for rule in rules},
        "a copy of all replies": lambda: _read(records, Array.numpy),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(REPEATS):  # interleaved, so that what slows the machine slows all of them
        for name, step in steps.items():
            seconds[name].append(_seconds(step))
    least = {name: min(each) for name, each in seconds.items()}
    theirs = [array.numpy() for array in aggregate_arrayrecords(records, "num-examples").values()]
    away = max(float(np.abs(one - other).max()) for one, other in zip(ours(WeightedMean()), theirs, strict=True))
    ratio = max(least[rule.name] for rule in rules) / least["Flower"]
    return Claim(
        claim="federated_cost",
        value=ratio,
        target=f"at most {MOST_RATIO:g} times Flower's aggregate_arrayrecords, from replies to the new record",
        met=ratio <= MOST_RATIO,
        n=REPEATS,
        seed=SEED,
        details={
            "least_processor_seconds": least,
            "ratio": {rule.name: least[rule.name] / least["Flower"] for rule in rules},
            "largest_difference_of_the_weighted_mean": away,
            "peak_memory_beyond_the_inputs_in_models": {
                rule.name: _peak(lambda rule=rule: ours(rule)) / (4 * ARRAYS * SIZE) for rule in rules
            },
            "flwr": version("flwr"),
            "parameters": ARRAYS * SIZE,
            "clients": CLIENTS,
        },
    )


def _moved(start: list[np.ndarray], generator: np.random.Generator) -> list[np.ndarray]:
    return [array + np.float32(0.01) * generator.standard_normal(array.shape, dtype=np.float32) for array in start]


def _read(records: list[Any], numbers: Callable[[Any], np.ndarray]) -> list[ClientUpdate]:
    return [
        ClientUpdate(
            node=str(place),
            parameters=[numbers(array) for array in record["arrays"].values()],
            examples=record["metrics"]["num-examples"],
        )
        for place, record in enumerate(records)
    ]


def _many_clients() -> Claim:
    """Rounds of many clients' losses, judged by both detectors."""
    generator = np.random.default_rng(SEED)
    records, published = {}, FedDetectState(round=50)
    seconds: dict[str, list[float]] = {"robust": [], "as published": []}
    for _ in range(REPEATS):
        losses = {f"client-{place}": float(loss) for place, loss in enumerate(np.abs(generator.normal(1.5, 0.3, MANY)))}
        evidence = {node: {"loss": np.array([loss])} for node, loss in losses.items()}
        begun = time.process_time()
        records, _ = RobustFedDetect().judge(records, evidence)
        seconds["robust"].append(time.process_time() - begun)
        begun = time.process_time()
        published, _ = FedDetect().detect(published, losses)
        seconds["as published"].append(time.process_time() - begun)
    worst = {name: max(each) for name, each in seconds.items()}
    return Claim(
        claim="federated_many_clients",
        value=max(worst.values()),
        target=f"below {MOST_SECONDS:g} processor second a round for the losses of {MANY} clients, by either detector",
        met=max(worst.values()) < MOST_SECONDS,
        n=REPEATS,
        seed=SEED,
        details={"slowest_round_in_processor_seconds": worst, "clients": MANY},
    )


def _seconds(step: Callable[[], Any]) -> float:
    begun = time.process_time()
    step()
    return time.process_time() - begun


def _peak(step: Callable[[], Any]) -> float:
    """Bytes that `step` held at most beyond what there was."""
    tracemalloc.start()
    try:
        step()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
