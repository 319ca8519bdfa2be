"""Rows that are copies, within one split and across two, told apart from rows that repeat by nature.

A model's accuracy on rows it was trained on says nothing, a member that is also a non-member hides a leak, and every
bound of the guard counts rows as independent draws. Yet equal rows are no proof of a copy: independent patients who
answer eight questions with yes or no repeat one another all the time. What independent draws would share is read from
the data itself. A row finds an equal one among the n - 1 others of its split as often as a row of another split does
among as many, so whatever two splits share beyond that is copied.

Copies that were made within a split would hide there, so repeats count as natural only where two things hold of
independent draws that do not hold of copies. Each half of the columns alone must agree between rows that differ in the
other half; rows with a continuous column, and images, never do. And no number of times may stand out. No more than one
in k of the rows seen at all may be seen a multiple of k times, as a Poisson count is, whatever its mean; of rows that
were all doubled every one is. And that a row is drawn v times has probability p_v = E[r^v exp(-r)] / v! for rows of any
mix of rates r, so by the Cauchy-Schwarz inequality p_v^2 <= (1 + 1 / v) p_(v-1) p_(v+1): of rows of which some were
oversampled nine times, there are too many that are seen just so often.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.monitors.content_hash import RADIUS, ContentHash
from medward.guard.statistics.binomial import log_tail
from medward.guard.types import Array, Ints

LIMIT = 0.02  # of the rows: fewer copies change no figure by more
NOISE = 4.0  # standard errors
_FEW = 10  # different rows, at most, that show nothing of how their columns go together
HALVES, AGREE = 8, 0.25  # halvings of the columns that are tried, and the share of rows that must agree in each half
_MOST = 4000  # different rows that are compared, at most
MULTIPLES = {2: 1 / 2, 3: 1 / 3, 5: 0.21, 7: 0.16, 11: 0.13, 13: 0.12}
"""How often, at most, a Poisson count that is not zero is a multiple of these; the last four found numerically."""
_CHANCE = 1e-4  # of taking independent draws for copies by how often rows are seen, in each of the two ways
_BLOCK = 512  # rows compared at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What a split shares with another: shares of its rows, 0 where it is what independent draws would share.

    `copies` are equal to a row of the other, `near` are images nearly equal to one, `patients` are of a patient who has
    rows in the other.
    """

    copies: float = 0.0
    near: float = 0.0
    patients: float = 0.0

    def sentence(self, other: str, own: str) -> str:
        """What is shared in words, for splits called `other` and `own`; empty when nothing is."""
        said = [
            f"{share:.0%} of the rows of {own} are {what} {other}"
            for share, what in (
                (self.copies, "copies of rows that are also in"),
                (self.near, "near copies of images that are also in"),
                (self.patients, "of patients who are also in"),
            )
            if share
        ]
        return ", and ".join(said)


def measure_overlap(other: Split, own: Split) -> Overlap:
    """What `own` shares with `other`, an independent draw as far as anybody knows; both as the model takes them."""
    held, mine = row_digests(other.inputs), row_digests(own.inputs)
    copies = _beyond(_copied(other, held, mine), len(held), len(mine))
    patients = 0.0
    if other.patients is not None and own.patients is not None:
        patients = float(np.isin(own.patients, other.patients).mean())
    return Overlap(
        copies=copies,
        near=0.0 if copies else _near(other.inputs, own.inputs, set(held), mine),
        patients=patients if patients > LIMIT else 0.0,
    )


def row_digests(inputs: Array) -> list[bytes]:
    """A name for the content of each row: equal for equal rows, whichever sign a zero has."""
    rows = np.ascontiguousarray(inputs + np.zeros(1, inputs.dtype))
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def repeats_by_nature(inputs: Array, counts: Ints) -> bool:
    """Whether independent draws can have given these different rows ``(m, ...)``, each `counts (m,)` times."""
    for k, most in MULTIPLES.items():
        if log_tail(int((counts % k == 0).sum()), len(counts), most) < math.log(_CHANCE):
            return False
    seen = Counter(counts.tolist())
    for times, rows in seen.items():
        about = rows + seen[times - 1] + seen[times + 1]
        if times > 1 and log_tail(rows, about, _most(times)) < math.log(_CHANCE / len(seen)):
            return False
    return _columns_vary(inputs.reshape(len(inputs), -1)[:_MOST])


