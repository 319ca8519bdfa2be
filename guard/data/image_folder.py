"""A folder of PNG, JPEG and DICOM files as splits.

Where files lie says what they are (`guard.data.file_tree`), or a CSV does (`guard.data.label_file`); DICOM files say
themselves whose they are. They are decoded one at a time into one array: 8-bit pixels unscaled where all files are PNG
or JPEG, else float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.data.file_tree import first_bytes, folder_classes, image_files, split_folders
from medward.guard.data.label_file import LabelFile, read_label_file
from medward.guard.data.labels import patient_numbers, read_labels
from medward.guard.data.split import Split, log
from medward.guard.errors import MedwardError
from medward.guard.intake.decode import decode_file, is_dicom
from medward.guard.intake.picture import Intake, scaled_picture

ReadingProgress = Callable[[int, int], None]
"""Told how many files are read, of how many."""
MOST_BYTES = 2**30  # of one file


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What the files of a folder held, in order."""

    values: NDArray[Any]
    kinds: list[str]
    bits: int | None
    patients: list[str]
    studies: list[str]


def read_folder(
    folder: Path,
    intake: Intake,
    *,
    labels: Path | None = None,
    target: str | None = None,
    patient: str | None = None,
    progress: ReadingProgress | None = None,
) -> dict[str, Split]:
    """Read every split of `folder` as `intake` says; `labels` is a CSV with columns `file`, `target` and `patient`."""
    if labels is None and (target or patient):
        raise MedwardError(f"{folder}: --target and --patient name columns of a CSV of labels; say --labels too")
    files = image_files(folder, labels)
    names = [file.relative_to(folder).as_posix() for file in files]
    splits = split_folders(folder, names)
    said = None if labels is None else read_label_file(labels, names, target, patient)
    places = {split: [at for at, each in enumerate(splits) if each == split] for split in dict.fromkeys(splits)}
    classes: dict[str, list[str] | None] = dict.fromkeys(places)
    if said is None:
        for split, at in places.items():
            classes[split] = folder_classes(folder, [names[index].removeprefix(f"{split}/") for index in at])
    decoded = _decoded(folder, files, intake, progress)
    found = {}
    for split, at in places.items():
        found[split] = _split(decoded, at, None if said is None else said.take(at), classes[split])
        _tell(folder, split, decoded, at, found[split], intake)
    return found


def _decoded(folder: Path, files: Sequence[Path], intake: Intake, progress: ReadingProgress | None) -> _Decoded:
    """Every file's values in one array; files that cannot be used are counted, and the first is named."""
    floats = (intake.bits or 8) > 8 or any(is_dicom(first_bytes(file)) for file in files)
    if floats and (intake.low is None or intake.high is None):
        raise MedwardError(
            f"{folder}: DICOM values and deep pixels become values of a range that was not said; say --low and --high, "
            "as --low 0 --high 1"
        )
    values, first = None, ""
    kinds, depths, patients, studies, failures = [], dict[int, str](), [], [], []
    for index, file in enumerate(files):
        try:
            picture = decode_file(_content(file), intake)
            pixels = scaled_picture(picture, intake) if floats else _as_said(picture.values, intake.channels)
            if values is None:
                values, first = _room(folder, len(files), pixels), file.name
            _check_alike(values[0], pixels, first, floats)
            values[index] = pixels
            kinds.append(picture.kind)
            if picture.bits is not None:
                depths.setdefault(picture.bits, file.name)
            patients.append(picture.patient)
            studies.append(picture.study)
        except MedwardError as error:
            failures.append(f"{file.relative_to(folder).as_posix()} {error}")
        if progress is not None:
            progress(index + 1, len(files))
    if failures or values is None:
        raise MedwardError(f"{folder}: {len(failures)} of {len(files)} files cannot be used; {failures[0]}")
    if len(depths) > 1:
        (some, one), (more, other), *_ = sorted(depths.items())
        raise MedwardError(
            f"{folder}: {one} stores {some} bits and {other} {more}, so white differs in both; say --window file "
            "or --window 40,400, or give files of one depth"
        )
    return _Decoded(values, kinds, next(iter(depths), None), patients, studies)


