"""What labels and patients mean: what is right for each row, and whose it is.

For a classifier a label is the name of a class, or its number: the place of its score, from 0. For several findings it
is a row of 0 and 1, a column per finding; for a model that writes reports that, or a report that is right, of which the
findings count that are there or may be; for a regression model a number. Names stay names until a model's classes are
known, so a class that a split lacks shifts nothing. A patient is known by a number or by a text, as a DICOM id is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medward.guard.data.report_labels import reported_sets
from medward.guard.errors import MedwardError
from medward.guard.tasks.base import Task
from medward.guard.tasks.multilabel import Multilabel, packed_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Ints

Names = NDArray[np.str_]
Labels = NDArray[Any]
"""Whole numbers ``(n,)`` or ``(n, K)``, or float64 ``(n,)``."""
_EXACT = 2.0**53  # below it float64 holds every whole number


def read_labels(column: ArrayLike, rows: int, what: str) -> tuple[Labels | None, Names | None]:
    """Labels of `rows` rows as numbers, ``(n,)`` or a table ``(n, K)``, or as names ``(n,)``; the other is None."""
    values = np.asarray(column)
    if values.ndim == 2 and len(values) == rows and values.shape[1] > 1 and values.dtype.kind in "iubf":
        return _table(values, what), None
    values = _column(column, rows, what)
    if values.dtype.kind == "U":
        return None, _no_gaps(values, what)
    return _numbers(values, what), None


def task_labels(names: Names | None, labels: Labels | None, task: Task, what: str = "labels") -> Labels | None:
    """Labels ``(n,)`` as decisions of `task`, or for a regression model as numbers in float64; None for none.

    Raises `MedwardError` for labels that are those of another task.
    """
    if names is None and labels is None:
        return None
    if isinstance(task, Opaque):
        return None
    if isinstance(task, WrittenReport) and names is not None:
        return reported_sets(names, task, what)
    if isinstance(task, Multilabel | WrittenReport):
        return _finding_sets(names, labels, task, what)
    if labels is not None and labels.ndim == 2:
        raise MedwardError(f"{what} has {labels.size} entries for {len(labels)} rows{_several(labels)}")
    if isinstance(task, Regression):
        if names is not None or labels is None:
            raise MedwardError(f"{what}: a regression model needs numbers, got names")
        return labels.astype(np.float64)
    if labels is not None and labels.dtype.kind == "f":
        _refuse_numbers(labels, what)
    return class_numbers(names, labels, task.names, what)


def class_numbers(
    names: Names | None, numbers: Ints | None, classes: Sequence[str], what: str = "labels"
) -> Ints | None:
    """Labels as places in `classes`: names are looked up, numbers must be places, or names where these are numbers.

    Raises `MedwardError` for a label that is neither, and for numbers that mean other classes as names than as places.
    """
    if names is not None:
        return _looked_up(names, classes, what)
    if numbers is None:
        return None
    as_places = numbers if not _outside(numbers, len(classes)) else None
    as_names = _numbered(numbers, classes)
    if as_places is None and as_names is None:
        raise MedwardError(
            f"{what} must be 0 to {len(classes) - 1}, got {numbers.min()} to {numbers.max()}; give the places of the "
            f"classes {_listed(classes)} in the order of the scores, or their names"
        )
    if as_places is None or as_names is None or (as_places == as_names).all():
        return as_names if as_places is None else as_places
    raise MedwardError(
        f"{what}: the numbers {_listed(np.unique(numbers))} may be names of the classes {_listed(classes)} or places "
        "among them; give names, labels.astype(str), or name the classes with words"
    )


def target_columns(target: str | None) -> list[str]:
    """The columns that `target` names: one, or several findings separated by commas."""
    return [each.strip() for each in (target or "").split(",") if each.strip()]


def patient_numbers(column: ArrayLike, rows: int, what: str) -> Ints:
    """A number for the patient of each of `rows` rows: the same text, or whole number, always gives the same."""
    values = _column(column, rows, what)
    if values.dtype.kind != "U":
        return _whole(values, what)
    known, which = np.unique(_no_gaps(values, what), return_inverse=True)
    return np.array([_number_of(str(each)) for each in known], np.int64)[which.reshape(-1)]


def _number_of(patient: str) -> int:
    """`patient` itself where it writes a whole number plainly, else a number from its SHA-256."""
    if patient.isascii() and patient.isdigit() and len(patient) < 19 and str(int(patient)) == patient:
        return int(patient)
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big", signed=True)


def _column(column: ArrayLike, rows: int, what: str) -> NDArray[Any]:
    """One value per row: numbers as they are, texts as texts."""
    values = np.asarray(column)
    if values.dtype.kind in "OS":
        values = _texts(values, what)
    if values.dtype.kind not in "iubfU":
        raise MedwardError(f"{what} must be whole numbers or names, got dtype {values.dtype}")
    if values.size != rows or values.shape not in ((rows,), (rows, 1), (1, rows)):
        raise MedwardError(f"{what} has {values.size} entries for {rows} rows")
    return values.reshape(-1)


def _texts(values: NDArray[Any], what: str) -> NDArray[Any]:
    """Python objects or bytes as an array of numbers or texts; whole numbers and texts are not mixed."""
    kinds = {type(each.item() if isinstance(each, np.generic) else each) for each in values.reshape(-1).tolist()}
    if kinds == {bytes}:
        try:
            return np.char.decode(values.astype("S"), "utf-8")
        except UnicodeDecodeError:
            raise MedwardError(f"{what}: bytes that are not UTF-8; give texts, values.astype(str) say") from None
    if kinds == {str}:
        return values.astype(str)
    if kinds and kinds <= {int, bool, float}:
        return values.astype(np.float64 if float in kinds else np.int64)
    named = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise MedwardError(f"{what} must be all whole numbers or all names, got Python objects of type {named}")


def _several(values: Labels) -> str:
    """What to do about a table of labels where each row has one class."""
    if (values.sum(axis=1) == 1).all():
        return f": shape {values.shape} is one-hot; give one class per row, labels.argmax(axis=1)"
    return (
        f": shape {values.shape} is several findings per row; say --task multilabel if the model finds several things "
        "at once, else give the one finding that it decides about, labels[:, k]"
    )


def _table(values: NDArray[Any], what: str) -> Ints:
    """A table of findings ``(n, K)``, each 0 or 1."""
    if not ((values == 0) | (values == 1)).all():
        odd = values[~((values == 0) | (values == 1))][0]
        raise MedwardError(
            f"{what}: a table of findings holds 0 and 1, got {odd:g}; decide what uncertain and missing ones count as, "
            "or leave such rows out"
        )
    return values.astype(np.int64)


def _finding_sets(names: Names | None, labels: Labels | None, task: Multilabel | WrittenReport, what: str) -> Ints:
    count = len(task.findings)
    if names is not None or labels is None or (labels.ndim == 1 and count > 1) or labels.dtype.kind == "f":
        raise MedwardError(
            f"{what}: a model of {count} findings needs a table of 0 and 1 of shape (n, {count}), a column for each of "
            f"{_listed(task.findings)}"
        )
    table = _table(labels.reshape(len(labels), -1), what)
    if table.shape[1] != count:
        raise MedwardError(
            f"{what} has {table.shape[1]} columns, the model has {count} findings: {_listed(task.findings)}"
        )
    return packed_findings(table == 1)


def _no_gaps(values: NDArray[Any], what: str) -> Names:
    names: Names = values.astype(str)
    if gaps := int((np.char.str_len(names) == 0).sum()):
        raise MedwardError(f"{what}: {gaps} of {len(names)} are empty; leave these rows out or fill them in")
    return names


def _numbers(values: NDArray[Any], what: str) -> Labels:
    """Whole numbers, or float64 where they are none; NaN is refused."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            odd = values[~np.isfinite(values)][0]
            raise MedwardError(f"{what} must be whole numbers or names, got {odd:g}; leave such rows out")
        if not (np.mod(values, 1) == 0).all():
            return values.astype(np.float64)
    return values.astype(np.int64)


