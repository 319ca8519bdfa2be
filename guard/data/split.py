"""Data as it travels between commands: one npz, named splits.

A split `s` is ``s_inputs`` or ``s_images`` (n, ...), and where known ``s_labels`` (n,) or (n, 1), class numbers or
names, and ``s_patients`` (n,), numbers or texts. An npz with bare ``inputs``/``images`` holds one split called "data".
MedMNIST's 2-D files are read as they are. Names with a meaning: "train" (the model saw it), "calibration" (benign,
unseen), "holdout" (unseen, same draw as train), "test". What whole-number images mean is in `guard.data.pixels`.
Pickled arrays are refused.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.data.foreign import check_npz, refuse_object
from medward.guard.data.labels import Labels, Names, patient_numbers, read_labels, task_labels
from medward.guard.data.pixels import LAYOUT_WORDS, check_span, conformed_images
from medward.guard.data.resized import resized_inputs
from medward.guard.data.table_rows import encoded_rows
from medward.guard.data.task_quality import AnyQuality
from medward.guard.errors import MedwardError
from medward.guard.named_values import Table
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import Task
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints, Layout

log = logging.getLogger("medward.data")
"""What was understood of data, for a person: one line per split before work begins, and what looks odd as warnings."""


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs ``(n, ...)`` with, where known, labels and patient numbers ``(n,)``.

    Inputs may be a table of named columns (`guard.named_values`), until the model says how those become numbers.

    `labels` are decisions of the model's task (`guard.tasks`: places of classes, sets of findings) or, of a regression
    model, numbers. Until `label_split` knows the task they are as they were given: class names in `names`, findings as
    a table ``(n, K)``, whose columns `findings` name where that is known. `bits` are those of the DICOM files that
    inputs were read from, where white is what these hold.
    """

    inputs: Array
    labels: Labels | None = None
    patients: Ints | None = None
    names: Names | None = None
    findings: tuple[str, ...] = ()
    bits: int | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Ints | slice) -> Split:
        """The rows at `index`."""
        return Split(
            self.inputs[index],
            None if self.labels is None else self.labels[index],
            None if self.patients is None else self.patients[index],
            None if self.names is None else self.names[index],
            self.findings,
            self.bits,
        )


def load_npz(path: Path) -> dict[str, Split]:
    """Read every split of an npz, raw: nothing is scaled or matched to classes until the model is known."""
    path = Path(path)
    check_npz(path)
    arrays: dict[str, NDArray[Any]] = {}
    key = ""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                arrays[key] = archive[key]
    except Exception as error:  # a damaged file can make NumPy and zipfile raise nearly anything
        why = str(error) if key else "it is empty, damaged or another kind of file"
        if key and ("pickle" in why or "Object arrays" in why):
            why = f"{key} holds Python objects; save numbers or texts, {key}.astype('float32') or {key}.astype(str)"
        raise MedwardError(f"{path}: not a readable npz without pickled objects: {why}") from None
    splits, used = {}, set()
    for key, values in arrays.items():
        name, _, kind = key.rpartition("_")
        if kind not in ("inputs", "images"):
            continue
        prefix = f"{name}_" if name else ""
        if (name or "data") in splits:
            raise MedwardError(f"{path}: has both {prefix}inputs and {prefix}images; leave one out")
        labels, patients = f"{prefix}labels", f"{prefix}patients"
        used |= {key, labels, patients}
        try:
            splits[name or "data"] = _read(values, arrays.get(labels), arrays.get(patients), None, key, prefix)
        except MedwardError as error:
            raise MedwardError(f"{path}: {error}") from None
    if not splits:
        found = ", ".join(arrays) or "none"
        first, second = [*arrays, "x", "y"][:2]
        raise MedwardError(
            f"{path}: no array named inputs, images, <split>_inputs or <split>_images; it has {found}; rename them, as "
            f"np.savez('data.npz', inputs={first}, labels={second})"
        )
    if unread := sorted(set(arrays) - used):
        log.warning("%s: not read, for no split has these names: %s", path, ", ".join(unread))
    return splits


