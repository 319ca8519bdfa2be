"""Any function from a batch to scores as a `Model`; a bundle names its code and never holds it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.models import checks
from medward.guard.models.base import Adapter, Exported, first_line
from medward.guard.models.front import as_model_takes
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints, Outputs

_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableModel:
    """A thread-safe function that maps a float32 batch ``(n, *shape)`` to scores ``(n, classes)``."""

    spec: ModelSpec
    function: Callable[[Array], Any]
    entrypoint: str | None = None

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to scores ``(n, classes)``; there are no features."""
        return checks.checked_outputs(self.function(self._given(np.array(inputs, np.float32))), None, self.spec)

    def own_decisions(self, rows: NDArray[Any]) -> Ints | None:
        """What the function decides on float64 rows that are given so; None where it takes float32 only, as it may."""
        task = self.spec.task
        if rows.dtype != np.float64 or not isinstance(task, Classification):
            return None
        try:
            scores = checks.in_batches(lambda batch: [np.asarray(self.function(self._given(batch)))], rows, _BATCH)[0]
        except Exception:
            return None
        return np.asarray(np.argmax(task.read(scores, self.spec.name), axis=1), np.int64)

    def _given(self, rows: Array) -> Array:
        """What the function itself takes: a copy of `rows`, normalised and in its own shape."""
        return as_model_takes(np.array(rows), self.spec)

    def export(self, folder: Path) -> Exported:
        """Write ``entrypoint.json``: the function's importable name and the SHA-256 of its source file."""
        write_entrypoint(folder, self.function, self.entrypoint)
        return Exported("entrypoint.json")


def adapt_function(
    x: Any, spec: ModelSpec, sample: Array, features: str | None, output_key: str | None
) -> CallableModel:
    """Wrap a function, or the one that an entry point names; what stands before it is done in NumPy at each call."""
    if output_key is not None:
        raise MedwardError(f"--output-key {output_key}: a callable gives its scores alone; return those, leave it out")
    if features is not None:
        raise MedwardError(f"features: a callable shows none, got features = {features!r}")
    function = _callable(x) if isinstance(x, str) else x
    made = CallableModel(spec=spec, function=function, entrypoint=x if isinstance(x, str) else None)
    _check_no_factory(made, as_model_takes(sample[:1], spec))
    return made


def describe_function(_: object, __: str | None) -> dict[str, Any]:
    """Nothing can be known of a function without running it."""
    return {}


def load_function(data: bytes, spec: ModelSpec, _options: Mapping[str, str]) -> CallableModel:
    """Import the named function, after its module's source file was found unchanged.

    Only that one file is compared, not what it imports. The caller has decided to trust the code.
    """
    entrypoint = named_source(data)
    return CallableModel(spec=spec, function=_callable(entrypoint), entrypoint=entrypoint)


def write_entrypoint(folder: Path, function: Any, entrypoint: str | None) -> None:
    """Write ``entrypoint.json``: the importable name of `function`, `entrypoint` where it is said, and its digest."""
    entrypoint = entrypoint or entrypoint_name(function)
    content = {"entrypoint": entrypoint, "source_sha256": source_digest(entrypoint)}
    (folder / "entrypoint.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def named_source(data: bytes) -> str:
    """The entry point in the bytes of ``entrypoint.json``, whose module's source file was found unchanged."""
    try:
        content = json.loads(data)
        entrypoint, expected = str(content["entrypoint"]), content["source_sha256"]
    except (ValueError, TypeError, KeyError) as error:
        raise MedwardError(f"entrypoint.json: needs entrypoint and source_sha256: {first_line(error)}") from None
    found = source_digest(entrypoint)
    if found != expected:
        raise IntegrityError(f"{entrypoint}: its source changed since the bundle was made; protect the model again")
    return entrypoint


def resolve_entrypoint(entrypoint: str) -> object:
    """The object that ``"package.module:attribute"`` names; imports the module."""
    module, _, path = entrypoint.partition(":")
    try:
        found: object = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except Exception as error:
        raise MedwardError(f"{entrypoint}: cannot import it: {first_line(error)}") from error
    return found


def entrypoint_name(function: Any) -> str:
    """``"package.module:attribute"`` of `function`; refuses lambdas, local functions and the main script."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    entrypoint = f"{module}:{name}"
    if module in (None, "__main__") or name is None or "<" in name or resolve_entrypoint(entrypoint) is not function:
        raise MedwardError(
            f"{entrypoint}: a bundle can only name a callable of an importable module; "
            'wrap it by its name, "package.module:attribute"'
        )
    return entrypoint


def source_digest(entrypoint: str) -> str:
    """SHA-256 of the source file of the entry point's module, found without running the module itself."""
    module = entrypoint.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
        origin = None if spec is None else spec.origin
        return hashlib.sha256(Path(str(origin)).read_bytes()).hexdigest()
    except Exception as error:
        raise MedwardError(f"{entrypoint}: cannot find the source of {module}: {first_line(error)}") from None


def named_function(what: str, entrypoint: str) -> Callable[..., Any]:
    """The function that ``"package.module:attribute"`` names, given for `what`."""
    if ":" not in entrypoint:
        raise MedwardError(f'{what}: name a function, "package.module:function", got {entrypoint!r}')
    return _callable(entrypoint)


def _callable(entrypoint: str) -> Callable[[Array], Any]:
    found = resolve_entrypoint(entrypoint)
    if not callable(found):
        raise MedwardError(f"{entrypoint}: {type(found).__name__} is not callable")
    return found


def _check_no_factory(model: CallableModel, row: Array) -> None:
    """Refuse a function that takes no batch, or makes a model of one instead of scores."""
    name = str(model.entrypoint or getattr(model.function, "__name__", type(model.function).__name__))
    remedy = f"if it makes the model, write net = {name.rpartition(':')[2]}() in its module and give that"
    try:
        inspect.signature(model.function).bind(row)
    except TypeError as error:
        raise MedwardError(f"{name}: is no function of one batch ({error}); {remedy}") from None
    except ValueError:  # built in, with no signature to look at
        return
    found = model.function(np.array(row))
    if callable(found) or hasattr(found, "predict"):
        raise MedwardError(f"{name}: gives a {type(found).__name__} for a batch, not its scores; {remedy}")


CALLABLE_ADAPTER = Adapter(adapt_function, describe_function, load_function)