def _whole(values: NDArray[Any], what: str) -> Ints:
    numbers = _numbers(values, what)
    if numbers.dtype.kind == "f":
        _refuse_numbers(numbers, what)
    if values.dtype.kind == "f" and len(values) and np.abs(values).max() >= _EXACT:
        raise MedwardError(f"{what} has numbers of 16 digits and more, of which neighbours look alike; give texts")
    return numbers.astype(np.int64)


def _refuse_numbers(numbers: Labels, what: str) -> NoReturn:
    odd = numbers[np.mod(numbers, 1) != 0]
    remedy = "leave such rows out"
    if len(odd) > len(numbers) / 2:
        remedy = "a model that gives such numbers is a regression model: say --task regression"
    raise MedwardError(f"{what} must be whole numbers or names, got {odd[0]:g}; {remedy}")


def _outside(numbers: Ints, classes: int) -> list[int]:
    """The numbers that are no place among so many `classes`."""
    found: list[int] = np.unique(numbers[(numbers < 0) | (numbers >= classes)]).tolist()
    return found


def _numbered(numbers: Ints, classes: Sequence[str]) -> Ints | None:
    """The places of classes whose names are `numbers`, if all are: 2 is the class "2" or "2.0", 1 the class "True"."""
    places = {_value(name): place for place, name in enumerate(classes)}
    known, which = np.unique(numbers, return_inverse=True)
    found = [places.get(float(each)) for each in known.tolist()]
    return None if None in found else np.array(found, np.int64)[which.reshape(-1)]


def _value(name: str) -> float | None:
    """The number that a class name writes, if it does."""
    try:
        return float(name == "True") if name in ("False", "True") else float(name)
    except ValueError:
        return None


def _looked_up(names: Names, classes: Sequence[str], what: str) -> Ints:
    places = {name: place for place, name in enumerate(classes)}
    known, which = np.unique(names, return_inverse=True)
    if strange := [str(each) for each in known if str(each) not in places]:
        raise MedwardError(
            f"{what} must be names of the classes {_listed(classes)}, or their places; got {strange[0]!r}; name the "
            "classes as the labels do, in the order of the scores: --classes"
        )
    return np.array([places[str(each)] for each in known], np.int64)[which.reshape(-1)]


def _listed(values: Sequence[object] | NDArray[Any]) -> str:
    shown = [str(each) for each in values[:8]]
    return ", ".join(shown) + (", ..." if len(values) > 8 else "")
