"""A real ``medward serve`` among hostile sockets, at five times what it can do, and for half an hour at 80 % of that.

Capacity is measured in the same run, so speed is a share of it. MEDWARD_SOAK_SECONDS says how long the soak lasts.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from claim import Claim
from sklearn.linear_model import LogisticRegression
from support.hostile_sockets import HostileSockets
from support.open_load import Load, Reply, post, quantile, sample
from support.processes import not_once, serving

from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.limits import Limits

_R = TypeVar("_R")
CLAIMS = ("hostile_sockets", "overload", "soak")
SECONDS = float(os.environ.get("MEDWARD_SOAK_SECONDS", "1800"))
CALIBRATING, OVERLOADED, PAIR_SECONDS, PAIRS = 10.0, 20.0, 5.0, 12
CLIENTS, ORGANISATIONS = 32, 16
QUEUE = 256  # at most so many wait in the soak: 32, the default, are a fifth of a second, a pause of the machine
SHARE, OVER, BESIDE = 0.8, 5.0, 0.2
GROWTH, OVERLOAD_SECONDS, RATIO = 0.05, 2.0, 1.2
WARM = 0.2  # part of the soak after which memory is to be flat
ROWS = np.random.default_rng(3).normal(size=(2000, 4)).astype(np.float32)
MIB = 2**20


@dataclass(frozen=True)
class Subject:
    """A server that runs, the load on it, and a key of somebody else."""

    load: Load
    pid: int
    state: Path
    hostile: str


def measure() -> Iterator[Claim]:
    """One server for each claim, each with a capacity of its own; the longest is last."""
    with subject() as served:
        yield hostile_sockets(*run(beset(served), served.load), served.state)
    with subject() as served:
        yield overload(*run(overloaded(served), served.load), served.state)
    with subject("--queue", str(QUEUE)) as served:
        yield soak(*run(soaked(served), served.load), served.state)


def run(work: Coroutine[Any, Any, _R], load: Load) -> _R:
    """What `work` comes to, after which `load` is closed."""

    async def closing() -> _R:
        try:
            return await work
        finally:
            await load.close()

    return asyncio.run(closing())


@contextmanager
def subject(*options: str) -> Iterator[Subject]:
    """A small model behind the default policy, asked by many organisations about rows like those of its calibration."""
    with TemporaryDirectory(dir=Path.cwd()) as name:  # beside the code, since /tmp may be memory
        folder = Path(name)
        model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
        bundle = protect(
            model, Split(ROWS[:500]), Policy(on_error="withhold"), folder / "bundle", classes=("no", "yes")
        )
        with serving(bundle.path, folder, *options) as server:
            keys = KeyStore(server.state / "keys.json")
            tokens = [keys.add((f"hospital-{place}", "key")) for place in range(ORGANISATIONS)]
            hostile, rng = keys.add(("hostile", "key")), np.random.default_rng(5)

            def request(number: int) -> bytes:
                body = json.dumps({"inputs": rng.normal(size=(1, 4)).round(4).tolist()}).encode()
                return post("/v1/predict", tokens[number % len(tokens)], body)

            address = urlsplit(server.url)
            load = Load((address.hostname or "", address.port or 0), request)
            yield Subject(load, server.process.pid, server.state, hostile)


async def capacity(load: Load) -> tuple[float, list[Reply]]:
    """Answers a second that `CLIENTS` clients get, once the server is warm, and all replies."""
    warm = await load.closed(CLIENTS, CALIBRATING / 2)
    found = await load.closed(CLIENTS, CALIBRATING)
    return sum(each.status == 200 for each in found) / CALIBRATING, warm + found


def taken(pid: int) -> tuple[float, int]:
    """MiB of memory and open files of a process, without the connections, which are its clients'."""
    pages, files = int(Path(f"/proc/{pid}/statm").read_text().split()[1]), 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            files += not os.readlink(each).startswith("socket:")
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB, files


# Soak


async def soaked(served: Subject) -> tuple[float, list[Reply], list[Reply], list[tuple[float, Any]]]:
    """Capacity, replies until it was known, replies of the soak, and what the process took meanwhile."""
    most, before = await capacity(served.load)
    samples: list[tuple[float, Any]] = []
    sampling = asyncio.create_task(sample(lambda: taken(served.pid), samples, min(1.0, SECONDS / 60)))
    replies = await served.load.at_rate(SHARE * most, SECONDS)
    sampling.cancel()
    return most, before, replies, samples


def soak(
    most: float, before: Sequence[Reply], replies: Sequence[Reply], samples: Sequence[tuple[float, Any]], state: Path
) -> Claim:
    """Met where all were answered, each answer is on record once, and neither memory nor files grow."""
    wrong = len(replies) - statuses(replies)[200]
    lost = unrecorded(state, [*before, *replies])
    times = np.array([each for each, _ in samples])
    memory, files = np.array([each for _, each in samples]).T
    grown = {name: growth(times, each) for name, each in (("memory", memory), ("files", files))}
    return Claim(
        claim="soak",
        value=wrong,
        target=f"0 errors at {SHARE:.0%} of capacity, each answer once in a whole chain, memory and files grow by "
        f"<= {GROWTH:.0%} after the first fifth",
        met=not wrong and not lost and max(grown.values()) <= GROWTH,
        n=len(replies),
        details={
            "seconds": SECONDS,
            "queue": QUEUE,
            "capacity_a_second": round(most, 1),
            "asked_a_second": round(SHARE * most, 1),
            "statuses": named(statuses(replies)),
            "answers_not_once_on_record": lost,
            "seconds_p50_p99": [round(seconds_at(replies, each), 4) for each in (0.5, 0.99)],
            "memory_mib": ends(memory),
            "files": ends(files),
            "grown": {name: round(each, 4) for name, each in grown.items()},
            "memory_mib_an_hour": round(float(slope(times, memory) * 3600), 2),
        },
    )


