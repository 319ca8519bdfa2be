"""The families of attacks: the one table that validations, gate and reports look them up in."""

from __future__ import annotations

from collections.abc import Mapping

from medward.attacks.evasion.family import Evasion
from medward.attacks.extraction.family import Extraction
from medward.attacks.membership.family import Membership
from medward.attacks.validation.family import Family
from medward.guard.errors import MedwardError

FAMILIES: Mapping[str, Family] = {family.name: family for family in (Evasion(), Extraction(), Membership())}
"""Name -> family, in the order of reports."""


def find_family(name: str) -> Family:
    """The family that an attack or a finding names. Raises `MedwardError` for one that is not in the table."""
    if name not in FAMILIES:
        raise MedwardError(f"family: there is no {name!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]
