"""Inputs that repeat one before: a resent image, the next slice or view of a study. They are to count once.

An input repeats another when its bytes are those of one of the account's last `REMEMBERED_INPUTS` inputs, or its
content code is within `radius` bits of one of the last `NEAR_INPUTS`. Treating it as unremarkable only ever lowers the
wealth bet on benign i.i.d. inputs, so every bound stands; what it mends is that a series of one strange patient is not
i.i.d. It gives somebody who asks variations of one input nothing but the first's evidence: those are for
`SharedPerturbation` to judge.
"""

from __future__ import annotations

from collections.abc import Sequence

REMEMBERED_INPUTS = 256
NEAR_INPUTS = 2
Recent = list[list[str]]
"""Digest and content code of the last inputs, oldest first; the code only of the last `NEAR_INPUTS`."""


def find_repeats(recent: Recent, digests: Sequence[str], codes: Sequence[str], radius: int) -> tuple[Recent, list[str]]:
    """The memory after a batch, and for each of its inputs "exact", "near" or ""."""
    found = []
    for digest, code in zip(digests, codes, strict=True):
        if any(digest == each[0] for each in recent):
            found.append("exact")
        elif code and any(each[1] and bits_apart(code, each[1]) <= radius for each in recent[-NEAR_INPUTS:]):
            found.append("near")
        else:
            found.append("")
        recent = [
            *([each[0], ""] for each in recent[1 - REMEMBERED_INPUTS : 1 - NEAR_INPUTS]),
            *recent[1 - NEAR_INPUTS :],
            [digest, code],
        ]
    return recent, found


def bits_apart(code: str, other: str) -> int:
    """In how many bits two codes of sixteen hex digits differ."""
    return (int(code, 16) ^ int(other, 16)).bit_count()
