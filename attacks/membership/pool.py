"""Whose rows an attacker's models learn: its own, of which none is a candidate, and candidates where that is meant."""

from __future__ import annotations

import numpy as np

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError


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


def both_rows(first: Split, second: Split) -> Split:
    """The rows of both; a row of `second` whose patient is unknown is one of its own."""
    assert first.labels is not None
    assert second.labels is not None
    patients = None
    if first.patients is not None:
        own = first.patients.max(initial=0) + 1 + np.arange(len(second))
        patients = np.concatenate([first.patients, own if second.patients is None else second.patients])
    return Split(np.concatenate([first.inputs, second.inputs]), np.concatenate([first.labels, second.labels]), patients)