def slope(times: np.ndarray, values: np.ndarray) -> float:
    """What `values` grow by in a second, by least squares after the first `WARM` part."""
    late = times >= times[0] + WARM * (times[-1] - times[0])
    return float(np.polyfit(times[late] - times[0], values[late], 1)[0])


def growth(times: np.ndarray, values: np.ndarray) -> float:
    """By which part of their median `values` grow after the first `WARM` part, by `slope`."""
    return slope(times, values) * float(times[-1] - times[0]) * (1 - WARM) / float(np.median(values))


def ends(values: np.ndarray) -> dict[str, float]:
    """The first, largest and last of `values`."""
    return {
        name: round(float(each), 1)
        for name, each in zip(("first", "most", "last"), (values[0], values.max(), values[-1]), strict=True)
    }


# Overload


async def overloaded(served: Subject) -> tuple[float, list[Reply], list[Reply]]:
    """Capacity, replies until it was known, and replies at `OVER` times that."""
    most, before = await capacity(served.load)
    return most, before, await served.load.at_rate(OVER * most, OVERLOADED)


def overload(most: float, before: Sequence[Reply], replies: Sequence[Reply], state: Path) -> Claim:
    """Met where what is accepted is answered soon, and all else is told at once when to ask again."""
    found, accepted = statuses(replies), [each for each in replies if each.status == 200]
    unclean = [each for each in replies if each.status not in (200, 429, 503) or not (each.retry_after or each.id)]
    late, lost = quantile([each.since_sent for each in accepted], 0.99), unrecorded(state, [*before, *replies])
    refused = [each for each in replies if each.status in (429, 503)]
    return Claim(
        claim="overload",
        value=round(late, 3),
        target=f"seconds <= {OVERLOAD_SECONDS:g}, p99 of what is accepted at {OVER:g} times capacity; all else 429 or "
        "503 with Retry-After; each answer once in a whole chain",
        met=late <= OVERLOAD_SECONDS and not unclean and bool(refused) and not lost,
        n=len(replies),
        details={
            "capacity_a_second": round(most, 1),
            "statuses": named(found),
            "unclean": named(statuses(unclean)),
            "answered_of_capacity": round(len(accepted) / OVERLOADED / most, 3),
            "refused_seconds_p99": round(quantile([each.since_sent for each in refused], 0.99), 3),
            "answers_not_once_on_record": lost,
            "places": Limits().places,
        },
    )


# Hostile sockets


async def beset(served: Subject) -> tuple[list[Reply], list[tuple[list[Reply], list[Reply]]], HostileSockets]:
    """Replies until capacity was known; pairs of replies without and with hostile sockets, in turns; what these got."""
    most, before = await capacity(served.load)
    hostile = HostileSockets(served.load.address, served.hostile)
    pairs = []
    for turn in range(PAIRS):
        found = {}
        for with_them in (False, True) if turn % 2 else (True, False):
            async with hostile.at_work() if with_them else nullcontext():
                found[with_them] = await served.load.at_rate(BESIDE * most, PAIR_SECONDS)
        pairs.append((found[False], found[True]))
    return before, pairs, hostile


def hostile_sockets(
    before: Sequence[Reply], pairs: Sequence[tuple[list[Reply], list[Reply]]], hostile: HostileSockets, state: Path
) -> Claim:
    """Met where others are all answered, and wait no longer than without hostile sockets."""
    everything = [each for pair in pairs for part in pair for each in part]
    ratios = {
        share: [seconds_at(meanwhile, share) / seconds_at(alone, share) for alone, meanwhile in pairs]
        for share in (0.5, 0.99)
    }
    lost, refused = unrecorded(state, [*before, *everything]), len(everything) - statuses(everything)[200]
    middle = median(ratios[0.5])
    return Claim(
        claim="hostile_sockets",
        value=round(middle, 3),
        target=f"<= {RATIO:g} times the seconds that others wait without them (median of pairs), all others answered",
        met=middle <= RATIO and not refused and not lost and hostile.opened >= hostile.slow + hostile.idle,
        n=len(everything),
        interval=(round(min(ratios[0.5]), 3), round(max(ratios[0.5]), 3)),
        details={
            "interval": "least and largest of the pairs",
            "ratios_of_medians": [round(each, 3) for each in ratios[0.5]],
            "ratios_of_p99": [round(each, 3) for each in ratios[0.99]],
            "others_refused": refused,
            "others_statuses": named(statuses(everything)),
            "hostile": {
                "slow": hostile.slow,
                "idle": hostile.idle,
                "opened": hostile.opened,
                "statuses": dict(hostile.statuses),
            },
            "answers_not_once_on_record": lost,
        },
    )


def seconds_at(replies: Sequence[Reply], share: float) -> float:
    """The `share` quantile of seconds since replies were due."""
    return quantile([each.seconds for each in replies], share)


def statuses(replies: Sequence[Reply]) -> Counter[int]:
    """How many replies had each status; 0 is none at all."""
    return Counter(each.status for each in replies)


def named(found: Counter[int]) -> dict[str, int]:
    """Statuses as JSON has them."""
    return {str(status): count for status, count in sorted(found.items())}


def unrecorded(state: Path, replies: Sequence[Reply]) -> int:
    """How many answers are not on record exactly once; raises when the chain is broken."""
    return len(not_once(state, [each.id for each in replies if each.status == 200]))
