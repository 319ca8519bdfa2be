"""Whose rows an attacker's models learn: its own, of which none is a candidate, and candidates where that is meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Ints


def apart_from(rows: Split, shadow: Split | None, score: str) -> tuple[Split, tuple[str, ...]]:
    """The attacker's own rows without copies of candidates `rows`, and a flag that says how many there were.

    Raises `MedwardError` where there are no labelled ones.
    """
    if shadow is None or shadow.labels is None or len(shadow) == 0:
        raise MedwardError(f"{score}: needs labelled shadow rows, and data has none")
    taken = {row.tobytes() for row in np.ascontiguousarray(rows.inputs)}
    copied = np.array([row.tobytes() in taken for row in np.ascontiguousarray(shadow.inputs.astype(rows.inputs.dtype))])
    if not copied.any():
        return shadow, ()
    if copied.all():
        raise MedwardError(f"{score}: needs shadow rows that are no candidates, and all {len(shadow)} are; give others")
    flag = f"{int(copied.sum())} of {len(shadow)} shadow rows are copies of candidates, and were left out"
    return shadow.take(np.flatnonzero(~copied)), (flag,)


def joined_rows(splits: Sequence[Split]) -> Split:
    """The rows of several splits as one, with labels where all that have rows know them.

    Where only some know patients, a row of the others is a patient of its own. Raises ValueError without splits.
    """
    some = [split for split in splits if len(split)] or list(splits[:1])
    labels = [split.labels for split in some if split.labels is not None]
    return Split(
        np.concatenate([split.inputs for split in some]),
        np.concatenate(labels) if len(labels) == len(some) else None,
        _joined_patients(some),
    )


def _joined_patients(splits: Sequence[Split]) -> Ints | None:
    known = [split.patients for split in splits if split.patients is not None]
    if not known:
        return None
    fresh = max(int(each.max()) for each in known) + 1 + np.arange(sum(map(len, splits)))
    places = np.split(fresh, np.cumsum([len(split) for split in splits])[:-1])
    return np.concatenate(
        [own if split.patients is None else split.patients for split, own in zip(splits, places, strict=True)]
    )
