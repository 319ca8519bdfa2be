"""Made-up identities: what stands in a header, about nobody."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medward.guard.release.text.known import KnownIdentifiers
from medward.guard.release.text.spans import IdentifierKind

IDENTITY_KINDS: Mapping[str, IdentifierKind] = {
    "patient name": IdentifierKind.NAME,
    "birth date": IdentifierKind.DATE,
    "record number": IdentifierKind.RECORD_NUMBER,
    "phone number": IdentifierKind.PHONE,
    "e-mail address": IdentifierKind.EMAIL,
}
"""What stands in a made-up header, and which kind of identifier it is."""
_GIVEN = "Gertrude Bartholomew Ottilie Cornelius Philippa Leopold Rosalind Ambrose Winifred Evander Clementine Percival"
_FAMILY = (
    "Hollingworth Brackenridge Featherstone Vandermolen Okonkwo Castellanos Lindqvist Marchetti Abernathy Yamashiro"
)


def made_identities(count: int, *, seed: int) -> list[dict[str, str]]:
    """`count` people, each with a name, a birth date, a record number, a phone number and an e-mail address."""
    rng = np.random.default_rng(seed)
    people = []
    for _ in range(count):
        given, family = rng.choice(_GIVEN.split()), rng.choice(_FAMILY.split())
        born = f"{rng.integers(1930, 2005)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
        people.append(
            {
                "patient name": f"{given} {family}",
                "birth date": born,
                "record number": f"{rng.integers(10**7, 10**8)}",
                "phone number": f"{rng.integers(200, 999)}-{rng.integers(200, 999)}-{rng.integers(1000, 9999)}",
                "e-mail address": f"{given}.{family}{rng.integers(10, 99)}@example.org".lower(),
            }
        )
    return people


def known_identifiers(header: Mapping[str, str]) -> KnownIdentifiers:
    """The values of a header as a filter is told them; what is of no kind that is named is somebody's code."""
    kinds = {**IDENTITY_KINDS, **{str(kind): kind for kind in IdentifierKind}}
    return KnownIdentifiers(tuple((kinds.get(name, IdentifierKind.CODE), value) for name, value in header.items()))
