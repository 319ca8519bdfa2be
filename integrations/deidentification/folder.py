"""A folder of image files without identifiers, file by file: killed at any time, it goes on where it stopped.

A file is written whole or not at all, and only once that is on disk is it noted as done. Sources are only read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medward.attacks.validation.journal import Journal
from medward.guard.errors import MedwardError
from medward.guard.files import write_durably
from medward.guard.intake.deidentify.any_file import MOST_FILE_BYTES, deidentify_file
from medward.guard.intake.deidentify.cleaner import Deidentification
from medward.integrations.deidentification.outcome import FileOutcome, written_outcome

NOTES = ".medward-deidentify"
RULES_VERSION = 1
"""Raised when a file would now become another: what an earlier version wrote is then done again."""


@dataclass(slots=True, kw_only=True)
class FolderRun:
    """A run takes the files of `source` to `out`; the secret of its pseudonyms is in the file `key`."""

    source: Path
    out: Path
    key: Path
    how: Deidentification
    taken: set[str] = field(default_factory=set)

    def outcomes(self, paths: list[Path]) -> Iterator[FileOutcome]:
        """What became of each of `paths`, in turn; what was done before is not done again."""
        self._claim_out()
        journal = Journal(self.out / NOTES)
        for number, path in enumerate(paths, start=1):
            yield self._once(journal, number, path)

    def keep_source_list(self, paths: list[Path], outcomes: list[FileOutcome]) -> Path:
        """Write which number is which source, beside the key and for its owner only; it is what links."""
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(("number", "source", "output", "refused"))
        for path, outcome in zip(paths, outcomes, strict=True):
            name = os.fsencode(path.relative_to(self.source)).decode("utf-8", "backslashreplace")
            table.writerow((outcome.number, name, outcome.name, outcome.refused))
        place = self.key.with_name(f"{self.key.name}.{self.out.resolve().name}.csv")
        write_durably(place, text.getvalue().encode(), mode=0o600)
        return place

    def _once(self, journal: Journal, number: int, path: Path) -> FileOutcome:
        pseudonyms = self.how.pseudonyms
        source = pseudonyms.identifier("source", os.fsencode(path.relative_to(self.source)).hex())
        try:
            content = _content_of(path)
        except MedwardError as error:
            return FileOutcome(number=number, refused=str(error))
        settings = {
            "rules": RULES_VERSION,
            "source": source,
            "content": pseudonyms.identifier("content", hashlib.sha256(content).hexdigest()),
            "everywhere": self.how.everywhere,
        }
        kept, recalled = journal.once(settings, lambda: self._deidentify(number, source, content).as_json())
        outcome = FileOutcome(**{**kept, "number": number})
        if recalled and not self._still_there(outcome):
            outcome = self._deidentify(number, source, content)
        self.taken.add(outcome.name)
        return outcome

    def _deidentify(self, number: int, source: str, content: bytes) -> FileOutcome:
        try:
            file = deidentify_file(content, self.how)
        except MedwardError as error:
            return FileOutcome(number=number, refused=str(error))
        name = Path(file.name)
        if file.name in self.taken:  # two files of one instance: neither may overwrite the other
            name = name.with_name(f"{name.stem}-{source[:8]}{name.suffix}")
        place = self.out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        write_durably(place, file.content, beside=self.out / NOTES)
        return written_outcome(number, name.as_posix(), hashlib.sha256(file.content).hexdigest(), file)

    def _still_there(self, outcome: FileOutcome) -> bool:
        if outcome.refused:
            return True
        place = self.out / outcome.name
        return place.is_file() and hashlib.sha256(place.read_bytes()).hexdigest() == outcome.sha256

    def _claim_out(self) -> None:
        """Make the folder `out`, or see that it is one of an earlier run with this key."""
        notes, mine = self.out / NOTES, self.how.pseudonyms.identifier("run", "key")
        if self.out.exists() and any(self.out.iterdir()) and not notes.is_dir():
            raise MedwardError(f"{self.out}: is not empty and no earlier run's; name a new folder for --out")
        notes.mkdir(parents=True, exist_ok=True)
        said = notes / "key"
        if said.exists() and said.read_text().strip() != mine:
            raise MedwardError(f"{self.out}: was written with another key; name that --key, or another --out")
        write_durably(said, f"{mine}\n".encode())
        for torn in notes.glob(".*.tmp"):  # what a kill left half-written
            torn.unlink()


def source_files(folder: Path) -> list[Path]:
    """Every file below `folder`, in the order of their names; each becomes a file or a refusal."""
    if not folder.is_dir():
        raise MedwardError(f"{folder}: is no folder; name the one that holds the image files")
    found = [Path(place) / name for place, _, names in os.walk(folder, onerror=_stop) for name in names]
    return sorted(found, key=os.fsencode)


def check_apart(source: Path, out: Path, key: Path) -> None:
    """Refuse folders within each other, which would mix identified files with others, and a key that would leave."""
    one, two, three = source.resolve(), out.resolve(), key.resolve()
    if one == two or one in two.parents or two in one.parents:
        raise MedwardError(f"{out}: the output and the source must not lie within each other; name another --out")
    if two in three.parents:
        raise MedwardError(f"{key}: the key must not lie in the output, which is passed on; name another --key")


def followed(outcomes: Iterator[FileOutcome], each: Callable[[], None]) -> list[FileOutcome]:
    """All `outcomes`, calling `each` after every one."""
    done = []
    for outcome in outcomes:
        done.append(outcome)
        each()
    return done


def _content_of(path: Path) -> bytes:
    """The bytes of `path`; refuses links and what is no file, without naming it."""
    try:
        if path.is_symlink() or not path.is_file():
            raise MedwardError("is a link or no plain file, which is not followed")
        if (size := path.stat().st_size) > MOST_FILE_BYTES:
            raise MedwardError(f"has {size} bytes, at most {MOST_FILE_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise MedwardError(f"cannot be read ({error.strerror})") from None


def _stop(error: OSError) -> None:
    raise error
