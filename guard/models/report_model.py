"""A function from images to reports as a `ReportModel`; a bundle names its code and never holds it.

Each row is written alone, so that no answer rests on another's input, and a text in pieces is the text whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.models.base import Adapter, Exported, Prefill, written_outputs
from medward.guard.models.callable_model import named_function, named_source, write_entrypoint
from medward.guard.models.front import as_model_takes
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints, Outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFunction:
    """A thread-safe function from a float32 batch ``(n, *shape)``, and the task's prompt where it has one, to texts.

    It is given one row at a time. A text is a string, or an iterable of its pieces, which a stream hands on as they
    come. `features` names a method of it that gives what defenses judge, ``(n, d)``, of a batch, and writes nothing.
    """

    spec: ModelSpec
    function: Callable[..., Any]
    features: str | None = None
    entrypoint: str | None = None

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to texts, what they say of findings, and features."""
        return written_outputs(self.spec, self.prefill(inputs))

    def prefill(self, inputs: Array) -> Prefill:
        """The features, and texts that the function is asked for when they are iterated over."""
        rows = np.array(inputs, np.float32)
        return Prefill(self._shown(rows), tuple(self._pieces(rows[[at]]) for at in range(len(rows))))

    def own_decisions(self, rows: NDArray[Any]) -> Ints | None:
        """None: a text is all that it says."""
        del rows
        return None

    def export(self, folder: Path) -> Exported:
        """Write ``entrypoint.json``: the function's importable name and the SHA-256 of its source file."""
        write_entrypoint(folder, self.function, self.entrypoint)
        return Exported("entrypoint.json", {} if self.features is None else {"features": self.features})

    def _shown(self, rows: Array) -> Array | None:
        if self.features is None:
            return None
        found = np.asarray(getattr(self.function, self.features)(as_model_takes(rows, self.spec)))
        if found.dtype.kind not in "fiub" or found.ndim < 2 or len(found) != len(rows):
            raise MedwardError(
                f"{self.spec.name}: features {self.features!r}: expected numbers (n, d) for {len(rows)} rows, got "
                f"shape {found.shape} of {found.dtype}"
            )
        return np.asarray(found.reshape(len(rows), -1), np.float32)

    def _pieces(self, row: Array) -> Iterator[str]:
        prompt = self.spec.task.prompt if isinstance(self.spec.task, WrittenReport) else ""
        given = as_model_takes(np.array(row), self.spec)
        texts = self.function(given, prompt) if prompt else self.function(given)
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise MedwardError(
                f"{self.spec.name}: a report function gives a list of texts, one a row, got {type(texts).__name__}"
            )
        found = list(texts)
        if len(found) != 1:
            raise MedwardError(f"{self.spec.name}: a report function gave {len(found)} texts for one row")
        yield from [found[0]] if isinstance(found[0], str) else _checked(found[0], self.spec.name)


def _checked(pieces: object, name: str) -> Iterator[str]:
    """The pieces of one text."""
    if not isinstance(pieces, Iterable):
        raise MedwardError(f"{name}: a text is a string or its pieces, got {type(pieces).__name__}")
    for piece in pieces:
        if not isinstance(piece, str):
            raise MedwardError(f"{name}: a piece of a text is a string, got {type(piece).__name__}")
        yield piece


def adapt_report_function(
    x: Any, spec: ModelSpec, sample: Array, features: str | None, output_key: str | None
) -> ReportFunction:
    """Wrap a function, or the one that an entry point names; `features` names its method that shows them."""
    if output_key is not None:
        raise MedwardError(f"--output-key {output_key}: a report function gives its texts alone; leave it out")
    if spec.task.kind == "report" and spec.task.vocabulary is not None:
        raise MedwardError(
            f"{spec.name}: vocabulary = {spec.task.vocabulary}: nobody sees the tokens of a function; leave it out, "
            "and say length in bytes"
        )
    function = named_function("model", x) if isinstance(x, str) else x
    if features is not None and not callable(getattr(function, features, None)):
        raise MedwardError(f"{spec.name}: features: the function has no method {features!r}; name one that it has")
    entrypoint = x if isinstance(x, str) else None
    made = ReportFunction(spec=spec, function=function, features=features, entrypoint=entrypoint)
    made.prefill(sample[:1])
    return made


def load_report_function(data: bytes, spec: ModelSpec, options: Mapping[str, str]) -> ReportFunction:
    """Import the named function, after its module's source file was found unchanged; the caller trusts the code."""
    entrypoint = named_source(data)
    function = named_function("model", entrypoint)
    return ReportFunction(spec=spec, function=function, features=options.get("features"), entrypoint=entrypoint)


def describe_report_function(_: object, __: str | None) -> dict[str, Any]:
    """Nothing can be known of a function without running it."""
    return {}


REPORT_FUNCTION_ADAPTER = Adapter(adapt_report_function, describe_report_function, load_report_function)
