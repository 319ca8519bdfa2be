"""The licences of everything that Medward requires, and that each of its extras does: none of the GPL or BSL kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from claim import Claim
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CLAIMS = ("licences_refused",)
EXTRAS = (
    "serve",
    "redis",
    "dicom",
    "images",
    "tables",
    "torch",
    "sklearn",
    "huggingface",
    "boosting",
    "monai",
    "nvflare",
    "validate",
)
REFUSED = re.compile(
    r"\b[AL]?GPL|GNU (Affero |Lesser )?General Public|BUSL|Business Source|SSPL|Commons Clause", re.IGNORECASE
)


def measure() -> Iterator[Claim]:
    """Follow the requirements of Medward and of its extras, and read what each distribution says of its licence."""
    required = closure({""})
    optional = closure({"", *EXTRAS})
    listed = {name: licence_of(name) for name in sorted(optional)}
    refused = {name: said for name, said in listed.items() if REFUSED.search(said) or not said}
    yield Claim(
        claim="licences_refused",
        value=len(refused),
        target="0 distributions, required or of an extra, under a GPL or BSL kind of licence or none that is said",
        met=not refused,
        n=len(listed),
        details={"required": sorted(required), "licences": listed, "refused": refused},
    )


def closure(extras: set[str]) -> set[str]:
    """The distributions that Medward with `extras` brings here, by their names."""
    found: set[str] = set()
    waiting = [("medward", frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        try:
            held = distribution(name)
        except PackageNotFoundError:
            continue  # a marker of another system, or one that is not installed here
        if name != "medward":
            found.add(name)
        for text in held.requires or ():
            each = Requirement(text)
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in wanted or {""}):
                asked = (canonicalize_name(each.name), frozenset({"", *each.extras}))
                if asked not in seen:
                    seen.add(asked)
                    waiting.append(asked)
    return found


def licence_of(name: str) -> str:
    """What a distribution says of its licence: an expression, the first line of a text, or its classifiers."""
    held: Distribution = distribution(name)
    said = held.metadata
    classifiers = [
        each.rpartition(" :: ")[2] for each in said.get_all("Classifier") or () if each.startswith("License")
    ]
    first = (said.get("License") or "").strip().splitlines()[:1]
    short = [each for each in first if len(each) < 60]
    return str(said.get("License-Expression") or ", ".join(classifiers) or " ".join(short) or "".join(first)[:60])