def _content(file: Path) -> bytes:
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise MedwardError(f"has {size} bytes, at most {MOST_BYTES} are read")
        return file.read_bytes()
    except OSError as error:
        raise MedwardError(f"cannot be read: {error.strerror}") from None


def _as_said(pixels: NDArray[Any], channels: int | None) -> NDArray[Any]:
    """8-bit `pixels` as ``(H, W)`` or ``(H, W, 3)``."""
    return np.repeat(pixels[..., None], 3, axis=2) if channels == 3 and pixels.ndim == 2 else pixels


def _room(folder: Path, count: int, pixels: NDArray[Any]) -> NDArray[Any]:
    try:
        return np.empty((count, *pixels.shape), pixels.dtype)
    except MemoryError:
        size = count * pixels.nbytes / 2**30
        raise MedwardError(f"{folder}: its {count} files need {size:.1f} GiB; say --resize, or give fewer") from None


def _check_alike(first: NDArray[Any], pixels: NDArray[Any], name: str, floats: bool) -> None:
    """Refuse `pixels` of another size, or colour beside grey."""
    if first.shape == pixels.shape:
        return
    (height, width, depth), (tall, wide, deep) = (_size(each, floats) for each in (first, pixels))
    if depth != deep:
        words = {1: "grey", 3: "colour"}
        raise MedwardError(f"is {words[deep]}, {name} is {words[depth]}; say --channels 1 or --channels 3 for all")
    raise MedwardError(
        f"is {wide} x {tall} (width x height), {name} is {width} x {height}; say --resize {height}x{width}, or as the "
        "model takes them"
    )


def _size(pixels: NDArray[Any], floats: bool) -> tuple[int, int, int]:
    """Height, width and channels."""
    shape = pixels.shape
    return (*shape[1:], shape[0]) if floats else (*shape[:2], 1 if len(shape) == 2 else 3)


def _split(decoded: _Decoded, at: Sequence[int], said: LabelFile | None, classes: list[str] | None) -> Split:
    """The rows `at` with the labels that the CSV says, else their folders."""
    values = decoded.values if len(at) == len(decoded.values) else decoded.values[at[0] : at[-1] + 1]
    labels, names = None, None
    if said is not None:
        labels, names = read_labels(said.labels, len(at), "labels")
    elif classes is not None:
        names = np.array(classes)
    whose: NDArray[np.str_] | None = None if said is None else said.patients
    if whose is None and all(known := [decoded.patients[index] for index in at]):
        whose = np.array(known)
    findings = () if said is None else said.findings
    numbers = None if whose is None else patient_numbers(whose, len(at), "patients")
    return Split(values, labels, numbers, names, findings, decoded.bits)


def _tell(folder: Path, name: str, decoded: _Decoded, at: Sequence[int], split: Split, intake: Intake) -> None:
    """Log one line of what was understood, and that patients are not known of all where some files say theirs."""
    kinds = [decoded.kinds[index] for index in at]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    height, width, depth = _size(split.inputs[0], split.inputs.dtype != np.uint8)
    patients = "patients not known" if split.patients is None else f"{len(np.unique(split.patients))} patients"
    studies = len({decoded.studies[index] for index in at} - {""})
    parts = [
        f"{counts} files",
        f"{width} x {height}, {'grey' if depth == 1 else 'colour'}",
        *([intake.prepare.words] if intake.prepare.words else []),
        patients + (f", {studies} studies" if studies else ""),
        "no labels" if split.labels is None and split.names is None else _label_words(split),
    ]
    log.info("%s, %s: %s", folder, name, "; ".join(parts))
    missing = [not decoded.patients[index] for index in at].count(True)
    if split.patients is None and 0 < missing < len(at):
        log.warning("%s, %s: %d files do not say whose they are, so patients count for none", folder, name, missing)


def _label_words(split: Split) -> str:
    if split.names is not None:
        known, counts = np.unique(split.names, return_counts=True)
        return "classes " + ", ".join(f"{each} {count}" for each, count in zip(known, counts, strict=True))
    assert split.labels is not None
    return "labels from a CSV" if split.labels.ndim == 1 else f"{split.labels.shape[1]} findings from a CSV"
