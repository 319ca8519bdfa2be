"""Text canaries: made-up notes about nobody, each trained on or not by a fair coin of its own.

A note holds a record number that follows from nothing, so a language model can only know it by heart.

Reference: Carlini, Liu, Erlingsson, Kos and Song, "The secret sharer", USENIX Security 2019.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError

_SYLLABLES = ("ba", "ke", "lo", "mi", "nu", "ra", "so", "ti", "ve", "zu")
_FINDINGS = ("No acute finding", "Small effusion", "Mild oedema", "Stable nodule", "Clear lungs", "Old fracture")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCanarySet:
    """A set of text canaries holds made-up `texts` and which of them were `included (m,)` in training."""

    texts: tuple[str, ...]
    included: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def digest(self) -> str:
        """SHA-256 of the texts and the truth."""
        return hashlib.sha256(self._content().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write them as JSON that `load` reads back equal."""
        Path(path).write_text(self._content(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> TextCanarySet:
        """Read what `save` wrote. Raises `MedwardError` for anything else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            texts, included = tuple(map(str, content["texts"])), np.array(content["included"], bool)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MedwardError(f"{path}: no text canaries: {error}; give the file that training wrote") from None
        if len(texts) != len(included):
            raise MedwardError(f"{path}: no text canaries: {len(texts)} texts and {len(included)} coins; train again")
        return cls(texts=texts, included=included)

    def _content(self) -> str:
        return json.dumps({"texts": self.texts, "included": self.included.tolist()})


def plant_texts(
    texts: Sequence[str], count: int, *, seed: int, copies: int = 1
) -> tuple[tuple[str, ...], TextCanarySet]:
    """The `texts` and, after them, the canaries whose coin says in, each `copies` times; and all the canaries.

    Raises `MedwardError` for fewer than one canary or copy.
    """
    if count < 1 or copies < 1:
        raise MedwardError(f"canaries: needs count >= 1 and copies >= 1, got {count} and {copies}")
    rng = np.random.default_rng(seed)
    made = TextCanarySet(texts=tuple(_note(rng) for _ in range(count)), included=rng.random(count) < 0.5)
    inside = [text for text, kept in zip(made.texts, made.included, strict=True) if kept for _ in range(copies)]
    return (*texts, *inside), made


def _note(rng: np.random.Generator) -> str:
    """A note about nobody, with a record number of twelve digits."""
    name = " ".join("".join(rng.choice(_SYLLABLES, 3)).capitalize() for _ in range(2))
    number = "-".join(f"{part:04d}" for part in rng.integers(10_000, size=3))
    return f"Patient {name}, record {number}. {rng.choice(_FINDINGS)}."
