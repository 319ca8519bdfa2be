"""Data in every form that hospitals have it in, small, with what a reader must find in it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.clinical import sepsis_table
from support.dicom_files import dicom_file

from medward.guard.data.reading import Reading
from medward.guard.preparation import Preparation

ROWS, SIDE = 12, 16
CLASSES = ("clear", "opacity")
UNIT = {"low": 0.0, "high": 1.0}


@dataclass(frozen=True, kw_only=True)
class DataForm:
    """Data as a user has it: `make` puts it into a folder and gives what is handed to the reader.

    `shape` is that of all inputs once read, `labelled` and `patients` what must have been found beside them.
    """

    make: Callable[[Path], Any]
    shape: tuple[int, ...]
    said: Mapping[str, Any] = field(default_factory=dict)
    labelled: bool = True
    patients: bool = False
    reader: str = "guard/data/split.py"

    def reading(self, folder: Path) -> Reading:
        """What was said of it; a CSV of labels lies in `folder`."""
        where = {"labels": folder / self.said["labels"]} if "labels" in self.said else {}
        return Reading(**{**self.said, **where})


def pictures(n: int = ROWS) -> np.ndarray:
    """Grey pixels of 8 bits."""
    return np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE), dtype=np.uint8)


def labels(n: int = ROWS) -> np.ndarray:
    """Places of the two classes, by turns."""
    return np.arange(n) % 2


def by_class(folder: Path) -> Path:
    """PNG files in a folder for each class."""
    for i, (image, label) in enumerate(zip(pictures(), labels(), strict=True)):
        path = folder / "images" / CLASSES[label] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder / "images"


def with_labels(folder: Path) -> Path:
    """PNG files, and a CSV that names them."""
    with (folder / "labels.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["file", "finding", "patient"])
        (folder / "images").mkdir()
        for i, (image, label) in enumerate(zip(pictures(), labels(), strict=True)):
            Image.fromarray(image).save(folder / "images" / f"{i:02d}.png")
            out.writerow([f"{i:02d}.png", CLASSES[label], f"P{i // 2}"])
    return folder / "images"


def dicom_folder(folder: Path) -> Path:
    """DICOM files in a folder for each class, two of each patient."""
    for i, (image, label) in enumerate(zip(pictures(), labels(), strict=True)):
        path = folder / "images" / CLASSES[label] / f"{i:02d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dicom_file(image, patient=f"P{i // 2}"))
    return folder / "images"


def saved(**arrays: np.ndarray) -> Callable[[Path], Path]:
    """An npz of these arrays."""

    def make(folder: Path) -> Path:
        np.savez(folder / "data.npz", **arrays)
        return folder / "data.npz"

    return make


def table_file(kind: str) -> Callable[[Path], Path]:
    """A clinical table as CSV or Parquet."""

    def make(folder: Path) -> Path:
        frame = frame_of_patients()
        path = folder / f"patients.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
        return path

    return make


def frame_of_patients() -> Any:
    """A DataFrame with a target and a patient column."""
    return sepsis_table(ROWS)


def torch_dataset(_: Path) -> Any:
    """A torch Dataset of (image, class)."""
    import torch

    x = torch.from_numpy(pictures()[:, None].astype(np.float32) / 255)
    return torch.utils.data.TensorDataset(x, torch.from_numpy(labels()))


def hugging_face_dataset(_: Path) -> Any:
    """A Hugging Face Dataset of images and labels."""
    import datasets

    columns = {"image": [Image.fromarray(each) for each in pictures()], "label": labels().tolist()}
    return datasets.Dataset.from_dict(
        columns,
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}),
    )


RNG = np.random.default_rng(1)
TABLE = {"target": "sepsis", "patient": "mrn"}
FOLDER, TABLES, OBJECTS = (f"guard/data/{name}.py" for name in ("image_folder", "table_file", "objects"))
FORMS: Mapping[str, DataForm] = {
    "DICOM folder by class": DataForm(
        make=dicom_folder,
        shape=(ROWS, 1, SIDE, SIDE),
        said={**UNIT, "prepare": Preparation(window="pixels")},
        patients=True,
        reader=FOLDER,
    ),
    "PNG folder by class": DataForm(make=by_class, shape=(ROWS, SIDE, SIDE), reader=FOLDER),
    "PNG folder with a labels CSV": DataForm(
        make=with_labels,
        shape=(ROWS, SIDE, SIDE),
        said={"labels": "labels.csv", "target": "finding", "patient": "patient"},
        patients=True,
        reader=FOLDER,
    ),
    "CSV": DataForm(make=table_file("csv"), shape=(ROWS,), said=TABLE, patients=True, reader=TABLES),
    "Parquet": DataForm(make=table_file("parquet"), shape=(ROWS,), said=TABLE, patients=True, reader=TABLES),
    "npz": DataForm(make=saved(inputs=RNG.random((ROWS, 4)), labels=labels()), shape=(ROWS, 4)),
    "MedMNIST 2-D": DataForm(
        make=saved(test_images=pictures(), test_labels=labels()[:, None]), shape=(ROWS, SIDE, SIDE)
    ),
    "MedMNIST 3-D": DataForm(
        make=saved(test_images=RNG.integers(0, 256, (ROWS, 8, 8, 8), dtype=np.uint8), test_labels=labels()[:, None]),
        shape=(ROWS, 8, 8, 8),
    ),
    "signals (n, leads, samples)": DataForm(
        make=saved(inputs=RNG.random((ROWS, 12, 100), np.float32), labels=labels()), shape=(ROWS, 12, 100)
    ),
    "volumes (n, 1, D, H, W)": DataForm(
        make=saved(inputs=RNG.random((ROWS, 1, 4, 8, 8), np.float32), labels=labels()), shape=(ROWS, 1, 4, 8, 8)
    ),
    "pandas DataFrame": DataForm(
        make=lambda _: frame_of_patients(), shape=(ROWS,), said=TABLE, patients=True, reader=OBJECTS
    ),
    "torch Dataset": DataForm(make=torch_dataset, shape=(ROWS, 1, SIDE, SIDE), reader=OBJECTS),
    "Hugging Face Dataset": DataForm(make=hugging_face_dataset, shape=(ROWS, SIDE, SIDE), reader=OBJECTS),
}
