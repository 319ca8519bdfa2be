"""What adapters share: the contract of a wrapped model and the file it becomes."""

from __future__ import annotations

import importlib
import json
import logging
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints, Outputs

_MOST = 300  # letters of another library's message that an error shows
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours of a terminal
PLACE = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]+)')


@dataclass(frozen=True, slots=True)
class Exported:
    """The one file a model was written to, and what is needed beside it to load it again."""

    file: str
    options: Mapping[str, str] = field(default_factory=dict)


class WrappedModel(Protocol):
    """A `guard.models.base.Model` that can be written to a bundle without pickle."""

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


class Model(Protocol):
    """Something that turns a checked batch into scores."""

    @property
    def spec(self) -> ModelSpec:
        """What inputs it takes and what its scores are."""
        ...

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to scores ``(n, classes)`` in one forward pass."""
        ...


@dataclass(frozen=True, slots=True)
class Prefill:
    """A prefill is what a report model knows of a batch before it writes: all that defenses judge.

    `features (n, d)` are there where the model shows them. `texts` has an iterable of pieces for each row; nothing is
    written before it is iterated over, and each can be once.
    """

    features: Array | None
    texts: tuple[Iterable[str], ...]


@runtime_checkable
class ReportModel(Protocol):
    """A report model is a `Model` that writes a text about each row, and says what it starts from before it does."""

    @property
    def spec(self) -> ModelSpec:
        """What inputs it takes; its task is `WrittenReport`."""
        ...

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to texts, what they say of findings ``(n, K)``, and features."""
        ...

    def prefill(self, inputs: Array) -> Prefill:
        """The features of ``(n, *shape)`` float32, and texts that are yet to be written."""
        ...


def is_report_model(model: Model) -> TypeGuard[ReportModel]:
    """Whether `model` writes reports: its task says so, and it can say what it starts from."""
    return isinstance(model.spec.task, WrittenReport) and isinstance(model, ReportModel)


def written_outputs(spec: ModelSpec, begun: Prefill) -> Outputs:
    """The outputs once all rows of a prefill are written."""
    texts = tuple("".join(pieces) for pieces in begun.texts)
    return Outputs(spec.task.read(texts, spec.name), begun.features, texts=texts)


def unwritten_outputs(spec: ModelSpec, begun: Prefill) -> Outputs:
    """Outputs of which nothing is written yet, with zeros in the place of what texts will say: for judging alone."""
    return Outputs(np.zeros((len(begun.texts), len(spec.classes)), np.float32), begun.features)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter turns models of one library into a `WrappedModel`.

    `adapt` wraps one under a specification, a sample, a feature layer and the key of the output to take; `describe`
    says what is known of it and that output without running it; `load` reads the bytes that a bundle holds, None where
    bundles hold no such file. What stands before the model's first layer (`guard.models.front`) is put there by `adapt`
    and is in what `load` reads. `tables` says whether its models take columns with gaps and categories, which are had
    back from encoded rows (`guard.columns`).
    """

    adapt: Callable[[Any, ModelSpec, Array, str | None, str | None], Any]
    describe: Callable[[Any, str | None], dict[str, Any]]
    load: Callable[[bytes, ModelSpec, Mapping[str, str]], Any] | None = None
    tables: bool = False


def require_extra(module: str, extra: str) -> Any:
    """Import an optional dependency, or say which extra brings it; the process's log stays as its owner set it up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MedwardError(f"this needs {error.name}: pip install 'medward[{extra}]'") from None
    finally:
        root.handlers[:] = handlers  # some libraries (opacus) set up logging when they are imported
        root.setLevel(level)


def read_model_file(path: Path) -> bytes:
    """The file's bytes."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MedwardError(f"{path}: cannot read the model: {error.strerror}") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in the file at `path`; raises `MedwardError` where it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MedwardError(f"{path}: is no readable JSON: {first_line(error)}") from None
    if not isinstance(found, dict):
        raise MedwardError(f"{path}: must hold an object, got {type(found).__name__}")
    return found


def first_line(error: BaseException) -> str:
    """An exception as a short clause for an error message, without escape codes and not cut within a word."""
    lines = ESCAPES.sub("", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {_shortened(lines[0])}" if lines else type(error).__name__


def root_cause(error: BaseException) -> str:
    """What went wrong first, as a short clause: the exception behind all others, with the line of code it names."""
    while (before := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        error = before
    places = PLACE.findall(ESCAPES.sub("", str(error)))
    if not places:
        return first_line(error)
    file, line, code = places[-1]
    return f"{first_line(error).rstrip('.')} ({Path(file).name}, line {line}: {_shortened(code)})"


def _shortened(text: str) -> str:
    return textwrap.shorten(text, _MOST, placeholder=" ...") if len(text) > _MOST else text
