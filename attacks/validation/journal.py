"""Finished runs on disk, so that a validation killed half-way goes on where it stopped.

One file per run, written whole or not at all (temporary file, fsync, rename), under a name that hashes
everything the run depends on. A file that is torn, corrupt or of other settings is not believed: the run is
done again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from inspect import unwrap
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medward import attacks, guard
from medward.attacks.base import AttackResult, Attempt
from medward.guard.data.split import Split
from medward.guard.files import write_durably
from medward.guard.types import Array

if TYPE_CHECKING:
    import torch

Json = Any


@dataclass(frozen=True, slots=True)
class Journal:
    """Runs kept under `folder`; with `resume` off nothing kept is read, only written."""

    folder: Path
    resume: bool = True

    def once(self, settings: Mapping[str, Json], run: Callable[[], Json]) -> tuple[Json, bool]:
        """What ``run()`` gave for these `settings`, and whether it was recalled instead of run."""
        key = run_name(settings)
        kept = self.recall(key) if self.resume else None
        if kept is not None:
            return kept, True
        outcome = run()
        self.keep(key, settings, outcome)
        # Read it back as a later restart would, so that resumed and fresh validations are the same.
        return json.loads(json.dumps(outcome)), False

    def recall(self, key: str) -> Json | None:
        """The outcome kept under `key`; None when absent, torn or altered."""
        try:
            record = json.loads(self._path(key).read_bytes())
            if record["sha256"] != _digest(record["settings"], record["outcome"]):
                return None
            return record["outcome"] if run_name(record["settings"]) == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: str, settings: Mapping[str, Json], outcome: Json) -> None:
        """Write one finished run; once this returns it survives a kill and a loss of power."""
        # As it will be read back: keys that were numbers are texts then, and sort otherwise.
        settings, outcome = json.loads(json.dumps([dict(settings), outcome]))
        record = {"settings": settings, "sha256": _digest(settings, outcome), "outcome": outcome}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_durably(self._path(key), json.dumps(record, allow_nan=False).encode())

    def clear(self) -> None:
        """Delete every run that is kept."""
        for path in self.folder.glob("*.json"):
            path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def run_name(settings: Mapping[str, Json]) -> str:
    """The name of a run: a hash of everything it depends on."""
    return hashlib.sha256(_canonical(settings)).hexdigest()[:32]


def settings_of(attack: object) -> Json:
    """An attack's class and settings as JSON, for the name of its runs."""
    kind = f"{type(attack).__module__}.{type(attack).__qualname__}"
    fields = asdict(attack) if is_dataclass(attack) and not isinstance(attack, type) else vars(attack)
    return {"class": kind, "settings": json.loads(json.dumps(fields, default=value_name, sort_keys=True))}


def value_name(value: object) -> str:
    """What is no plain data, in words; a function by where it is and its code, which are the same in every run."""
    if not isinstance(value, FunctionType):
        return str(value)
    own = unwrap(value)
    if not isinstance(own, FunctionType):
        return f"{type(own).__module__}:{type(own).__qualname__}:{own}"
    code = hashlib.sha256(own.__code__.co_code + repr(own.__code__.co_consts).encode()).hexdigest()[:12]
    return f"{own.__module__}:{own.__qualname__}:{code}"


def data_digest(splits: Mapping[str, Split]) -> str:
    """SHA-256 over every split's name, inputs, labels and patients: who holds which rows decides outcomes too."""
    sha = hashlib.sha256()
    for name, split in sorted(splits.items()):
        sha.update(_canonical(["split", name]))
        for kind in ("inputs", "labels", "patients", "names"):
            array = getattr(split, kind)
            if array is not None:
                _update(sha, kind, array)
    return sha.hexdigest()


