"""Data as users have it: an npz, a folder of image or DICOM files, a CSV or Parquet table. One reader for all commands.

Every form becomes named splits (`guard.data.split`). Nothing is guessed: what a form does not say is said, or refused
by a sentence that names what to say. `protect`, `calibrate`, `harden`, `validate` and the server read alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medward.guard.columns import Column
from medward.guard.data.file_tree import holds_images
from medward.guard.data.foreign import file_kind
from medward.guard.data.image_folder import ReadingProgress, read_folder
from medward.guard.data.split import Split, load_npz
from medward.guard.data.table_file import READERS, read_table_file
from medward.guard.data.table_split import table_splits
from medward.guard.errors import MedwardError
from medward.guard.intake.decode import FILE_CHANNELS
from medward.guard.intake.picture import Intake
from medward.guard.preparation import AS_IT_IS, Preparation
from medward.guard.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A reading is what was said of data: how files become inputs, and where labels and patients stand.

    `target` and `patient` name columns, of a table or of the CSV `labels` that names files in a folder. `low`, `high`,
    `channels`, `bits` and `prepare` are those of the images the model takes; `columns` those of a table once they are
    known. `recalled` are names that a bundle recalls and nobody said: data may lack them.
    """

    low: float | None = None
    high: float | None = None
    channels: int | None = None
    bits: int | None = None
    prepare: Preparation = AS_IT_IS
    target: str | None = None
    patient: str | None = None
    labels: Path | None = None
    columns: tuple[Column, ...] = ()
    recalled: tuple[str, ...] = ()


def read_data(path: Path | str, reading: Reading, progress: ReadingProgress | None = None) -> dict[str, Split]:
    """Read every split that `path` holds, in the form that its content shows; `progress` hears of files read."""
    path = Path(path)
    if path.is_dir() and holds_images(path):
        return _image_folder(path, reading, progress)
    kind = file_kind(path) if path.is_file() else ""
    if kind in READERS:
        return _named_after(path, _table_file(path, kind, reading))
    for option, name in (("target", reading.target), ("patient", reading.patient)):
        if name is not None and name not in reading.recalled:
            raise MedwardError(
                f"{path}: {option} = {name!r} names a column, and an npz has none: labels and patients are its arrays "
                "<split>_labels and <split>_patients; leave it out"
            )
    return load_npz(path)


def _named_after(path: Path, splits: dict[str, Split]) -> dict[str, Split]:
    """The splits of a table; the only one of a file that is called test or holdout has that name."""
    return {path.stem: splits["data"]} if list(splits) == ["data"] and path.stem in ("test", "holdout") else splits


def spec_reading(spec: ModelSpec, said: Reading) -> Reading:
    """What is `said` of data for the model of `spec`: files become inputs as those did that it was protected on."""
    channels = spec.shape[0] if spec.kind == "image" else None
    return replace(
        said,
        low=spec.low,
        high=spec.high,
        channels=channels,
        bits=spec.bits,
        prepare=spec.prepare,
        columns=spec.columns,
    )


def _image_folder(path: Path, reading: Reading, progress: ReadingProgress | None) -> dict[str, Split]:
    if reading.channels not in (None, *FILE_CHANNELS):
        raise MedwardError(f"{path}: files have 1 or 3 channels, the model takes {reading.channels}; give an npz")
    target, patient = reading.target, reading.patient
    if reading.labels is None:
        target, patient = (None if name in reading.recalled else name for name in (target, patient))
    intake = Intake(
        low=reading.low, high=reading.high, channels=reading.channels, bits=reading.bits, prepare=reading.prepare
    )
    return read_folder(path, intake, labels=reading.labels, target=target, patient=patient, progress=progress)


def _table_file(path: Path, kind: str, reading: Reading) -> dict[str, Split]:
    """The splits of a CSV or Parquet file."""
    try:
        return table_splits(
            read_table_file(path, kind, reading.patient),
            target=reading.target,
            patient=reading.patient,
            known=reading.columns,
            optional=reading.recalled,
        )
    except MedwardError as error:
        said = str(error)
        raise MedwardError(said if said.startswith(str(path)) else f"{path}: {said}") from None
