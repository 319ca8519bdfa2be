"""What a torch module returns: one tensor, or a tuple, list, mapping or object of several, of which one is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from medward.guard.errors import MedwardError


def output_places(found: Any) -> dict[str, Any]:
    """The outputs by what chooses each: the keys of a mapping, the fields of an object, places from 0 in a sequence."""
    if isinstance(found, Mapping):
        return {str(key): value for key, value in found.items()}
    if isinstance(found, tuple) and hasattr(found, "_fields"):
        return dict(zip(found._fields, found, strict=True))
    if isinstance(found, tuple | list):
        return {str(place): value for place, value in enumerate(found)}
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return {each.name: getattr(found, each.name) for each in dataclasses.fields(found)}
    return {key: value for key, value in getattr(found, "__dict__", {}).items() if isinstance(value, Tensor)}


def picked_output(found: Any, key: str) -> Tensor:
    """The tensor called `key` of what a module returned; raises `MedwardError` with all there are."""
    if isinstance(found, Tensor):
        raise MedwardError(
            f"model: returns one tensor of shape {tuple(found.shape)}, so there is nothing to choose; leave "
            f"--output-key {key} out"
        )
    places = output_places(found)
    chosen = places.get(key)
    if chosen is None and key.isdigit() and isinstance(found, tuple | list) and int(key) < len(found):
        chosen = found[int(key)]  # a place in a tuple whose fields have names
    if not isinstance(chosen, Tensor):
        raise MedwardError(f"model: has no tensor at --output-key {key}; it returns {outputs_text(found)}")
    return chosen


def refuse_outputs(name: str, found: Any) -> None:
    """Refuse what is no tensor, with the outputs that there are and how one is chosen."""
    if isinstance(found, Tensor):
        return
    raise MedwardError(
        f"{name}: the module must return a tensor (n, classes), got {outputs_text(found)}; choose one with --output-key"
        if output_places(found)
        else f"{name}: the module must return a tensor (n, classes), got {type(found).__name__}; wrap it in a module "
        "whose forward returns the scores alone"
    )


def outputs_text(found: Any) -> str:
    """What was returned, in words: its type, and the key and shape of each output."""
    parts = [
        f"{key}: {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
        for key, value in output_places(found).items()
    ]
    return f"{type(found).__name__} with {', '.join(parts)}" if parts else type(found).__name__
