"""A folder of small DICOM files, killed again and again: it goes on, and ends as if it had never been killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from claim import Claim
from support.dicom_files import dicom_file

CLAIMS = ("deidentify_killed",)
FILES, SIDE, KILLS = 1000, 64, 3
READ = 10  # every so many files are of noise, which is read as text would be; the others cost next to nothing
ROOT = Path(__file__).resolve().parents[2]


def measure() -> Iterator[Claim]:
    """One run that is killed `KILLS` times, beside one that is not."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        generator = np.random.default_rng(0)
        (root / "source").mkdir()
        for index in range(FILES):
            pixels = np.full((SIDE, SIDE), 400 + index % 7, np.uint16)
            if index % READ == 0:
                pixels += generator.integers(0, 200, (SIDE, SIDE)).astype(np.uint16) // 20
            (root / "source" / f"{index:04d}.dcm").write_bytes(dicom_file(pixels, bits=12, patient=f"P{index // 10}"))
        start = time.perf_counter()
        _run(root, "whole").wait()
        whole = time.perf_counter() - start
        torn, done = [], []
        for turn in range(1, KILLS + 1):
            process = _run(root, "killed")
            while process.poll() is None and len(list((root / "killed").rglob("*.dcm"))) < turn * FILES // (KILLS + 1):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            done.append(len(_written(root / "killed")))
            torn += [
                name for name, content in _written(root / "killed").items() if _written(root / "whole")[name] != content
            ]
        before = {path: path.stat().st_mtime_ns for path in (root / "killed").rglob("*.dcm")}
        start = time.perf_counter()
        code = _run(root, "killed").wait()
        last = time.perf_counter() - start
        again = sum(path.stat().st_mtime_ns != kept for path, kept in before.items())
        same = _written(root / "whole") == _written(root / "killed")
        said = json.loads((root / "killed" / "report.json").read_text())
        yield Claim(
            claim=CLAIMS[0],
            value=len(torn),
            target="0 files torn by any kill, the same as without, at most one of them written twice after the last",
            met=not torn and same and again <= 1 and code == 0 and said["written"] == FILES,
            n=FILES,
            seed=0,
            details={
                "kills_after_files": done,
                "same_as_without": same,
                "written_again_after_the_last_kill": again,
                "seconds_without": whole,
                "seconds_of_the_last_run": last,
                "report": {name: said[name] for name in ("files", "written", "refused")},
            },
        )


def _run(root: Path, out: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "medward", "deidentify", "source", "--out", out, "--key", "key"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )


def _written(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.dcm")}
