"""A digest of the sources that a cell depends on, so that a kept cell is not believed after they changed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import cache
from pathlib import Path

from medward import attacks, guard


@cache
def sources_digest(names: tuple[str, ...], without: Collection[str] = frozenset()) -> str:
    """A hash over the modules and folders `names` ("guard/harden"), as they are when first asked for.

    Files named in `without` are left out.
    """
    sha = hashlib.sha256()
    for name in names:
        package, _, rest = name.partition("/")
        path = Path(str({"attacks": attacks, "guard": guard}[package].__file__)).parent / rest
        for source in [path] if path.is_file() else sorted(path.rglob("*.py")):
            if source.name not in without:
                sha.update(f"{name}/{source.name}\0".encode() + source.read_bytes())
    return sha.hexdigest()[:16]
