"""Opaque: outputs nobody here can read (a mask, boxes, several numbers), which leave whole or not at all.

A decision is a digest of a row's bytes, so that only equal outputs say the same. What the guard knows of such a model
it knows of its inputs: screens, monitors, near-duplicates, the audit trail, and a budget of bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.tasks.base import ReleaseSettings, in_floats, nothing, plain_bits
from medward.guard.types import Array, Ints, Level, OutputKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """Opaque passes a row of outputs whole, or withholds it; `what` says what it is, for people."""

    what: str = "output"
    kind: Literal["opaque"] = "opaque"

    @property
    def names(self) -> tuple[str, ...]:
        """None: outputs are no columns."""
        return ()

    @property
    def output(self) -> OutputKind:
        """Numbers whose meaning is the model's own."""
        return "values"

    @property
    def levels(self) -> tuple[Level, ...]:
        """Whole or nothing."""
        return (Level.FULL, Level.WITHHELD)

    @property
    def rule(self) -> str:
        """How the model decides, in words."""
        return f"gives {self.what}, which leaves whole or not at all"

    def read(self, raw: object, name: str) -> Array:
        """Numbers ``(n, ...)`` of any shape."""
        values = np.asarray(raw)
        if values.dtype.kind not in "fiub" or not values.ndim:
            raise MedwardError(
                f"{name}: an opaque model gives an array of numbers with a row per input, got shape {values.shape} of "
                f"{values.dtype}"
            )
        return in_floats(values)

    def decide(self, outputs: Array) -> Ints:
        """A number ``(n,)`` that is equal where a row's bytes are, but for one chance in 2^62 a pair."""
        rows = np.ascontiguousarray(outputs)
        return np.array(
            [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "big") >> 1 for row in rows],
            np.int64,
        )

    def judged(self, outputs: Array) -> Array:
        """Zeros ``(n, 1)``: all rows are of one group."""
        return np.zeros((len(outputs), 1), np.float32)

    def doubt(self, outputs: Array) -> None:
        """None: there is no border."""
        return

    def unchanged(self, before: Array, after: Array) -> NDArray[np.bool_]:
        """Where every number is the same."""
        return np.asarray((before == after).reshape(len(before), -1).all(axis=1))

    def release(self, outputs: Array, level: Level, settings: ReleaseSettings) -> Array:
        """The outputs, or NaN."""
        return outputs if level is Level.FULL else nothing(outputs)

    def bits(self, outputs: Array, level: Level, settings: ReleaseSettings) -> float:
        """All the bits of a row's numbers."""
        return plain_bits(prod(outputs.shape[1:]), outputs, level)

    def word(self, decision: int) -> None:
        """None: a digest is nothing to read."""
        return
