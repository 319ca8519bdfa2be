"""Data as users have it: an npz, a folder of image or DICOM files, a CSV or Parquet table. One reader for all commands.

Every form becomes named splits (`guard.data.split`). Nothing is guessed: what a form does not say is said, or refused
by a sentence that names what to say. `protect`, `calibrate`, `harden`, `validate` and the server read alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medward.guard.columns import Column
from medward.guard.data.foreign import file_kind
from medward.guard.data.split import Split, load_npz
from medward.guard.data.table_file import READERS, read_table_file
from medward.guard.data.table_split import table_splits
from medward.guard.errors import MedwardError
from medward.guard.preparation import AS_IT_IS, Preparation


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A reading is what was said of data: how files become inputs, and where labels and patients stand.

    `target` and `patient` name columns, of a table or of the CSV `labels` that names files in a folder. `channels`,
    `low`, `high` and `prepare` are those of the images the model takes; `columns` those of a table once they are known.
    """

    low: float | None = None
    high: float | None = None
    channels: int | None = None
    prepare: Preparation = AS_IT_IS
    target: str | None = None
    patient: str | None = None
    labels: Path | None = None
    columns: tuple[Column, ...] = ()


def read_data(path: Path | str, reading: Reading) -> dict[str, Split]:
    """Read every split that `path` holds, in the form that its content shows."""
    path = Path(path)
    kind = file_kind(path) if path.is_file() else ""
    if kind in READERS:
        return _read_table(path, kind, reading)
    return load_npz(path)


def _read_table(path: Path, kind: str, reading: Reading) -> dict[str, Split]:
    """The splits of a CSV or Parquet file."""
    try:
        return table_splits(
            read_table_file(path, kind), target=reading.target, patient=reading.patient, known=reading.columns
        )
    except MedwardError as error:
        said = str(error)
        raise MedwardError(said if said.startswith(str(path)) else f"{path}: {said}") from None
