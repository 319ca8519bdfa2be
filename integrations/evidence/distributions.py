"""The distributions that serving needs, as they are installed here: by name, version, and what each requires."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medward.guard.errors import MedwardError


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledDistribution:
    """An installed distribution is one name with its version and the names that it requires here."""

    name: str
    version: str
    requires: tuple[str, ...]

    @property
    def package_url(self) -> str:
        """Its package URL (purl), by which vulnerability databases know it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def installed_distributions(name: str = "medward", extra: str = "serve") -> tuple[InstalledDistribution, ...]:
    """`name` with its `extra` and all that they require, by name, `name` first.

    Raises `MedwardError` where one is not installed: a list that lacks one would pass for complete.
    """
    found: dict[str, InstalledDistribution] = {}
    waiting, seen = [(canonicalize_name(name), frozenset({"", extra}))], set()
    needed: dict[str, set[str]] = {}
    while waiting:
        asked = waiting.pop()
        if asked in seen:
            continue
        seen.add(asked)
        each, extras = asked
        held = _installed(each, name, extra)
        for requirement in map(Requirement, held.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": chosen}) for chosen in extras):
                wanted = canonicalize_name(requirement.name)
                needed.setdefault(each, set()).add(wanted)
                waiting.append((wanted, frozenset({"", *requirement.extras})))
        requires = tuple(sorted(needed.get(each, set()) - {each}))
        found[each] = InstalledDistribution(name=each, version=held.version, requires=requires)
    own = canonicalize_name(name)
    return (found[own], *(found[each] for each in sorted(found.keys() - {own})))


def _installed(each: str, name: str, extra: str) -> Distribution:
    try:
        return distribution(each)
    except PackageNotFoundError:
        raise MedwardError(
            f"bill of materials: {name}[{extra}] needs {each}, which is not installed here; "
            f"pip install '{name}[{extra}]', so that the list is complete"
        ) from None