def _most(times: int) -> float:
    """Of rows seen about `times` times, one more or less, the largest share that is seen just so often."""
    root = math.sqrt(1 + 1 / times)
    return root / (2 + root)


def _columns_vary(rows: Array) -> bool:
    """Whether rows ``(m, d)`` that differ often agree in a half of the columns, and in its other half."""
    d, rng = rows.shape[1], np.random.default_rng(0)
    if d == 1 or len(rows) < 3:
        return True  # nothing to halve, or to tell by it
    if len(rows) <= _FEW:  # too few to agree in halves: in single columns
        return any(len(np.unique(column)) < len(rows) for column in rows.T)
    for _ in range(HALVES):
        order = rng.permutation(d)
        if min(_agreeing(rows[:, order[: d // 2]]), _agreeing(rows[:, order[d // 2 :]])) >= AGREE:
            return True
    return False


def _agreeing(rows: Array) -> float:
    """The share of rows that are equal to another one."""
    counts = Counter(row_digests(rows))
    return sum(count for count in counts.values() if count > 1) / len(rows)


def _copied(other: Split, held: Sequence[bytes], mine: Sequence[bytes]) -> tuple[float, float]:
    """The share of `mine` that is also `held`, and the share that independent draws would have in common."""
    counts = Counter(held)
    shared = sum(digest in counts for digest in mine) / len(mine)
    if shared <= LIMIT or (len(counts) > _FEW and counts == Counter(mine)):
        return shared, 0.0
    first = {digest: i for i, digest in reversed(list(enumerate(held)))}
    different = np.array([first[digest] for digest in counts])
    if not repeats_by_nature(other.inputs[different], np.array(list(counts.values()))):
        return shared, 0.0
    return shared, sum(count for count in counts.values() if count > 1) / len(held)


def _near(other: Array, own: Array, held: set[bytes], mine: Sequence[bytes]) -> float:
    """The share of images of `own` that nearly equal one of `other`, beyond that of `other` among themselves."""
    if other.ndim != 4 or other.shape[1:] != own.shape[1:]:
        return 0.0
    rng = np.random.default_rng(0)
    fresh = np.flatnonzero([digest not in held for digest in mine])
    known = np.unique(row_digests(other), return_index=True)[1]
    try:
        contents = ContentHash.fit(other[known[:_MOST]])
    except MedwardError:  # all alike: nothing can be told
        return 0.0
    theirs = contents.see(other[known])[0].astype(np.float32)
    asked = contents.see(own[rng.permutation(fresh)[:_MOST]])[0].astype(np.float32)
    again = rng.permutation(len(theirs))[:_MOST]
    shared, natural = _close(theirs, asked), _close(theirs, theirs[again], again)
    return _beyond((shared, natural), len(again), len(asked)) if len(asked) else 0.0


def _close(known: Array, asked: Array, themselves: Ints | None = None) -> float:
    """The share of contents `asked` with a near-duplicate among `known`; `themselves` are their own places in it."""
    lengths, close = np.square(known).sum(axis=1), 0
    for start in range(0, len(asked), _BLOCK):
        some = asked[start : start + _BLOCK]
        squares = lengths - 2 * some @ known.T + np.square(some).sum(axis=1)[:, None]
        if themselves is not None:
            squares[np.arange(len(some)), themselves[start : start + _BLOCK]] = np.inf
        close += int((squares.min(axis=1) <= RADIUS**2 * known.shape[1]).sum())
    return close / max(len(asked), 1)


def _beyond(shares: tuple[float, float], others: int, own: int) -> float:
    """What is shared, 0 unless it is clearly more than what is natural; each share is of so many rows."""
    shared, natural = shares
    error = math.sqrt(natural * (1 - natural) * (1 / others + 1 / own))
    return shared if shared > natural + LIMIT + NOISE * error else 0.0


def distinct_rows(inputs: Array, patients: NDArray[np.int64] | None = None) -> tuple[Ints, Ints]:
    """The places of the first of all equal rows, and how often each is there; once only for every patient."""
    digests = row_digests(inputs)
    whose = range(len(digests)) if patients is None else patients.tolist()
    counts = Counter(digest for digest, _ in dict.fromkeys(zip(digests, whose, strict=True)))
    first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    return np.array([first[digest] for digest in counts]), np.array(list(counts.values()))
