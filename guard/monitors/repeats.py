"""Inputs that repeat one before: a resent image, the next slice or view of a study. They are to count once.

An input repeats another when its bytes are those of one of the account's last `REMEMBERED_INPUTS` inputs, or when it
looks like one of the last `FIRST_INPUTS` that repeated nothing themselves and is answered alike: content codes within
`radius` bits, the same decision, and as sure of it (`answer_marks`). Treating a repeat as unremarkable only ever lowers
what it is paid itself, so every bound on fixed levels stands. *Strange* does not count it among an account's past
either: there exactness is of what does not repeat, as if repeats had never been asked. What it mends is that a series
of one strange patient, or a fixed set that is sent every day, is not i.i.d. It gives somebody who asks variations of
one input nothing but the first's evidence: those are for `SharedPerturbation` to judge.

Both conditions are against thieves. Compared is the first of a series and none of its repeats: else who changes each
query a little would walk from any input to any other, and nothing on the way would count. And a code is blind to all
but the layout of an image: else the details of a thousand photographs on the layout of one would count once. Whatever
repeats by this rule was answered as its first was, so it taught next to nothing. Where a task knows no border there are
no answers to compare, and looks alone count.

Of each input's digest `DIGEST_LETTERS` are kept, six bits each, in one text: more would not fit into the 4,000 bytes
that a principal may take. A new input is so taken for a repeat with a chance of at most `REMEMBERED_INPUTS` / 2^18, one
in 3,200, which lowers wealth and no more. An attacker who could compute digests would find such inputs at will; the key
of digests, the salt of the state folder, is what keeps them from it.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from medward.guard.statistics.strata import decided_classes
from medward.guard.types import Array, Outputs

REMEMBERED_INPUTS = 80
FIRST_INPUTS = 2
DIGEST_LETTERS = 3
ALIKE = 0.1  # between the marks of two answers that are alike


class RecentInputs(TypedDict):
    """What an account remembers: short digests of its last inputs in one text, oldest first, and the codes and answer
    marks of the last that repeated nothing, those repeated latest at the end.
    """

    digests: str
    codes: list[str]
    answers: list[float]


def no_inputs() -> RecentInputs:
    """The memory of an account that has asked nothing."""
    return RecentInputs(digests="", codes=[], answers=[])


def answer_marks(outputs: Outputs) -> Array | None:
    """A number for each row's answer ``(n,)``, as defenses judge it; None where the task knows no border.

    Marks of two decisions are 1 or more apart. Of one decision they are apart by how much likelier the runner-up is
    beside the winner in one than in the other, which is next to nothing while both are sure.
    """
    if outputs.doubt is None:
        return None
    marks = 2 * decided_classes(outputs) + np.exp(np.minimum(outputs.doubt, 0.0))
    return np.asarray(np.where(np.isnan(marks), -2.0, np.round(marks, 3)))


def find_repeats(
    recent: RecentInputs,
    digests: Sequence[str],
    codes: Sequence[str],
    radius: int,
    answers: Sequence[float] | None = None,
) -> tuple[RecentInputs, list[str]]:
    """The memory after a batch, and for each of its inputs "exact", "near" or ""; without `answers` all are alike."""
    known, firsts, found = recent["digests"], list(zip(recent["codes"], recent["answers"], strict=True)), []
    marks = [0.0] * len(digests) if answers is None else answers
    for digest, code, mark in zip(digests, codes, marks, strict=True):
        short, how = _short_digest(digest), ""
        if _remembered(known, short):
            how = "exact"  # and no first: else one sent twice would be the next step of a walk
        elif code:
            first = next((each for each in reversed(firsts) if _alike(each, code, mark, radius)), None)
            how = "near" if first else ""
            firsts = [*(each for each in firsts if each is not first), first or (code, float(mark))][-FIRST_INPUTS:]
        found.append(how)
        known = (known + short)[-DIGEST_LETTERS * REMEMBERED_INPUTS :]
    after = RecentInputs(digests=known, codes=[code for code, _ in firsts], answers=[mark for _, mark in firsts])
    return after, found


def _alike(first: tuple[str, float], code: str, mark: float, radius: int) -> bool:
    return abs(mark - first[1]) <= ALIKE and bits_apart(code, first[0]) <= radius


def bits_apart(code: str, other: str) -> int:
    """In how many bits two codes of sixteen hex digits differ."""
    return (int(code, 16) ^ int(other, 16)).bit_count()


def _short_digest(digest: str) -> str:
    return b2a_base64(hashlib.blake2b(digest.encode(), digest_size=9).digest())[:DIGEST_LETTERS].decode()


def _remembered(known: str, short: str) -> bool:
    """Whether one of the digests in `known` is `short`; not where its letters are those of two neighbours."""
    place = known.find(short)
    while place % DIGEST_LETTERS and place >= 0:
        place = known.find(short, place + 1)
    return place >= 0