def network_digest(network: torch.nn.Module | None, rows: Array) -> str | None:
    """SHA-256 over a network in eval mode: its modules, parameters and buffers, and its outputs on `rows (n, *shape)`.

    The outputs, to three decimals, tell apart networks that differ only in plain attributes or code. None
    without a network.
    """
    if network is None:
        return None
    import torch

    sha = hashlib.sha256(_canonical([type(network).__qualname__, repr(network)]))
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in sorted(state.items()):
        _update(sha, name, tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    device = next((tensor.device for tensor in state.values()), torch.device("cpu"))
    with torch.no_grad():
        outputs = network(torch.as_tensor(rows, device=device)).double().cpu().numpy()
    _update(sha, "outputs", np.round(outputs, 3) + 0.0)
    return sha.hexdigest()


def code_version() -> str:
    """A hash over the sources of `guard` and `attacks`, the report's apart: what outcomes depend on."""
    sha = hashlib.sha256()
    for package in (guard, attacks):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root)
            if name.parts[0] != "report":
                sha.update(f"{package.__name__}/{name.as_posix()}\0".encode() + path.read_bytes())
    return sha.hexdigest()[:16]


_OPTIONAL = ("baseline", "truth", "without_target", "groups", "judged")
_COUNTED = ("refused", "denied", "changed", "certified")  # of an attempt


def _optional(result: AttackResult) -> dict[str, NDArray[np.generic] | None]:
    return {name: getattr(result, name) for name in _OPTIONAL}


def pack_result(result: AttackResult) -> Json:
    """An attack's result as JSON; `unpack_result` gives it back equal."""
    return {
        "outcome": _pack(result.outcome),
        **{name: _packed(value) for name, value in _optional(result).items()},
        "attempts": [
            {
                "radius": float(each.radius),
                "fooled": _pack(each.fooled),
                "noisy": _pack(each.noisy),
                "decided": _pack(each.decided),
                "classes": _packed(each.classes),
                **{name: _packed(getattr(each, name)) for name in _COUNTED},
            }
            for each in result.attempts
        ],
        "ways": {name: float(share) for name, share in result.ways.items()},
        "contradictions": int(result.contradictions),
        "queries": int(result.queries),
        "gradients": int(result.gradients),
        "flags": list(result.flags),
        "curves": {name: [[float(x) for x in xs], [float(y) for y in ys]] for name, (xs, ys) in result.curves.items()},
        "images": {name: _pack(image) for name, image in result.images.items()},
    }


def unpack_result(packed: Json) -> AttackResult:
    """The inverse of `pack_result`."""
    return AttackResult(
        outcome=_unpack(packed["outcome"]),
        **{name: None if packed[name] is None else _unpack(packed[name]) for name in _OPTIONAL},
        attempts=tuple(
            Attempt(
                radius=each["radius"],
                fooled=_unpack(each["fooled"]),
                noisy=_unpack(each["noisy"]),
                decided=_unpack(each["decided"]),
                classes=None if each["classes"] is None else _unpack(each["classes"]),
                **{name: None if each[name] is None else _unpack(each[name]) for name in _COUNTED},
            )
            for each in packed["attempts"]
        ),
        ways=dict(packed["ways"]),
        contradictions=packed["contradictions"],
        queries=packed["queries"],
        gradients=packed["gradients"],
        flags=tuple(packed["flags"]),
        curves={name: (xs, ys) for name, (xs, ys) in packed["curves"].items()},
        images={name: _unpack(image) for name, image in packed["images"].items()},
    )


def _pack(array: np.typing.ArrayLike) -> Json:
    values = np.ascontiguousarray(array)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"an attack's result holds numbers, got dtype {values.dtype}")
    return {
        "dtype": values.dtype.str,
        "shape": list(np.shape(array)),
        "base64": base64.b64encode(values.tobytes()).decode(),
    }


def _packed(array: np.typing.ArrayLike | None) -> Json:
    return None if array is None else _pack(array)


def _unpack(packed: Json) -> np.ndarray[Any, np.dtype[Any]]:
    raw = base64.b64decode(packed["base64"])
    return np.frombuffer(raw, np.dtype(packed["dtype"])).reshape(packed["shape"]).copy()


def _canonical(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _update(sha: hashlib._Hash, name: str, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    sha.update(_canonical([name, str(array.dtype), list(array.shape)]))
    sha.update(np.ascontiguousarray(array).tobytes())


def _digest(settings: Json, outcome: Json) -> str:
    return hashlib.sha256(_canonical([settings, outcome])).hexdigest()
