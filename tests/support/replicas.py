"""Several processes that count in one store, some of them killed -9 half way."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from support.host import start

OPEN = {
    "sqlite": "from medward.guard.accounts.stores import SQLiteStore\nstore = SQLiteStore(sys.argv[1], timeout=60)",
    "redis": "from medward.integrations.redis_store import RedisStore\nstore = RedisStore(sys.argv[1], timeout=60)",
}
COUNT = """
import sys
{open}

def step(states):
    return [(state or 0) + 1 for state in states], None

for _ in range(int(sys.argv[3])):
    store.transact_all((sys.argv[2], "all"), step)
    print("done", flush=True)
"""


@dataclass(frozen=True)
class Counted:
    """Updates that each worker acknowledged, and whether it was killed; worker i counts under ``str(i)`` and "all"."""

    acknowledged: Sequence[int]
    killed: Sequence[bool]

    def lost(self, store: Any) -> int:
        """Acknowledged updates that `store` does not hold."""
        kept = [store.get(str(i)) or 0 for i in range(len(self.acknowledged))]
        missing = sum(max(0, told - n) for told, n in zip(self.acknowledged, kept, strict=True))
        return missing + max(0, sum(self.acknowledged) - (store.get("all") or 0))

    def surplus(self, store: Any) -> int:
        """Updates held that nobody can have made: beyond one in flight for each killed worker, or not on both keys."""
        kept = [store.get(str(i)) or 0 for i in range(len(self.acknowledged))]
        most = [told + dead for told, dead in zip(self.acknowledged, self.killed, strict=True)]
        extra = sum(max(0, n - limit) for n, limit in zip(kept, most, strict=True))
        return extra + abs((store.get("all") or 0) - sum(kept))


def count(kind: str, where: object, *, workers: int, kill: int, after: int, updates: int) -> Counted:
    """`workers` processes make `updates` each; the first `kill` are killed once they acknowledged `after`."""
    code = COUNT.format(open=OPEN[kind])
    processes = [start(code, where, i, updates if i >= kill else 10**9) for i in range(workers)]
    told = []
    for victim in processes[:kill]:
        lines = [victim.stdout.readline() for _ in range(after)]
        victim.send_signal(signal.SIGKILL)
        told.append(lines + victim.stdout.readlines())
    told += [worker.communicate(timeout=120)[0].splitlines(keepends=True) for worker in processes[kill:]]
    for worker in processes:
        worker.communicate()
    codes = [worker.returncode for worker in processes]
    assert codes == [-signal.SIGKILL] * kill + [0] * (workers - kill), codes
    acknowledged = [sum(line == "done\n" for line in lines) for lines in told]
    return Counted(acknowledged, [i < kill for i in range(workers)])
