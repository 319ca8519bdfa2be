"""The families of attacks: the one table that validations, gate and reports look them up in."""

from __future__ import annotations

from collections.abc import Mapping

from medward.attacks.audit.family import Audit
from medward.attacks.disclosure.family import Disclosure
from medward.attacks.evasion.family import Evasion
from medward.attacks.extraction.family import Extraction
from medward.attacks.membership.family import Membership
from medward.attacks.validation.family import Family
from medward.guard.errors import MedwardError
from medward.guard.plugins import Plugin, checked_plugins

FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (Evasion(), Extraction(), Membership(), Audit(), Disclosure())
}
"""Medward's own: name -> family, in the order of reports."""


def plugin_families() -> tuple[Plugin, ...]:
    """The families of other packages that are installed. Raises `MedwardError` for one that cannot be used."""
    return checked_plugins("families", FAMILIES, _lacking)


def _lacking(value: object) -> str:
    lacks = [name for name in vars(Family) if not name.startswith("_") and not hasattr(value, name)]
    return f"is no Family (medward.attacks.validation.family): it lacks {', '.join(lacks)}" if lacks else ""


def known_families() -> Mapping[str, Family]:
    """Every family by name, in the order of reports; those of other packages last."""
    return {**FAMILIES, **{each.name: each.value for each in plugin_families()}}


def find_family(name: str) -> Family:
    """The family that an attack or a finding names. Raises `MedwardError` for one that is not in the table."""
    known = known_families()
    if name not in known:
        raise MedwardError(f"family: there is no {name!r}; there are {', '.join(known)}")
    return known[name]
