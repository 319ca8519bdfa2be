"""Planted wrong imports: import-linter must catch each of them, and pass the packages as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from claim import Claim
from support.arrows import PLANTS, caught, copy, lint

CLAIMS = ("planted_import",)


def measure() -> Iterator[Claim]:
    """How many of the planted imports pass unnoticed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        clean = lint(folder).returncode == 0
        found = {f"{planted!r} in {file}": caught(folder, file, planted) for file, planted in PLANTS.items()}
    missed = sum(not each for each in found.values())
    yield Claim(
        claim="planted_import",
        value=missed,
        target="0 planted imports pass, and the packages as they are do",
        met=missed == 0 and clean,
        n=len(found),
        details={"clean_copy_passes": clean, "caught": found},
    )
