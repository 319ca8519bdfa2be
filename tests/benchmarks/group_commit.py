"""Group commit: durable records a second with 1 to 32 threads that wait, beside one write and one fsync a record.

Both arms run in turns on one disk within one run, and only their ratio is a claim. The control is the same log whose
groups hold one record.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

from claim import Claim

from medward.guard.audit import group_commit
from medward.guard.audit.log import AuditLog, verify_log

CLAIMS = ("group_commit",)
THREADS, ROUNDS, SECONDS = (1, 2, 8, 32), 5, 1.0
RECORD = {
    "query": "q" * 32,
    "principal": "hospital/key",
    "p_values": [0.5] * 8,
    "levels": ["rounded"] * 8,
    "pad": "x" * 1500,
}


def measure() -> Iterator[Claim]:
    """The median of `ROUNDS` ratios, each of two arms one after the other."""
    with TemporaryDirectory(dir=Path.cwd()) as name:  # beside the code, since /tmp may be memory
        rates: dict[int, list[tuple[float, float]]] = {each: [] for each in THREADS}
        for turn in range(ROUNDS):
            for threads in THREADS:
                folder = Path(name) / f"{turn}-{threads}"
                folder.mkdir()
                alone = appends_a_second(folder / "alone.jsonl", threads, largest=1)
                rates[threads].append((appends_a_second(folder / "group.jsonl", threads), alone))
    ratio = {threads: median(group / alone for group, alone in found) for threads, found in rates.items()}
    yield Claim(
        claim="group_commit",
        value=round(ratio[32], 2),
        target=">= 8 times the durable records a second with 32 threads that wait, beside one by one",
        met=ratio[32] >= 8,
        n=ROUNDS,
        details={
            "ratio_by_threads": {str(each): round(value, 2) for each, value in ratio.items()},
            "records_a_second": {
                str(each): {
                    "grouped": round(median(group for group, _ in found)),
                    "one_by_one": round(median(alone for _, alone in found)),
                }
                for each, found in rates.items()
            },
            "record_bytes": len(str(RECORD)),
            "seconds_an_arm": SECONDS,
        },
    )


def appends_a_second(path: Path, threads: int, *, largest: int = group_commit.LARGEST_GROUP) -> float:
    """How many records a second `threads` threads have on the disk, each waiting for its own before the next."""
    log, counts, stop = AuditLog(path, fsync=True), [0] * threads, threading.Event()

    def append(place: int) -> None:
        while not stop.is_set():
            log.append(RECORD)
            counts[place] += 1

    with patch.object(group_commit, "LARGEST_GROUP", largest):
        running = [threading.Thread(target=append, args=(place,)) for place in range(threads)]
        begun = time.perf_counter()
        for each in running:
            each.start()
        stop.wait(SECONDS)
        stop.set()
        for each in running:
            each.join()
        took = time.perf_counter() - begun
    assert verify_log(path).records == sum(counts)
    return sum(counts) / took
