"""Flip one byte of a stored file, see whether it is refused by name, put it back."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medward.guard.audit.log import verify_log
from medward.guard.bundle.folder import load_bundle
from medward.guard.errors import IntegrityError


def positions(size: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Every position of a file of `size` bytes, or `most` of them, drawn without replacement."""
    return np.arange(size) if size <= most else np.sort(rng.choice(size, most, replace=False))


def unnoticed(
    file: Path,
    at: np.ndarray,
    named: Callable[[int], str],
    check: Callable[[], object],
    rng: np.random.Generator,
) -> list[int]:
    """Positions of `at` where a flipped byte passes `check`, or the refusal does not match ``named(position)``.

    Every flip is an exclusive or with a random byte other than zero; the file ends as it was.
    """
    good = file.read_bytes()
    missed = []
    handle = os.open(file, os.O_RDWR)
    try:
        for position, mask in zip(at.tolist(), rng.integers(1, 256, len(at)).tolist(), strict=True):
            os.pwrite(handle, bytes([good[position] ^ mask]), position)
            try:
                check()
                missed.append(position)
            except IntegrityError as error:
                if not re.search(named(position), str(error)):
                    missed.append(position)
            finally:
                os.pwrite(handle, good[position : position + 1], position)
    finally:
        os.close(handle)
    check()
    return missed


def unnoticed_in_bundle(folder: Path, most: int, rng: np.random.Generator) -> dict[str, tuple[int, int]]:
    """For each file of a bundle, how many flips were tried and how many were not refused by its name."""
    found = {}
    for file in sorted(folder.iterdir()):
        at = positions(file.stat().st_size, most, rng)
        name = rf"^{re.escape(file.name)}: "
        missed = unnoticed(file, at, lambda _, name=name: name, lambda: load_bundle(folder, allow_code=True), rng)
        found[file.name] = (len(at), len(missed))
    return found


def unnoticed_in_log(log: Path, most: int, rng: np.random.Generator) -> tuple[int, int]:
    """How many flips of an audit log were tried, and how many were not refused with the record named."""
    whole = log.read_bytes()
    at = positions(len(whole), most, rng)

    def record(position: int) -> str:
        number = whole[:position].count(b"\n") + 1
        return rf"record {number} \(line {number}\): "

    return len(at), len(unnoticed(log, at, record, lambda: verify_log(log), rng))
