"""Inputs that repeat one before: a resent image, the next slice or view of a study. They are to count once.

An input repeats another when its bytes are those of one of the account's last `REMEMBERED_INPUTS` inputs, or its
content code is within `radius` bits of one of the last `NEAR_INPUTS`. Treating it as unremarkable only ever lowers the
wealth bet on benign i.i.d. inputs, so every bound stands; what it mends is that a series of one strange patient, or a
fixed set that is sent every day, is not i.i.d. It gives somebody who asks variations of one input nothing but the
first's evidence: those are for `SharedPerturbation` to judge.

Of each input's digest `DIGEST_LETTERS` are kept, six bits each, in one text: more would not fit into the 4,000 bytes
that a principal may take. A new input is so taken for a repeat with a chance of at most `REMEMBERED_INPUTS` / 2^18, one
in 2,700, which lowers wealth and no more. An attacker who could compute digests would find such inputs at will; the key
of digests, the salt of the state folder, is what keeps them from it.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Sequence
from typing import TypedDict

REMEMBERED_INPUTS = 96
NEAR_INPUTS = 2
DIGEST_LETTERS = 3


class RecentInputs(TypedDict):
    """What an account remembers of its last inputs, oldest first: short digests in one text, and the last codes."""

    digests: str
    codes: list[str]


def no_inputs() -> RecentInputs:
    """The memory of an account that has asked nothing."""
    return RecentInputs(digests="", codes=[])


def find_repeats(
    recent: RecentInputs, digests: Sequence[str], codes: Sequence[str], radius: int
) -> tuple[RecentInputs, list[str]]:
    """The memory after a batch, and for each of its inputs "exact", "near" or ""."""
    known, last, found = recent["digests"], recent["codes"], []
    for digest, code in zip(digests, codes, strict=True):
        short = _short_digest(digest)
        if _remembered(known, short):
            found.append("exact")
        elif code and any(bits_apart(code, each) <= radius for each in last if each):
            found.append("near")
        else:
            found.append("")
        known, last = (known + short)[-DIGEST_LETTERS * REMEMBERED_INPUTS :], [*last, code][-NEAR_INPUTS:]
    return RecentInputs(digests=known, codes=last), found


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
