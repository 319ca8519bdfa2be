"""A folder of image files without identifiers, file by file: killed at any time, it goes on where it stopped.

A file is written whole or not at all, and only once that is on disk is it noted as done. Sources are only read. What
an earlier run wrote and this one did not goes: no output stands in the folder that its report does not list. The
report of an earlier run goes first: a folder without a report is not finished.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medward.attacks.validation.journal import Journal
from medward.guard.errors import MedwardError
from medward.guard.files import append_durably, write_durably
from medward.guard.intake.deidentify.any_file import MOST_FILE_BYTES, deidentify_file
from medward.guard.intake.deidentify.cleaner import Deidentification
from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.integrations.deidentification.outcome import EarlierOutputs, FileOutcome, written_outcome
from medward.integrations.deidentification.report import NOTES, REPORT_FILES

RULES_VERSION = 2
"""Raised when a file would now become another: what an earlier version wrote is then done again."""
_FINGERPRINT = "key-fingerprint"
"""Of the key that the folder was written with: a keyed digest, from which nobody gets the key."""
_WRITTEN = "written"
"""The list of every output, by digest and name, that was ever begun: one that a kill kept from the journal too."""


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
        out = self.out.resolve()
        told_apart = hashlib.sha256(os.fsencode(out)).hexdigest()[:8]  # folders of one name in other places
        place = self.key.with_name(f"{self.key.name}.{out.name}.{told_apart}.csv")
        write_durably(place, text.getvalue().encode(), mode=0o600)
        return place

    def remove_earlier(self, outcomes: Iterable[FileOutcome]) -> EarlierOutputs:
        """Remove what earlier runs wrote and none of `outcomes` names; what was changed since stays."""
        now = {each.name for each in outcomes}
        written: dict[str, set[str]] = {}
        for name, digest in self._ever_written():
            written.setdefault(name, set()).add(digest)
        removed = kept = 0
        for name in sorted(written.keys() - now):
            place = self.out / name
            if place.is_symlink() or not place.is_file() or self.out.resolve() not in place.resolve().parents:
                continue
            if hashlib.sha256(place.read_bytes()).hexdigest() not in written[name]:
                kept += 1
                continue
            place.unlink()
            removed += 1
            _remove_empty(place.parent, self.out)
        return EarlierOutputs(removed=removed, kept=kept)

    def _ever_written(self) -> Iterator[tuple[str, str]]:
        """Name and digest of every output that a run into this folder wrote or was about to write."""
        notes = self.out / NOTES
        listed = notes / _WRITTEN
        for line in listed.read_text("utf-8", "replace").splitlines() if listed.exists() else ():
            digest, _, name = line.partition(" ")
            if name:
                yield name, digest
        journal = Journal(notes)
        for path in notes.glob("*.json"):
            kept = journal.recall(path.stem)
            if isinstance(kept, dict) and kept.get("name"):
                yield kept["name"], kept["sha256"]

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
        digest = hashlib.sha256(file.content).hexdigest()
        append_durably(self.out / NOTES / _WRITTEN, f"{digest} {name.as_posix()}\n".encode())
        place.parent.mkdir(parents=True, exist_ok=True)
        write_durably(place, file.content, beside=self.out / NOTES)
        return written_outcome(number, name.as_posix(), digest, file)

    def _still_there(self, outcome: FileOutcome) -> bool:
        if outcome.refused:
            return True
        place = self.out / outcome.name
        return place.is_file() and hashlib.sha256(place.read_bytes()).hexdigest() == outcome.sha256

    def _claim_out(self) -> None:
        """Make the folder `out`, or take over that of an earlier run with this key."""
        check_out(self.out, self.key, self.how.pseudonyms)
        notes = self.out / NOTES
        notes.mkdir(parents=True, exist_ok=True)
        write_durably(notes / _FINGERPRINT, f"{_fingerprint(self.how.pseudonyms)}\n".encode())
        for torn in notes.glob(".*.tmp"):  # what a kill left half-written
            torn.unlink()
        for name in REPORT_FILES:
            (self.out / name).unlink(missing_ok=True)


def source_files(folder: Path) -> list[Path]:
    """Every file and linked folder below `folder`, in the order of their names; each becomes a file or a refusal.

    Raises `MedwardError` where there is none, and where a folder cannot be listed, without naming it.
    """
    if not folder.is_dir():
        raise MedwardError(f"{folder}: is no folder; name the one that holds the image files")

    def stop(error: OSError) -> None:
        raise MedwardError(
            f"{folder}: a folder in it cannot be listed ({error.strerror}), and which may name a patient; "
            "find it with `find FOLDER -type d ! -readable`"
        )

    found = []
    for place, folders, names in os.walk(folder, onerror=stop):
        linked = [name for name in folders if (Path(place) / name).is_symlink()]  # os.walk does not enter them
        found += [Path(place) / name for name in (*names, *linked)]
    if not found:
        raise MedwardError(f"{folder}: holds 0 files at any depth; name the folder that holds the image files")
    return sorted(found, key=os.fsencode)


def check_apart(source: Path, out: Path, key: Path) -> None:
    """Refuse folders within each other, which would mix identified files with others, and a key within one of them."""
    one, two = source.resolve(), out.resolve()
    places = key.resolve(), key.parent.resolve() / key.name  # the list of sources goes beside a link, not its end
    around_key = {each for place in places for each in (place, *place.parents)}
    if one == two or one in two.parents or two in one.parents:
        raise MedwardError(f"{out}: the output and the source must not lie within each other; name another --out")
    if two in around_key:
        raise MedwardError(f"{key}: the key must not lie in the output, which is passed on; name another --key")
    if one in around_key:
        raise MedwardError(f"{key}: the key must not lie in the source, which is only read; name another --key")


def check_key_file(key: Path) -> None:
    """Refuse a place where no key, or no list of sources beside it, can be written; make nothing."""
    if not key.parent.is_dir():
        raise MedwardError(f"{key}: {key.parent} is no folder; make it first, or name another file for --key")
    if os.path.lexists(key) and not key.is_file():
        raise MedwardError(f"{key}: is a folder or no plain file; name a file, there or not yet, for --key")
    if not os.access(key.parent, os.W_OK | os.X_OK) or (key.exists() and not os.access(key, os.R_OK)):
        raise MedwardError(f"{key}: cannot be read, or nothing be written beside it; name another file for --key")


def check_out(out: Path, key: Path, pseudonyms: Pseudonyms | None) -> None:
    """Refuse an output that cannot be a folder, or is none of an earlier run with these `pseudonyms`; make nothing.

    Without `pseudonyms`, where no `key` is made yet, it is no earlier run's.
    """
    place = next(each for each in (out, *out.parents) if os.path.lexists(each))
    if not place.is_dir():
        raise MedwardError(f"{place}: is no folder; name a new folder for --out")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise MedwardError(f"{place}: cannot be written; name another folder for --out")
    notes = out / NOTES
    if out.exists() and any(out.iterdir()) and not notes.is_dir():
        raise MedwardError(f"{out}: is not empty and no earlier run's; name a new folder for --out")
    said = notes / _FINGERPRINT
    if said.exists() and (pseudonyms is None or said.read_text().strip() != _fingerprint(pseudonyms)):
        raise MedwardError(f"{out}: was written with another key than {key}; name that for --key, or another --out")


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


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove `folder`, and those above it below `root`, as far as nothing is in them."""
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _fingerprint(pseudonyms: Pseudonyms) -> str:
    return pseudonyms.identifier("run", "key")
