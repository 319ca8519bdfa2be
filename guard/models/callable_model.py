"""Any function from a batch to scores as a `Model`; a bundle names its code and never holds it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.errors import IntegrityError, MedwardError
from guard.models import checks
from guard.models.base import Exported, first_line
from guard.types import Array, ModelSpec, Outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableModel:
    """A thread-safe function that maps a float32 batch ``(n, *shape)`` to scores ``(n, classes)``."""

    spec: ModelSpec
    function: Callable[[Array], Any]
    entrypoint: str | None = None

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to scores ``(n, classes)``; there are no features."""
        return checks.outputs(self.function(inputs), None, self.spec)

    def export(self, folder: Path) -> Exported:
        """Write ``entrypoint.json``: the function's importable name and the SHA-256 of its source file."""
        entrypoint = self.entrypoint or name_of(self.function)
        content = {"entrypoint": entrypoint, "source_sha256": source_digest(entrypoint)}
        (folder / "entrypoint.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return Exported("entrypoint.json")


def adapt(x: Any, spec: ModelSpec, _sample: Array, features: str | None) -> CallableModel:
    """Wrap a function, or the one that an entry point names."""
    if features is not None:
        raise MedwardError(f"features: a callable shows none, got features = {features!r}")
    if isinstance(x, str):
        return CallableModel(spec=spec, function=_callable(x), entrypoint=x)
    return CallableModel(spec=spec, function=x)


def describe(_: object) -> dict[str, Any]:
    """Nothing can be known of a function without running it."""
    return {}


def load(data: bytes, spec: ModelSpec, _options: Mapping[str, str]) -> CallableModel:
    """Import the named function, after its module's source file was found unchanged.

    Only that one file is compared, not what it imports. The caller has decided to trust the code.
    """
    try:
        content = json.loads(data)
        entrypoint, expected = str(content["entrypoint"]), content["source_sha256"]
    except (ValueError, TypeError, KeyError) as error:
        raise MedwardError(f"entrypoint.json: needs entrypoint and source_sha256: {first_line(error)}") from None
    found = source_digest(entrypoint)
    if found != expected:
        raise IntegrityError(f"{entrypoint}: its source changed since the bundle was made; protect the model again")
    return CallableModel(spec=spec, function=_callable(entrypoint), entrypoint=entrypoint)


def resolve(entrypoint: str) -> object:
    """The object that ``"package.module:attribute"`` names; imports the module."""
    module, _, path = entrypoint.partition(":")
    try:
        found: object = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except Exception as error:
        raise MedwardError(f"{entrypoint}: cannot import it: {first_line(error)}") from error
    return found


def name_of(function: Any) -> str:
    """``"package.module:attribute"`` of `function`; refuses lambdas, local functions and the main script."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    entrypoint = f"{module}:{name}"
    if module in (None, "__main__") or name is None or "<" in name or resolve(entrypoint) is not function:
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


def _callable(entrypoint: str) -> Callable[[Array], Any]:
    found = resolve(entrypoint)
    if not callable(found):
        raise MedwardError(f"{entrypoint}: {type(found).__name__} is not callable")
    return found
