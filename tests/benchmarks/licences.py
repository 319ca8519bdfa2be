"""The licences of everything that Medward requires, and that each of its extras does: none of the GPL or BSL kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from claim import Claim
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medward.guard.errors import MedwardError

CLAIMS = ("licences_refused",)
EXTRAS = ("all", "nvflare")
ROOT = Path(__file__).resolve().parents[2]
REFUSED = re.compile(
    r"\b[AL]?GPL|GNU (Affero |Lesser )?General Public|BUSL|Business Source|SSPL|Commons Clause", re.IGNORECASE
)


def measure() -> Iterator[Claim]:
    """Follow the requirements of Medward and of its extras, and read what each distribution says of its licence."""
    required = closure({""})
    optional = closure({"", *EXTRAS})
    listed = {name: licence_of(name) for name in sorted(optional)} | in_flower_s_environment()
    refused = {name: said for name, said in listed.items() if REFUSED.search(said) or not said}
    yield Claim(
        claim="licences_refused",
        value=len(refused),
        target="0 distributions, required or of an extra, under a GPL or BSL kind of licence or none that is said",
        met=not refused,
        n=len(listed),
        details={"required": sorted(required), "licences": listed, "refused": refused},
    )


def in_flower_s_environment() -> dict[str, str]:
    """The licences of what the extra of Flower brings, read where it is installed; it cannot be beside the others."""
    python = os.environ.get("MEDWARD_FLOWER", str(ROOT / ".venv-flower" / "bin" / "python"))
    if not Path(python).exists():
        raise MedwardError(f"{python}: is no Python with Flower; run make test-flower, or name one in MEDWARD_FLOWER")
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        [python, __file__], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    listed: dict[str, str] = json.loads(done.stdout)
    return listed


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


if __name__ == "__main__":
    json.dump({name: licence_of(name) for name in sorted(closure({"flower"}))}, sys.stdout)
