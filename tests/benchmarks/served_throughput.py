"""What guarding adds to a request that is served: the same FastAPI stack bare and guarded, in turns within one run.

Both serve one ONNX model with as many threads; the guarded one is ``medward serve`` as it is switched on by default,
with keys, states in SQLite, and each answer on the disk before it leaves. CPU time is of the server's process alone.
`MEDWARD_SECONDS` says how long each arm is asked in each turn (8 by default).
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import torch
from claim import Claim
from PIL import Image
from support.closed_loop import Asked, ask_in_turn, request_bytes
from support.processes import ENVIRONMENT, ROOT, serving
from torch import nn

from medward.attacks.benchmarks.networks.resnet import resnet
from medward.guard.audit.log import read_log
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.state import AUDIT_FILE
from medward.integrations.serving.keys import KeyStore

CLAIMS = (
    "served_added_cpu",
    "served_share_large_model",
    "served_share_small_model",
    "served_added_latency",
)
SECONDS = float(os.environ.get("MEDWARD_SECONDS", "8"))
TURNS, CONNECTIONS, WORKERS = 4, (1, 8, 32), 2
WHO = [(f"hospital-{site}", "radiology", f"viewer-{seat}") for site in "ab" for seat in range(4)]
CALIBRATED, BODIES = 400, 256
MOST_WITHHELD = 0.05  # of answers; the screen's own rate is 0.01


@dataclass(frozen=True)
class Subject:
    """A model that is served: images of `side` pixels a side with `channels`, sent as `form`."""

    name: str
    side: int
    channels: int
    form: str

    def network(self) -> nn.Module:
        """The network, its weights drawn at random."""
        torch.manual_seed(0)
        if self.side < 100:
            return resnet((1, 28, 28), 2, depths=(1, 1), width=16, stem=3, pool=False).eval()
        return resnet((3, 224, 224), 2, depths=(2, 2, 2, 2), width=64, stem=7, pool=True).eval()

    def images(self, count: int, seed: int) -> np.ndarray:
        """So many 8-bit images ``(n, side, side, channels)``: smooth fields with a little noise, no two the same."""
        rng = np.random.default_rng(seed)
        coarse = rng.integers(40, 216, (count, 7, 7, self.channels), dtype=np.uint8)
        smooth = np.stack([_enlarged(each, self.side) for each in coarse]).astype(np.int16)
        return np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)

    def body(self, image: np.ndarray) -> tuple[bytes, str]:
        """One image as it is sent, and its media type."""
        if self.form == "json":
            rows = image.transpose(2, 0, 1)[None].tolist()
            return httpx.Request("POST", "http://x", json={"inputs": rows}).content, "application/json"
        file = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if self.channels == 1 else image).save(file, "PNG", compress_level=1)
        return file.getvalue(), "image/png"


SUBJECTS = (
    Subject("small network, JSON", 28, 1, "json"),
    Subject("small network, PNG", 28, 1, "png"),
    Subject("ResNet-18 at 224 pixels, PNG", 224, 3, "png"),
)
LARGE, SMALL = SUBJECTS[2].name, SUBJECTS[0].name


def _enlarged(coarse: np.ndarray, side: int) -> np.ndarray:
    picture = Image.fromarray(coarse.squeeze(-1) if coarse.shape[-1] == 1 else coarse)
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)).reshape(side, side, -1)


@dataclass(frozen=True)
class Arm:
    """One of the two servers: where it is asked, what each connection sends, and its process."""

    url: str
    requests: list[list[bytes]]
    process: int

    def ask(self, connections: int, seconds: float) -> tuple[Asked, float]:
        """What so many connections came to, and the CPU seconds that the server took."""
        before = cpu_seconds(self.process)
        asked = ask_in_turn(self.url, self.requests[:connections], seconds)
        return asked, cpu_seconds(self.process) - before


def cpu_seconds(process: int) -> float:
    """What all threads of `process` have taken so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def bare(model: Path, subject: Subject, bodies: Sequence[tuple[bytes, str]], http: str) -> Iterator[Arm]:
    """The model behind FastAPI alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "support.bare_server", str(model), str(port), http, str(WORKERS)]
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    process = subprocess.Popen(command, env=environment)
    try:
        url, ends = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/readyz").raise_for_status()
                break
            except httpx.TransportError:
                assert time.monotonic() < ends
                time.sleep(0.1)
        asked = f"{url}/{subject.form}"
        yield Arm(asked, _shared_out([request_bytes(asked, *each) for each in bodies]), process.pid)
    finally:
        process.kill()
        process.wait()


@contextmanager
def guarded(bundle: Path, folder: Path, bodies: Sequence[tuple[bytes, str]]) -> Iterator[Arm]:
    """The model behind ``medward serve``, asked by the accounts `WHO` in turns."""
    (folder / "state").mkdir(parents=True)
    keys = KeyStore(folder / "state" / "keys.json")
    tokens = [keys.add(each) for each in WHO]
    with serving(bundle, folder, "--workers", str(WORKERS)) as server:
        url = f"{server.url}/v1/predict"
        requests = [
            [request_bytes(url, *each, {"X-API-Key": tokens[place % len(tokens)]}) for each in own]
            for place, own in enumerate(_shared_out(list(bodies)))
        ]
        yield Arm(url, requests, server.process.pid)


def _shared_out(items: list) -> list[list]:
    """The items of each connection, of the most there are; no two connections send the same."""
    return [items[place :: max(CONNECTIONS)] for place in range(max(CONNECTIONS))]


def protected(subject: Subject, folder: Path) -> Path:
    """The bundle of the subject, under the default policy."""
    rows = subject.images(CALIBRATED, 1)
    benign = Split(np.ascontiguousarray(rows.transpose(0, 3, 1, 2)), np.arange(len(rows)) % 2)
    policy = Policy(on_error="withhold")
    said = {"modality": "image", "layout": "NCHW", "low": 0, "high": 255, "output": "logits", "classes": ["a", "b"]}
    protect(subject.network(), benign, policy, folder, **said)
    return folder


def measured(subject: Subject) -> dict[str, dict]:
    """By connections: rates, CPU milliseconds a request and latencies of both arms, medians over `TURNS` turns."""
    with TemporaryDirectory(dir=Path.cwd()) as name:  # beside the code, since /tmp may be memory
        folder = Path(name)
        bundle = protected(subject, folder / "bundle")
        bodies = [subject.body(each) for each in subject.images(BODIES, 2)]
        model = next((folder / "bundle").rglob("*.onnx"))
        with bare(model, subject, bodies, "h11") as alone, guarded(bundle, folder / "served", bodies) as held:
            arms = {"bare": alone, "guarded": held}
            for arm in arms.values():
                arm.ask(max(CONNECTIONS), 2)
            found: dict[str, dict] = {}
            for connections in CONNECTIONS:
                turns = [
                    {name: _told(*arm.ask(connections, SECONDS)) for name, arm in arms.items()} for _ in range(TURNS)
                ]
                found[str(connections)] = _summary(turns)
        withheld = _withheld(folder / "served" / "state")
    assert withheld <= MOST_WITHHELD, f"{subject.name}: {withheld:.1%} of answers were withheld: not ordinary traffic"
    return found


def _withheld(state: Path) -> float:
    """The share of answers that were withheld: a guard that answers nothing would look fast."""
    levels = [level for record in read_log(state / AUDIT_FILE) for level in record.get("levels", ())]
    return levels.count("withheld") / len(levels)


def _told(asked: Asked, cpu: float) -> dict[str, float]:
    assert set(asked.statuses) == {200}, asked.statuses
    took = np.array(asked.latencies) * 1e3
    return {
        "a_second": asked.rate,
        "cpu_ms": cpu * 1e3 / len(took),
        "p50_ms": float(np.quantile(took, 0.5)),
        "p99_ms": float(np.quantile(took, 0.99)),
    }


def _summary(turns: list[dict[str, dict[str, float]]]) -> dict:
    """Medians of each arm, and of what is paired turn by turn."""
    arms = {
        arm: {name: round(median(turn[arm][name] for turn in turns), 3) for name in turns[0][arm]} for arm in turns[0]
    }
    shares = [turn["guarded"]["a_second"] / turn["bare"]["a_second"] for turn in turns]
    return {
        **arms,
        "share": round(median(shares), 3),
        "shares": [round(min(shares), 3), round(max(shares), 3)],
        "added_cpu_ms": round(median(turn["guarded"]["cpu_ms"] - turn["bare"]["cpu_ms"] for turn in turns), 3),
        "added_p50_ms": round(median(turn["guarded"]["p50_ms"] - turn["bare"]["p50_ms"] for turn in turns), 3),
    }


def measure() -> Iterator[Claim]:
    """CPU, throughput and latency of three subjects, at one, eight and 32 connections."""
    found = {each.name: measured(each) for each in SUBJECTS}
    added = max(found[name][each]["added_cpu_ms"] for name in found for each in found[name])
    yield Claim(
        claim="served_added_cpu",
        value=added,
        target="<= 1.5 ms of CPU a request more than bare, at any number of connections, for every subject",
        met=added <= 1.5,
        n=TURNS,
        details=found,
    )
    for claim, name, least in (("large", LARGE, 0.9), ("small", SMALL, 0.25)):
        shares = {each: found[name][each]["share"] for each in found[name]}
        yield Claim(
            claim=f"served_share_{claim}_model",
            value=min(shares.values()),
            target=f">= {least:g} of the bare throughput for {name}, at any number of connections",
            met=min(shares.values()) >= least,
            n=TURNS,
            details=shares,
        )
    latency = max(found[name]["1"]["added_p50_ms"] for name in found)
    yield Claim(
        claim="served_added_latency",
        value=latency,
        target="<= 2 ms more than bare at the median of one connection, for every subject",
        met=latency <= 2,
        n=TURNS,
        details={name: found[name]["1"]["added_p50_ms"] for name in found},
    )
