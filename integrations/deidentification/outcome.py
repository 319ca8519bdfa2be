"""What became of one file of a folder, without its name and without anything of what it said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medward.guard.intake.deidentify.cleaner import DeidentifiedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """A file outcome says that a file was written, or refused and why: counts by kind, never values.

    `number` is its place in the sorted list of sources, which stays with the key.
    """

    number: int
    name: str = ""
    sha256: str = ""
    kind: str = ""
    frames: int = 0
    removed: Mapping[str, int] = field(default_factory=dict)
    markers: int = 0
    pixels_changed: bool = False
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """All of it, as plain data."""
        return {**asdict(self), "removed": dict(self.removed)}


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierOutputs:
    """Earlier outputs are what other runs wrote and this one did not: some were removed, those changed since kept."""

    removed: int = 0
    kept: int = 0


def written_outcome(number: int, name: str, sha256: str, file: DeidentifiedFile) -> FileOutcome:
    """The outcome of a `file` that was written under `name`."""
    return FileOutcome(
        number=number,
        name=name,
        sha256=sha256,
        kind=file.kind,
        frames=file.frames,
        removed=dict(file.removed),
        markers=file.markers,
        pixels_changed=file.pixels_changed,
    )
