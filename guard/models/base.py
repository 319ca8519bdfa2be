"""What adapters share: the contract of a wrapped model and the file it becomes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from guard.errors import MedwardError
from guard.types import Array, Ints, ModelSpec, Outputs


@dataclass(frozen=True, slots=True)
class Exported:
    """The one file a model was written to, and what is needed beside it to load it again."""

    file: str
    options: Mapping[str, str] = field(default_factory=dict)


class WrappedModel(Protocol):
    """A `guard.protocols.Model` that can be written to a bundle without pickle."""

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        ...

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to scores ``(n, classes)``."""
        ...

    def own_decisions(self, rows: NDArray[np.generic]) -> Ints | None:
        """The model's own decisions on the caller's rows, as class indices; None where it has none but its scores."""
        ...

    def export(self, folder: Path) -> Exported:
        """Write the model into `folder` and prove that the file answers as the model does on the sample.

        Raises `MedwardError` with the measured difference otherwise.
        """
        ...


def require(module: str, extra: str) -> Any:
    """Import an optional dependency, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MedwardError(f"this model needs {error.name}: pip install 'medward[{extra}]'") from None


def read(path: Path) -> bytes:
    """The file's bytes."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MedwardError(f"{path}: cannot read the model: {error.strerror}") from None


def first_line(error: BaseException) -> str:
    """An exception as a short clause for an error message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
