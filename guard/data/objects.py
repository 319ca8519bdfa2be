"""Data as Python programs have it: DataFrames, arrays by name, records, torch and Hugging Face datasets, paths.

Each becomes named splits, as a file does (`guard.data.reading`); what none of the forms fits is refused by its kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medward.guard.data.foreign import refuse_object
from medward.guard.data.labels import patient_numbers
from medward.guard.data.reading import Reading, read_data
from medward.guard.data.split import Split
from medward.guard.data.table_split import table_splits
from medward.guard.errors import MedwardError
from medward.guard.named_values import Table, is_named, named_list, read_table

BENIGN = ("calibration", "val", "data")
"""What benign rows are called; the first that is there is taken."""


def as_splits(data: Any, reading: Reading) -> dict[str, Split]:
    """The splits that `data` is: a path, inputs, a pair of inputs and labels, one object, or several by split names."""
    if isinstance(data, str | Path):
        return read_data(Path(data), reading)
    if isinstance(data, Split):
        raw: Any = read_table(data.inputs) if is_named(data.inputs) else data.inputs
        return {"data": replace(data, inputs=raw)}
    if isinstance(data, Mapping) and not _holds_columns(data):
        return {str(name): _only_split(str(name), each, reading) for name, each in data.items()}
    if isinstance(data, np.ndarray) and data.dtype.names is None:
        return {"data": Split(data)}
    if _is_pair(data):
        return {"data": Split(data[0], *_labels(data[1]))}
    if _is_of(data, "datasets."):
        return _hugging_face(data, reading)
    if _is_of(data, "torch.utils.data.dataset."):
        return {"data": _torch_dataset(data)}
    if not is_named(data):
        refuse_object(data)
    return table_splits(
        data, target=reading.target, patient=reading.patient, known=reading.columns, optional=reading.recalled
    )


def benign_split(splits: Mapping[str, Split], wanted: str | None, source: object) -> Split:
    """The split that was said, else the first that is called what benign rows are called."""
    if wanted is not None and wanted not in splits:
        raise MedwardError(f"{source}: there is no split {wanted!r}; it has {', '.join(splits)}")
    for name in BENIGN if wanted is None else (wanted,):
        if name in splits:
            return splits[name]
    raise MedwardError(f"{source}: name the benign split with --split; it has {', '.join(splits)}")


def _holds_columns(data: Mapping[Any, Any]) -> bool:
    """Whether a mapping is columns by name, each of one value a row, and not splits by name."""
    return bool(data) and all(
        not isinstance(each, Split | str | Path | Mapping | Table)
        and not hasattr(each, "columns")
        and not _is_of(each, "datasets.")
        and not _is_of(each, "torch.utils.data.")
        and not is_named(each)
        and not _is_pair(each)
        and np.ndim(each) == 1
        for each in data.values()
    )


def _is_pair(data: Any) -> bool:
    """Whether this is two arrays: inputs and labels."""
    return isinstance(data, tuple) and len(data) == 2 and all(isinstance(each, np.ndarray) for each in data)


def _only_split(name: str, data: Any, reading: Reading) -> Split:
    """The one split that `data` holds, of those in a file the one called `name`."""
    found = as_splits(data, reading)
    if len(found) > 1 and name not in found:
        raise MedwardError(f"{name}: holds several splits, {', '.join(found)}, and none of them is called so")
    return found[name] if name in found else next(iter(found.values()))


def _torch_dataset(dataset: Any) -> Split:
    """The inputs of a torch dataset and, where its items are pairs, the labels."""
    if not hasattr(dataset, "__len__"):
        raise MedwardError("data: a torch dataset without a length; give one that can be counted, or a medward.Split")
    items = [dataset[at] for at in range(len(dataset))]
    if not items:
        raise MedwardError("data: the torch dataset is empty")
    several = isinstance(items[0], tuple | list)
    if several and len(items[0]) > 2:
        raise MedwardError(f"data: items of the torch dataset have {len(items[0])} parts; x, or (x, y), is needed")
    pairs = several and len(items[0]) == 2
    inputs = _stacked([each[0] if several else each for each in items])
    labels = np.stack([np.asarray(each[1]) for each in items]) if pairs else None
    return Split(inputs, *_labels(labels))


def _hugging_face(dataset: Any, reading: Reading) -> dict[str, Split]:
    """A Hugging Face dataset: its one column of images, or its table; the one ClassLabel is the target unless said."""
    features = dict(dataset.features)
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    target = reading.target or _only([name for name, kind in kinds.items() if kind == "ClassLabel"], "target")
    for what, name in (("target", target), ("patient", reading.patient)):
        if name is not None and name not in features and name not in reading.recalled:
            raise MedwardError(f"{what}: there is no column {name!r}; there are {named_list(list(features))}")
    image = _only([name for name, kind in kinds.items() if kind == "Image"], "image")
    columns = {name: list(dataset[name]) for name in features if name != image}
    if target in columns and kinds[str(target)] == "ClassLabel":
        columns[str(target)] = [
            None if each is None else features[str(target)].names[each] for each in columns[str(target)]
        ]
    if image is None:
        return table_splits(
            columns, target=target, patient=reading.patient, known=reading.columns, optional=reading.recalled
        )
    labels = columns.get(str(target))
    whose = columns.get(str(reading.patient))
    split = Split(_stacked([dataset[at][image] for at in range(len(dataset))]), *_labels(labels))
    if whose is not None:
        split = replace(split, patients=patient_numbers(np.array(whose), len(split), "patients"))
    return {"data": split}


def _labels(values: Any) -> tuple[Any, None, Any]:
    """Labels, patients and names of a split whose labels are `values`: numbers, names or nothing."""
    if values is None:
        return None, None, None
    array = np.asarray(values)
    return (None, None, array) if array.dtype.kind == "U" else (array, None, None)


def _only(names: list[str], what: str) -> str | None:
    """The one of `names`, None without any."""
    if len(names) > 1:
        raise MedwardError(f"{what}: {', '.join(names)} may each be it; say {what}=")
    return names[0] if names else None


def _stacked(rows: list[Any]) -> Any:
    """Rows of one shape as one array."""
    arrays = [np.asarray(each) for each in rows]
    if len({each.shape for each in arrays}) > 1:
        first = next(each.shape for each in arrays if each.shape != arrays[0].shape)
        raise MedwardError(f"data: rows must have one shape, got {arrays[0].shape} and {first}; resize them")
    return np.stack(arrays)


def _is_of(found: object, library: str) -> bool:
    return any(f"{base.__module__}.".startswith(library) for base in type(found).__mro__)
