"""Medward as processes that can be killed: a server under load, a validation half way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from medward.guard.audit.log import read_log, verify_log
from medward.integrations.serving.keys import KeyStore

WHO = ("hospital-a", "key-1")
ROOT = Path(__file__).resolve().parents[2]
SCRIPTED = ROOT / "tests/attacks/validation_fakes.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Server:
    """A running ``medward serve``."""

    process: subprocess.Popen[bytes]
    url: str
    state: Path


@contextmanager
def serving(
    bundle: Path,
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    module: str = "medward",
) -> Iterator[Server]:
    """Serve `bundle` from the working directory `folder`, with ``folder/state``; killed at the end.

    `module` is what is run in the place of ``medward``.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", module, "serve", str(bundle), "--state", "state", *options]
    with open(folder / "stderr", "wb") as stderr:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env={**ENVIRONMENT, **(environment or {})},
            stderr=stderr,
            stdout=stderr,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/readyz").raise_for_status()
                break
            except httpx.TransportError:
                assert process.poll() is None, (folder / "stderr").read_text()
                assert time.monotonic() < deadline, "the server did not start within a minute"
                time.sleep(0.1)
        yield Server(process, url, folder / "state")
    finally:
        process.kill()
        process.wait()


def kill_under_load(server: Server, rows: np.ndarray, *, after: int) -> list[str]:
    """Ask row by row, each from its own thread, and kill -9 once `after` answers came.

    Returns the identifiers of the answers that were received: the acknowledged audit records.
    """
    token = KeyStore(server.state / "keys.json").add(WHO)
    acknowledged: list[str] = []
    failures: list[str] = []
    killed = threading.Event()

    def ask(row: list[float]) -> None:
        with httpx.Client(headers={"X-API-Key": token}) as client:
            for _ in range(after * 3):
                try:
                    reply = client.post(f"{server.url}/v1/predict", json={"inputs": [row]}, timeout=30)
                except httpx.TransportError:
                    return
                if reply.status_code != 200:
                    failures.append(reply.text)
                    return
                acknowledged.append(reply.json()["id"])
                if len(acknowledged) >= after and not killed.is_set():
                    killed.set()
                    server.process.send_signal(signal.SIGKILL)

    threads = [threading.Thread(target=ask, args=(row.tolist(),)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, failures[0]
    assert server.process.wait(10) == -signal.SIGKILL
    assert after <= len(acknowledged) < len(rows) * after * 3, "the load ended before the kill"
    return acknowledged


def lost_records(state: Path, acknowledged: list[str]) -> int:
    """How many acknowledged answers the audit log does not hold; raises when its chain is broken."""
    return len(set(acknowledged) - {record.get("query") for record in read_log(state / "audit.jsonl")})


def not_once(state: Path, acknowledged: Sequence[str]) -> list[str]:
    """Acknowledged answers that the audit log does not hold exactly once; raises when its chain is broken."""
    log = state / "audit.jsonl"
    verify_log(log)
    kept = Counter(record["query"] for record in read_log(log) if "query" in record)
    return [each for each in acknowledged if kept[each] != 1]


@dataclass(frozen=True)
class Killed:
    """A validation killed half way: the runs it had begun, and the cells it had finished, by file name."""

    begun: int
    cells: dict[str, bytes]

    @property
    def finished(self) -> int:
        """Runs finished; the clean cost and ordinary behaviour are cells too."""
        return len(self.cells) - 2


def start_validation(out: Path) -> subprocess.Popen[bytes]:
    """Nine scripted runs of 0.3 s through the real `validate`; each adds a line to ``<out>.count``."""
    command = [sys.executable, str(SCRIPTED), str(out), f"{out}.count", "0.3"]
    return subprocess.Popen(command, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.DEVNULL)


def runs_begun(out: Path) -> int:
    """How many runs were begun for `out`, in all processes together."""
    counter = Path(f"{out}.count")
    return len(counter.read_text().splitlines()) if counter.exists() else 0


def kill_validation(out: Path, *, after: int) -> Killed:
    """Start a validation and kill -9 it once `after` runs were begun."""
    victim = start_validation(out)
    deadline = time.monotonic() + 60
    while runs_begun(out) < after and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    cells = {file.name: file.read_bytes() for file in (out / "cells").glob("[!.]*.json")}
    return Killed(runs_begun(out), cells)
