"""Canaries: rows for an audit, each trained on or not by a fair coin of its own, that it asks about afterwards.

A canary stands out, and its label follows from nothing, so a model can only know it by heart: images of noise, and
rows of a table at the corners of what its columns reach, with labels drawn at random; or real rows under a wrong label.

Reference: Carlini, Liu, Erlingsson, Kos and Song, "The secret sharer", USENIX Security 2019; Steinke, Nasr and
Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, for the coins.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medward.guard.data.foreign import check_npz
from medward.guard.data.labels import Labels
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Array

CanaryKind = Literal["noise", "mislabelled"]
"""What canaries are: noise with random labels, or real rows with wrong ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySet:
    """A canary set holds made-up `inputs (m, ...)` and `labels (m,)`, and which were `included (m,)` in training.

    Whoever has it can tell what the model was trained on: keep it from the attackers that it is used against.
    """

    inputs: Array
    labels: Labels
    included: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def digest(self) -> str:
        """SHA-256 of the rows, their labels and the truth, whatever file holds them."""
        sha = hashlib.sha256()
        for array in (self.inputs, self.labels, self.included):
            sha.update(f"{array.dtype.str}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()

    def save(self, path: Path) -> None:
        """Write them as an npz that `load` reads back equal."""
        with Path(path).open("wb") as file:
            np.savez_compressed(file, inputs=self.inputs, labels=self.labels, included=self.included)

    @classmethod
    def load(cls, path: Path) -> CanarySet:
        """Read what `save` wrote. Raises `MedwardError` for anything else."""
        check_npz(Path(path))
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = cls(**{name: archive[name] for name in ("inputs", "labels", "included")})
        except (KeyError, ValueError, OSError) as error:
            raise MedwardError(f"{path}: no canaries: {error}; give the file that training wrote") from None
        if not len(found.inputs) == len(found.labels) == len(found.included) or found.included.dtype != np.bool_:
            raise MedwardError(f"{path}: no canaries: inputs, labels and coins differ in number; train with canaries")
        return found


def plant_canaries(
    split: Split, count: int, *, seed: int, copies: int = 1, kind: CanaryKind = "noise"
) -> tuple[Split, CanarySet]:
    """The rows of `split` and, after them, the canaries whose coin says in, each `copies` times; and all the canaries.

    Each canary is a patient of its own where patients are known. Canaries of the `kind` "noise" are made up from the
    range of values alone. Those that are "mislabelled" are real rows under a wrong label, which models learn more
    surely by heart: their patients are taken out of the split, so that nobody is in it twice. Raises `MedwardError`
    without labels, for fewer than one canary or copy, more canaries than half of the patients, and for a table whose
    columns are not numbers yet.
    """
    if count < 1 or copies < 1:
        raise MedwardError(f"canaries: needs count >= 1 and copies >= 1, got {count} and {copies}")
    if not isinstance(split.inputs, np.ndarray) or split.labels is None:
        raise MedwardError("canaries: need labelled rows of numbers; give the split as the model takes it")
    rng = np.random.default_rng(seed)
    if kind == "noise":
        rest, canaries = split, make_canaries(split, count, rng)
    else:
        patients = np.arange(len(split)) if split.patients is None else split.patients
        known = np.unique(patients)
        if count > len(known) // 2:
            what = "rows" if split.patients is None else "patients"
            raise MedwardError(f"canaries: {count} take that many of {len(known)} {what}; ask for at most half of them")
        order = rng.permutation(len(split))
        taken = rng.permutation(known)[:count]
        first = order[np.unique(patients[order], return_index=True)[1]]  # one row of each patient
        canaries = mislabelled_canaries(split.take(first[np.isin(known, taken)]), split.labels, rng)
        rest = split.take(np.flatnonzero(~np.isin(patients, taken)))
    places = np.repeat(np.flatnonzero(canaries.included), copies)
    whose = rest.patients
    if whose is not None and split.patients is not None:
        whose = np.concatenate([whose, split.patients.max() + 1 + places])
    planted = replace(
        rest,
        inputs=np.concatenate([rest.inputs, canaries.inputs[places]]),
        labels=np.concatenate([np.asarray(rest.labels), canaries.labels[places]]),
        patients=whose,
        names=None,
    )
    return planted, canaries


def make_canaries(split: Split, count: int, rng: np.random.Generator) -> CanarySet:
    """Canaries that look like nothing in a labelled `split`, within what its values reach.

    Images are uniform noise over the range of all pixels; in a row of a table every value is the least or the largest
    of its column. Labels are drawn evenly from those there are, and coins are fair.
    """
    x, labels = split.inputs, split.labels
    if labels is None:
        raise MedwardError("canaries: need labelled rows; give the split with its labels")
    if x.ndim > 2:
        low, high, size = x.min(), x.max(), (count, *x.shape[1:])
        made = rng.integers(int(low), int(high) + 1, size) if x.dtype.kind in "iub" else rng.uniform(low, high, size)
    else:
        made = np.where(rng.random((count, x.shape[1])) < 0.5, x.min(axis=0), x.max(axis=0))
    known = np.unique(labels, axis=0)
    return CanarySet(
        inputs=np.asarray(made, x.dtype),
        labels=known[rng.integers(len(known), size=count)],
        included=rng.random(count) < 0.5,
    )


def mislabelled_canaries(rows: Split, labels: Labels, rng: np.random.Generator) -> CanarySet:
    """The labelled `rows` as canaries, each under another label of `labels`: of numbers one in the other half of them.

    Raises `MedwardError` where all labels are the same.
    """
    own = np.asarray(rows.labels)
    known = np.unique(labels, axis=0)
    if len(known) < 2:
        raise MedwardError("canaries: every row has the same label, so none can be wrong; give rows of several labels")
    place = np.array([int(np.flatnonzero((known == each).reshape(len(known), -1).all(axis=1))[0]) for each in own])
    step = rng.integers(1, len(known), size=len(rows))
    if own.dtype.kind == "f" and own.ndim == 1:
        step = np.full(len(rows), len(known) // 2)
    return CanarySet(
        inputs=rows.inputs, labels=known[(place + step) % len(known)], included=rng.random(len(rows)) < 0.5
    )
