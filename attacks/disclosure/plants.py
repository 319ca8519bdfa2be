"""Plants: values that must not be read, each beside one that nobody was ever shown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medward.attacks.disclosure.identities import made_identities
from medward.attacks.disclosure.recovery import recovered_share
from medward.attacks.disclosure.victim import Shown
from medward.guard.errors import MedwardError

_UNLIKE = 0.5
"""The share of a decoy that may also stand in the value it is beside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A plant is a value of some `kind` that a writer is `shown`, or learned, and an attacker must not read.

    `decoy` is a value of the same kind that the writer was not shown with it: what is read of that was guessed.
    """

    kind: str
    value: str = field(repr=False)
    decoy: str = field(repr=False)
    shown: Shown = field(default_factory=Shown, repr=False)


def plant_identities(count: int, *, seed: int) -> tuple[Plant, ...]:
    """The values of `count` made-up people, each shown as a header that holds the person's values and no other's.

    Raises `MedwardError` for fewer than 2, of whom none has a decoy.
    """
    if count < 2:
        raise MedwardError(f"plants: needs 2 people or more, got {count}; one person's values have no decoys")
    people = made_identities(count, seed=seed)
    return tuple(
        Plant(kind=kind, value=value, decoy=_unlike(value, kind, people, place), shown=Shown(header=person))
        for place, person in enumerate(people)
        for kind, value in person.items()
    )


def plants_digest(plants: Sequence[Plant]) -> str:
    """SHA-256 over the kinds and values, which names them and does not tell them."""
    sha = hashlib.sha256()
    for each in plants:
        for part in (each.kind, each.value, each.decoy, *each.shown.header.items(), each.shown.text):
            sha.update(repr(part).encode())
        if each.shown.image is not None:
            sha.update(each.shown.image.tobytes())
    return sha.hexdigest()


def _unlike(value: str, kind: str, people: Sequence[Mapping[str, str]], place: int) -> str:
    """The same value of the next person whose is another."""
    others = [people[(place + step) % len(people)][kind] for step in range(1, len(people))]
    return min(others, key=lambda other: recovered_share(other, value) >= _UNLIKE)
