"""Who is suspected, and how its decisions are learned: a model, a bundle, or answers to what was asked elsewhere.

A suspect is usually behind somebody's interface. So the inputs can be written out (`write_inputs`), asked there by
whatever means, and the labels that came back read (`read_answers`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medward.attacks.ownership.candidates import grey_levels
from medward.attacks.ownership.fingerprint import Fingerprint
from medward.guard.bundle.card import CARD
from medward.guard.bundle.folder import load_bundle
from medward.guard.columns import decode_rows
from medward.guard.errors import MedwardError
from medward.guard.files import write_durably
from medward.guard.models import describe_model, wrap
from medward.guard.models.base import Model, first_line
from medward.guard.models.sources import open_source
from medward.guard.profile import forward_batches
from medward.guard.types import Array, Ints

INPUTS_FILE, ANSWERS_FILE = "inputs.npz", "answers.csv"
_IMAGES = "images"


def suspect_answers(found: Fingerprint, suspect: str, *, allow_code: bool = False) -> Ints:
    """What `suspect` decides on a fingerprint's inputs ``(n,)``, -1 where nothing was answered.

    It is a bundle's folder, a file of answers (``.csv``, or ``.npz`` with labels), a folder that inputs were written
    to, or what `protect` takes for a model. Raises `MedwardError` where it answers other classes or takes other inputs.
    """
    path = Path(suspect)
    if path.is_dir() and (path / ANSWERS_FILE).is_file():
        return read_answers(found, path / ANSWERS_FILE)
    if path.suffix.lower() in (".csv", ".npz"):
        return read_answers(found, path)
    if path.is_dir() and (path / CARD).is_file():
        model: Model = load_bundle(path, allow_code=allow_code).model
        return _decisions(found, model, model.spec.classes, model.spec.shape)
    source = open_source(suspect, allow_code=allow_code)
    known = describe_model(source.model)
    named = source.classes or known.get("classes")
    model = wrap(source.model, spec=found.spec, sample=found.inputs, task=found.spec.task.kind)
    return _decisions(found, model, found.spec.classes if named is None else tuple(map(str, named)), found.spec.shape)


def write_inputs(found: Fingerprint, folder: Path) -> None:
    """Write the inputs to ask a suspect about to an empty or new `folder`, and a file of answers to fill in.

    ``inputs.npz`` has all as they are. Beside it a table's rows are ``inputs.csv`` with its columns, and images of one
    or three channels that have a range PNG files of 8 bits. ``answers.csv`` has a line for each, its label empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MedwardError(f"{folder}: is there and not empty; choose another folder for the inputs")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    buffer, spec = io.BytesIO(), found.spec
    np.savez_compressed(buffer, allow_pickle=False, inputs=found.inputs.reshape(len(found), *spec.row_shape))
    write_durably(folder / INPUTS_FILE, buffer.getvalue(), mode=0o600)
    names = _input_names(found)
    if spec.modality == "tabular":
        columns = decode_rows(found.inputs, spec.columns) if spec.columns else _numbered(found.inputs)
        rows = [list(row) for row in zip(names, *columns.values(), strict=True)]
        _write_csv(folder / "inputs.csv", [["input", *columns], *rows])
    elif _has_image_files(found):
        from PIL import Image

        (folder / _IMAGES).mkdir(mode=0o700)
        for name, image in zip(names, grey_levels(spec, found.inputs), strict=True):
            pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "png")
            write_durably(folder / _IMAGES / name, file.getvalue(), mode=0o600)
    _write_csv(folder / ANSWERS_FILE, [["input", "label"], *([name, ""] for name in names)])