def save_npz(path: Path, splits: Mapping[str, Split]) -> None:
    """Write splits so that `load_npz` reads them back equal."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, split in splits.items():
        arrays[f"{name}_inputs"] = split.inputs
        labels = split.labels if split.names is None else split.names
        for what, column in (("labels", labels), ("patients", split.patients)):
            if column is not None:
                arrays[f"{name}_{what}"] = column
    np.savez_compressed(path, allow_pickle=False, **arrays)


def check_split(split: object) -> Split:
    """`split` with inputs of finite numbers, one label and one patient per row; anything else is refused by its kind.

    The arrays of the caller are never written to.
    """
    if not isinstance(split, Split):
        refuse_object(split)
    inputs: object = split.inputs
    if not isinstance(inputs, np.ndarray):
        refuse_object(inputs, inputs=True)
    read = _read(inputs, split.labels, split.patients, split.names)
    _check_numbers(read.inputs)
    return replace(read, findings=split.findings)


def label_split(split: Split, task: Task, what: str = "labels") -> Split:
    """`split` with its labels as `task` has them; see `guard.data.labels.task_labels` for what is refused.

    Columns of findings that have names are brought into the order of the task's findings, whose names they must be.
    """
    labels = split.labels
    if split.findings and labels is not None and labels.ndim == 2 and isinstance(task, Multilabel | WrittenReport):
        if set(split.findings) != set(task.findings):
            raise MedwardError(
                f"{what}: the columns {', '.join(split.findings)} are not the model's findings "
                f"{', '.join(task.findings)}; name them alike, with --classes or in the CSV"
            )
        labels = labels[:, [split.findings.index(each) for each in task.findings]]
    return replace(split, labels=task_labels(split.names, labels, task, what), names=None, findings=())


def conform_inputs(inputs: Array, spec: ModelSpec) -> Array:
    """Bring raw `inputs` to the batch `spec` expects: images are read as those the model was protected on."""
    if isinstance(inputs, Table):
        return spec.check(encoded_rows(inputs, spec.columns))
    x = resized_inputs(np.asarray(inputs), spec.prepare, spec.layout)
    return spec.check(conformed_images(x, spec) if spec.modality == "image" and x.dtype.kind in "iubf" else x)


def numbered_split(split: Any, spec: ModelSpec) -> Any:
    """A raw `split` of a table with the numbers that the model of `spec` takes; any other as it is."""
    if isinstance(split, Split) and isinstance(split.inputs, Table):
        return replace(split, inputs=conform_inputs(split.inputs, spec))
    return split


def conformed_split(split: object, spec: ModelSpec) -> Split:
    """A raw `split` as the batch and the class numbers of the model of `spec`."""
    raw = check_split(numbered_split(split, spec))
    return label_split(replace(raw, inputs=conform_inputs(raw.inputs, spec)), spec.task)


def tell_writing(task: Task, doing: str, rows: int) -> None:
    """Log what a model that writes is about to do with so many `rows`: a text takes its time. Nothing of any other."""
    if isinstance(task, WrittenReport):
        log.info(f"reports: {doing}", rows)


def tell_understanding(
    splits: Mapping[str, Split],
    task: Task | None,
    *,
    low: float | None,
    high: float | None,
    layout: Layout | None = None,
    bits: int | None = None,
    quality: AnyQuality | None = None,
) -> None:
    """Log one line of what was understood of each of `splits`, batches of one model, then what looks odd about them.

    Raises `MedwardError` for images that cannot be in the range that was said.
    """
    odd = {name: check_span(split.inputs, low, high) for name, split in splits.items() if split.inputs.ndim > 2}
    for name, split in splits.items():
        log.info("%s: %s", name, understanding(split, task, layout=layout, bits=bits))
    if quality is not None:
        log.info("model: %s", quality)
        odd["model"] = quality.doubt
    for name, words in odd.items():
        if words:
            log.warning("%s: %s", name, words)


def understanding(split: Split, task: Task | None, *, layout: Layout | None = None, bits: int | None = None) -> str:
    """One line: rows, patients, shape, range, classes or findings with their counts, and how images were read."""
    x = split.inputs
    patients = "" if split.patients is None else f" of {_counted(len(np.unique(split.patients)), 'patient')}"
    shape = _counted(x.shape[1], "column") if x.ndim == 2 else f"images {' x '.join(map(str, x.shape[1:]))}"
    values = f"{shape}, values {x.min():.4g} to {x.max():.4g}"
    parts = [f"{_counted(len(x), 'row')}{patients}", values, _labels_words(split.labels, task)]
    if layout is not None:
        parts.append(f"{LAYOUT_WORDS[layout]}" if bits is None else f"{bits}-bit pixels, {LAYOUT_WORDS[layout]}")
    return "; ".join(parts)


def _labels_words(labels: Labels | None, task: Task | None) -> str:
    """How often each class or finding is among the labels, or how far numbers reach."""
    if labels is None:
        return "no labels"
    if isinstance(task, Regression):
        return f"{task.quantity} {labels.min():.4g} to {labels.max():.4g}"
    if isinstance(task, Multilabel | WrittenReport):
        table = unpacked_findings(labels, len(task.findings))
        counts = [*zip(task.findings, table.sum(axis=0).tolist(), strict=True), ("none", int((labels == 0).sum()))]
        return "findings " + ", ".join(f"{name} {count}" for name, count in counts)
    known, numbers = np.unique(labels, return_counts=True)
    named = [str(each) if task is None else task.names[each] for each in known.tolist()]
    return "classes " + ", ".join(f"{name} {count}" for name, count in zip(named, numbers.tolist(), strict=True))


def split_digest(*splits: Split) -> str:
    """SHA-256 over the rows of `splits`, their dtype and shape: names the data, reveals none of it."""
    sha = hashlib.sha256()
    for split in splits:
        for array in (split.inputs, split.labels, split.names):
            if array is not None:
                sha.update(f"{array.dtype}{array.shape}".encode())
                sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def _read(
    inputs: NDArray[Any],
    labels: NDArray[Any] | None,
    patients: NDArray[Any] | None,
    names: Names | None,
    key: str = "inputs",
    prefix: str = "",
) -> Split:
    """A split whose rows are counted, labels numbers or names, patients numbers; `prefix` and `key` name its arrays."""
    if inputs.ndim < 2:
        raise MedwardError(f"{key} must have a row per input and at least two axes, got {inputs.shape}")
    rows, numbers, whose = len(inputs), None, None
    given = names if labels is None else labels
    if given is not None:
        numbers, names = read_labels(given, rows, f"{prefix}labels")
    if patients is not None:
        whose = patient_numbers(patients, rows, f"{prefix}patients")
    return Split(inputs, numbers, whose, names)


def _check_numbers(inputs: NDArray[Any]) -> None:
    """Refuse inputs that are no finite numbers."""
    if inputs.dtype.kind not in "iubf":
        raise MedwardError(
            f"inputs: expected numbers, got dtype {inputs.dtype}; encode texts and categories as the numbers the model "
            "was trained on, and give .astype('float32')"
        )
    if not len(inputs):
        raise MedwardError(f"inputs: there are no rows, shape {inputs.shape}")
    finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
    if not finite.all():
        raise MedwardError(
            f"inputs: every value must be finite, got NaN or infinity in {int((~finite).sum())} of {len(inputs)} rows; "
            "fill missing values as for the model's training, this release takes none"
        )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
