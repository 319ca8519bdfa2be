"""A MONAI bundle's network, with what its metadata says of classes and range.

A bundle's configuration can run any code ("$..." expressions, any `_target_`). Only networks of ``monai.networks`` made
from plain values are built; anything else needs the user's word that the code is trusted.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, read_json_object, require_extra
from medward.guard.models.torchscript_model import load_script

CONFIGS = ("inference.json", "evaluate.json", "train.json")
_NETWORKS = "monai.networks."
_STATES = ("model", "state_dict", "net")  # under which trainers keep a network's weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """What a MONAI bundle holds: a network, and what its metadata says; None for what it does not."""

    model: Any
    classes: tuple[str, ...] | None
    low: float | None
    high: float | None


def open_bundle(folder: Path, *, allow_code: bool) -> Bundled:
    """The network of the bundle in `folder` with its weights, and what its metadata says of inputs and outputs."""
    file = folder / "configs" / "metadata.json"
    said = read_json_object(file)
    try:
        data = said.get("network_data_format", {})
        image, answer = _only(data.get("inputs", {})), _only(data.get("outputs", {}))
        span: list[Any] = image.get("value_range") or []
        low, high = (float(span[0]), float(span[1])) if len(span) == 2 and span[0] != span[1] else (None, None)
        classes = _classes(answer)
    except (AttributeError, TypeError, ValueError) as error:
        raise MedwardError(
            f"{file}: its network_data_format is not as MONAI has it: {first_line(error)}; repair it, or give the "
            "network itself"
        ) from None
    return Bundled(model=_network(folder, allow_code), classes=classes, low=low, high=high)


def _only(described: dict[str, Any]) -> dict[str, Any]:
    """What is said of the one input or output; nothing where there are several, for the network's own is not marked."""
    found: dict[str, Any] = next(iter(described.values())) if len(described) == 1 else {}
    return found


def _network(folder: Path, allow_code: bool) -> Any:
    torch = require_extra("torch", "torch")
    config = next((folder / "configs" / name for name in CONFIGS if (folder / "configs" / name).is_file()), None)
    if config is None:
        raise MedwardError(f"{folder}: holds no configs/{' or '.join(CONFIGS)}; YAML is not read, convert it to JSON")
    said = read_json_object(config)
    if "network_def" not in said:
        raise MedwardError(f"{config}: has no network_def; give the module itself, package.module:attribute")
    if not allow_code and (code := next(_code(said, said["network_def"], set()), None)) is not None:
        raise MedwardError(
            f"{config}: its network_def runs code ({code}); pass --allow-code (allow_code=True) if you trust its source"
        )
    weights = folder / "models" / "model.pt"
    if not weights.is_file() and (folder / "models" / "model.ts").is_file():
        return load_script(folder / "models" / "model.ts")
    parser = require_extra("monai.bundle", "monai").ConfigParser()
    try:
        if allow_code:
            parser.read_config(str(config))
        else:  # MONAI finds other things under a reference than `_referred` where keys are made for that
            parser.set({"network_def": _inlined(said, said["network_def"])})
        net = parser.get_parsed_content("network_def")
    except Exception as error:  # a configuration can raise anything
        raise MedwardError(f"{config}: network_def cannot be built: {first_line(error)}") from None
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        state = next((state[key] for key in _STATES if isinstance(state.get(key), dict)), state)
        net.load_state_dict(state)
    except Exception as error:  # torch raises several types for a broken file and for other weights
        raise MedwardError(f"{weights}: are no weights of the network_def: {first_line(error)}") from None
    return net.eval()


def _code(config: Any, part: Any, seen: set[str]) -> Iterator[str]:
    """What in `part` of a configuration, and in what it refers to, is code or may be."""
    if isinstance(part, dict):
        target = part.get("_target_")
        if target is not None and not _is_network(target):
            yield f"_target_ {target}"
        if "_mode_" in part:
            yield f"_mode_ {part['_mode_']}"
        for value in part.values():
            yield from _code(config, value, seen)
    elif isinstance(part, list):
        for value in part:
            yield from _code(config, value, seen)
    elif isinstance(part, str) and part[:1] in ("$", "%"):
        yield part
    elif isinstance(part, str) and part.startswith("@") and part not in seen:
        seen.add(part)
        found = _referred(config, part)
        if found is None:
            yield part
        yield from _code(config, found, seen)


def _referred(config: Any, reference: str) -> Any:
    """What ``"@key::key"`` refers to in a configuration; None for nothing."""
    found = config
    for key in reference[1:].replace("#", "::").split("::"):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _inlined(config: Any, part: Any) -> Any:
    """`part`, in which `_code` finds none, with what it refers to in the place of its references."""
    if isinstance(part, dict):
        return {key: _inlined(config, value) for key, value in part.items()}
    if isinstance(part, list):
        return [_inlined(config, value) for value in part]
    return _inlined(config, _referred(config, part)) if isinstance(part, str) and part.startswith("@") else part


def _is_network(target: object) -> bool:
    """Whether a `_target_` is a network or layer of MONAI's own, by the full name of its class or its bare one.

    What such a module merely imports (``monai.networks.nets.densenet.torch.load``) is not.
    """
    if not isinstance(target, str):
        return False
    module, _, name = target.rpartition(".")
    module = module or f"{_NETWORKS}nets"
    if not f"{module}.".startswith(_NETWORKS):
        return False
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return False
    layer = require_extra("torch.nn", "torch").Module
    return isinstance(found, type) and issubclass(found, layer) and found.__module__.startswith(_NETWORKS)


def _classes(answer: dict[str, Any]) -> tuple[str, ...] | None:
    """The names of the output's channels in order; None where not all are named."""
    named = answer.get("channel_def") or {}
    plain = all(str(each).isdecimal() for each in named) and all(isinstance(named[each], str) for each in named)
    places = sorted(int(each) for each in named) if plain else []
    if not places or places != list(range(len(places))) or answer.get("num_channels", len(places)) != len(places):
        return None
    return tuple(str(named[str(place)]) for place in places)
