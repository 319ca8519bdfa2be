"""The coin flip before training: who is a member is decided by chance, at patient level, and written down.

Only then do members and non-members differ in nothing but that the model was trained on the first: the two halves of a
coin flip need no belief that some "holdout" was drawn alike.

Reference: Duan et al., "Do membership inference attacks work on large language models?", COLM 2024, and Das, Zhang and
Tramer, "Blind baselines beat membership inference attacks for foundation models", 2024, for what goes wrong otherwise.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

FEWEST_PATIENTS = 20
"""Patients, or rows where nobody is known, without which no coins are flipped."""


class MembershipManifest(BaseModel):
    """A membership manifest says of every candidate of a coin flip whether the model was trained on it.

    `included` and `held_out` are SHA-256 of rows as the model takes them, see `row_hashes`; `unit` is what one coin was
    flipped for, `digest` the SHA-256 of everything else. A hash hides an image; rows of a table with few columns can be
    guessed from theirs, so keep the file where the rows are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    unit: Literal["patient", "row"]
    included: tuple[str, ...]
    held_out: tuple[str, ...]
    digest: str = ""

    def sealed(self) -> MembershipManifest:
        """The manifest with its digest."""
        return self.model_copy(update={"digest": _digest(self)})

    def sides(self, inputs: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rows of `inputs (n, ...)` were trained on, and which were held out, each ``(n,)``.

        A row that is no candidate, or whose equal is on the other side, is neither.
        """
        inside, outside, hashes = set(self.included), set(self.held_out), row_hashes(inputs)
        members = [each in inside and each not in outside for each in hashes]
        others = [each in outside and each not in inside for each in hashes]
        return np.array(members, bool), np.array(others, bool)

    def names(self, inputs: Array) -> NDArray[np.bool_]:
        """Which rows of `inputs (n, ...)` have an equal that a coin was flipped for, on one side or both: ``(n,)``."""
        known = {*self.included, *self.held_out}
        return np.array([each in known for each in row_hashes(inputs)], bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinFlip:
    """A coin flip says which rows ``(n,)`` of a split are `candidates`, and which of these are `included` in training.

    Rows that are no candidates are trained on. `manifest` is a `MembershipManifest` as JSON.
    """

    candidates: NDArray[np.bool_]
    included: NDArray[np.bool_]
    manifest: str

    @property
    def training(self) -> Ints:
        """Places of the rows to train on."""
        return np.flatnonzero(self.included | ~self.candidates)

    @property
    def held_out(self) -> Ints:
        """Places of the rows that training must never see."""
        return np.flatnonzero(self.candidates & ~self.included)


def flip_coins(split: Split, *, candidates: int | None = None, seed: int) -> CoinFlip:
    """Draw about `candidates` rows (all with None) and half of them to be held out, patients whole, by label alike.

    A patient is of the label of most of its rows. Raises `MedwardError` for fewer than `FEWEST_PATIENTS` patients, or
    rows where patients are unknown, among the candidates.
    """
    rng = np.random.default_rng(seed)
    patients = np.arange(len(split)) if split.patients is None else split.patients
    whose = np.unique(patients, return_inverse=True)[1]
    rows = np.bincount(whose)
    drawn = np.arange(len(rows))
    if candidates is not None and candidates < len(split):
        order = rng.permutation(len(rows))
        drawn = order[: np.searchsorted(np.cumsum(rows[order]), candidates) + 1]
    if len(drawn) < FEWEST_PATIENTS:
        what = "rows" if split.patients is None else "patients"
        raise MedwardError(f"coin flip: {len(drawn)} {what} are candidates; give at least {FEWEST_PATIENTS}")
    strata = _strata(split, whose)
    chosen, inside = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    chosen[drawn] = True
    odd = bool(rng.integers(2))
    for stratum in np.unique(strata[drawn]):
        some = rng.permutation(drawn[strata[drawn] == stratum])
        inside[some[: (len(some) + odd) // 2]] = True
        odd ^= bool(len(some) % 2)
    asked, included = chosen[whose], (chosen & inside)[whose]
    manifest = MembershipManifest(
        seed=seed,
        unit="row" if split.patients is None else "patient",
        included=tuple(row_hashes(split.inputs[included])),
        held_out=tuple(row_hashes(split.inputs[asked & ~included])),
    ).sealed()
    return CoinFlip(candidates=asked, included=included, manifest=manifest.model_dump_json(indent=1))


def read_manifest(text: str) -> MembershipManifest:
    """Read `CoinFlip.manifest`. Raises `MedwardError` for anything else, and for one that was changed since."""
    try:
        manifest = MembershipManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "manifest"
        raise MedwardError(f"membership manifest: {key}: {first['msg']}; give the file that training wrote") from None
    if manifest.digest != _digest(manifest):
        raise MedwardError("membership manifest: was changed after training: its digest differs; restore the file")
    return manifest


def row_hashes(inputs: Array) -> list[str]:
    """SHA-256 of each row ``(n, ...)`` as 32-bit numbers, equal for equal rows, whichever sign a zero has."""
    rows = np.ascontiguousarray(np.asarray(inputs, np.float32) + np.float32(0))
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in rows]


def _strata(split: Split, whose: Ints) -> Ints:
    """A number ``(patients,)`` for the label of most rows of each patient; numbers by which quarter they are in."""
    if split.labels is None:
        return np.zeros(whose.max() + 1, np.int64)
    labels = split.labels
    if labels.dtype.kind == "f" and labels.ndim == 1:
        labels = np.searchsorted(np.quantile(labels, [0.25, 0.5, 0.75]), labels)
    place = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    counts = np.zeros((whose.max() + 1, place.max() + 1), np.int64)
    np.add.at(counts, (whose, place), 1)
    return np.asarray(counts.argmax(axis=1))


def _digest(manifest: MembershipManifest) -> str:
    content = manifest.model_dump(mode="json", exclude={"digest"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