def read_answers(found: Fingerprint, path: Path) -> Ints:
    """The labels ``(n,)`` that came back, by name or number of the class; -1 where a line has none.

    A CSV has columns ``input`` and ``label`` and its lines in any order; an npz ``labels (n,)`` in order. Raises
    `MedwardError` for unknown inputs and labels.
    """
    if not path.is_file():
        raise MedwardError(f"{path}: there is no such file of answers")
    if path.suffix.lower() == ".npz":
        labels = _npz_labels(path)
        if len(labels) != len(found):
            raise MedwardError(f"{path}: has {len(labels)} labels, the fingerprint has {len(found)} inputs")
        return _class_numbers(found, labels, path)
    places = {name: place for place, name in enumerate(_input_names(found))}
    decided, told = np.full(len(found), -1, np.int64), [""] * len(found)
    for name, label in _csv_lines(path):
        if name not in places:
            raise MedwardError(
                f"{path}: {name!r} is no input of this fingerprint, which has {', '.join([*places][:2])}, ..."
            )
        if told[places[name]]:
            raise MedwardError(f"{path}: input {name!r} is answered twice; leave one line")
        told[places[name]] = label
    decided[:] = _class_numbers(found, told, path)
    return decided


def _decisions(found: Fingerprint, model: Model, classes: tuple[str, ...], shape: tuple[int, ...]) -> Ints:
    """The model's decisions in the order of the fingerprint's classes."""
    wanted = found.spec.classes
    if shape != found.spec.shape:
        raise MedwardError(f"suspect: takes inputs of shape {shape}, the fingerprint's have {found.spec.shape}")
    if set(classes) != set(wanted):
        raise MedwardError(
            f"suspect: decides {', '.join(classes)}, the fingerprint's model {', '.join(wanted)}; ask it elsewhere and "
            f"give its answers as {ANSWERS_FILE}, in the model's words"
        )
    decided = model.spec.decide(forward_batches(model, model.spec.check(found.inputs)).scores)
    return np.array([wanted.index(each) for each in classes], np.int64)[decided]


def _class_numbers(found: Fingerprint, labels: Sequence[object], path: Path) -> Ints:
    classes = [name.lower() for name in found.spec.classes]
    names = {"": -1, "-1": -1} | {name: number for number, name in enumerate(classes)}
    numbers = {str(number): number for number in range(len(classes))}
    if said := all(names.get(word, number) == number for word, number in numbers.items()):
        names |= numbers
    words = [str(each).strip().lower() for each in labels]
    if unknown := next((each for each in words if each not in names), None):
        raise MedwardError(
            f"{path}: label {unknown!r} is no class; there are {', '.join(found.spec.classes)}"
            + ("" if said else ", which are names and, being digits, may not be said as numbers from 0 on")
        )
    return np.array([names[each] for each in words], np.int64)


def _input_names(found: Fingerprint) -> list[str]:
    ending = ".png" if _has_image_files(found) else ""
    return [f"{place:04d}{ending}" for place in range(len(found))]


def _numbered(inputs: Array) -> dict[str, Array]:
    return {f"column {place}": values for place, values in enumerate(inputs.T)}


def _has_image_files(found: Fingerprint) -> bool:
    spec = found.spec
    bounded = spec.low is not None and spec.high is not None
    return spec.kind == "image" and spec.shape[0] in (1, 3) and bounded


def _npz_labels(path: Path) -> list[object]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            if "labels" not in archive.files:
                raise MedwardError(f"{path}: has no array labels, only {', '.join(archive.files)}")
            return list(archive["labels"].reshape(-1).tolist())
    except MedwardError:
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise MedwardError(f"{path}: not a readable npz without pickled objects: {first_line(error)}") from None


def _csv_lines(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise MedwardError(f"{path}: not a readable CSV in UTF-8: {first_line(error)}") from None
    if not table or not {"input", "label"} <= set(table[0]):
        raise MedwardError(f"{path}: needs columns input and label, as {ANSWERS_FILE} beside the inputs has them")
    return [(str(row["input"]).strip(), str(row["label"] or "").strip()) for row in table]


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_durably(path, text.getvalue().encode(), mode=0o600)
