"""What stands before a model's own first layer: a row as clients send it becomes the row that the model takes.

Clients send, screens see and attackers change rows of the internal shape in ``[low, high]``. Behind that door each
channel is normalised, ``(x - mean) / std``, and signals and volumes get back the axes that the model takes. Here this
is said once, in NumPy; `torch_front` and `onnx_front` do the same inside a module and a graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec

FRONT_MARK = "medward.front"
"""The entry of an ONNX file's metadata that says that it normalises rows itself."""


def check_front(spec: ModelSpec) -> None:
    """Refuse means and deviations that are not one for all channels or one for each."""
    mean = spec.prepare.mean
    channels = spec.row_shape[0]
    if mean and len(mean) not in (1, channels):
        what = {"table": "columns", "signal": "leads"}.get(spec.kind, "channels")
        raise MedwardError(
            f"{spec.name}: mean and std: need one number for all, or one for each of {channels} {what}, got {len(mean)}"
        )


def normalisation(spec: ModelSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Mean and deviation as arrays that broadcast over internal rows ``(n, *shape)``; None where there are none.

    The slices of a volume's channel are as many internal channels, and the leads of a signal its internal rows.
    """
    prepare = spec.prepare
    if not prepare.mean:
        return None
    check_front(spec)
    ones = (1,) * (len(spec.shape) - 1)
    if spec.kind == "signal":
        shape: tuple[int, ...] = (1, -1, 1)
    else:
        shape = (-1, *ones)
    slices = spec.row_shape[1] if spec.kind == "volume" and len(prepare.mean) > 1 else 1
    mean, std = (np.repeat(np.asarray(each, np.float64), slices).reshape(shape) for each in (prepare.mean, prepare.std))
    return mean, std


def as_model_takes(rows: NDArray[Any], spec: ModelSpec) -> NDArray[Any]:
    """Internal rows ``(n, *shape)`` normalised, as ``(n, *row_shape)`` in their own floating-point type."""
    found = normalisation(spec)
    if found is not None:
        mean, std = (each.astype(rows.dtype) for each in found)
        rows = (rows - mean) / std
    return rows if spec.sent is None else rows.reshape(len(rows), *spec.row_shape)


def stands_before(spec: ModelSpec) -> bool:
    """Whether anything stands before the model's own first layer."""
    return spec.sent is not None or bool(spec.prepare.mean)
