"""A report on disk with the bundle it is of: what every piece of evidence is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medward.attacks.validation.record import Report
from medward.guard.bundle.card import CARD, Card, sha256
from medward.guard.bundle.parts import read_card, verified_parts
from medward.guard.errors import IntegrityError, MedwardError


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A report file is the bytes of a ``report.json`` and what they say."""

    path: Path
    digest: str
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatedBundle:
    """A validated bundle is the card of the bundle that a report is of, and the SHA-256 of each of its files."""

    path: Path
    card: Card
    files: Mapping[str, str]


def read_report_file(path: Path | str) -> ReportFile:
    """The report at `path`, its file or its folder. Raises `MedwardError` where there is none."""
    given = Path(path)
    file = given / "report.json" if given.is_dir() else given
    try:
        data = file.read_bytes()
    except OSError as error:
        raise MedwardError(f"{file}: the report cannot be read: {error.strerror}; give its folder") from None
    return ReportFile(path=file, digest=sha256(data), report=Report.from_bytes(data, file))


def validated_bundle(given: ReportFile, path: Path | str | None = None) -> ValidatedBundle:
    """The bundle that a report is of: at `path`, or where the report says that it was.

    Raises `MedwardError` where it is not there and for another bundle, `IntegrityError` for one that was changed.
    """
    said = given.report.places.get("bundle")
    if path is None and (said is None or not Path(said).is_dir()):
        place = "does not say where its bundle is" if said is None else f"is of a bundle that is not at {said} any more"
        raise MedwardError(f"{given.path}: {place}; give its folder with --bundle")
    folder = Path(str(said)) if path is None else Path(path)
    card = read_card(folder)
    if card.digest != given.report.provenance.bundle:
        raise MedwardError(
            f"{given.path}: is of bundle {given.report.provenance.bundle[:12]}, and {folder} is {card.digest[:12]}; "
            "give the bundle that was validated, or validate this one"
        )
    files = {name: sha256(part) for name, part in verified_parts(folder, card, skip=()).items()}
    card_bytes = (folder / CARD).read_bytes()
    if Card.from_bytes(card_bytes) != card:
        raise IntegrityError(f"{folder / CARD}: changed while it was read; try again")
    return ValidatedBundle(path=folder, card=card, files=dict(sorted({CARD: sha256(card_bytes), **files}.items())))
