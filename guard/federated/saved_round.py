"""A federation's last round on disk, so that a server that was killed goes on as if it had not been."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.update import ModelParameters
from medward.guard.files import write_durably

_FILE = "round.bin"
_STATE, _MODEL = "state", "model"


@dataclass(frozen=True, slots=True)
class SavedRound:
    """A saved round holds the state after a round and the parameters that the next one starts from."""

    state: FederationState
    parameters: list[np.ndarray]


def save_round(folder: str | PathLike[str], state: FederationState, parameters: ModelParameters) -> SavedRound:
    """Write `state` and `parameters` into `folder` in one step, and return them as `load_round` will.

    They are on disk when the call returns; a kill at any moment leaves the round before or this one. Whoever goes on
    from what is returned computes what a server that was killed here will. Raises `MedwardError` for arrays of objects,
    `UnavailableError` where there can be no such folder.
    """
    content = _packed(state, parameters)
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"{path}: a round cannot be saved here: {error.strerror}; give a folder") from None
    write_durably(path / _FILE, hashlib.sha256(content).hexdigest().encode("ascii") + b"\n" + content)
    return _unpacked(content)


def load_round(folder: str | PathLike[str]) -> SavedRound | None:
    """The round that `save_round` wrote last, or None where there is none.

    Raises `IntegrityError` when a byte of it was changed.
    """
    path = Path(folder) / _FILE
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if hashlib.sha256(content).hexdigest().encode("ascii") != digest:
        raise IntegrityError(f"{path}: its bytes are not those that were saved; restore it, or remove it to begin anew")
    return _unpacked(content)


def _packed(state: FederationState, parameters: ModelParameters) -> bytes:
    told = json.dumps(state.to_json(), sort_keys=True, allow_nan=False)
    arrays = {_STATE: np.frombuffer(told.encode("utf-8"), np.uint8)}
    for name, each in {_MODEL: parameters, **state.arrays()}.items():
        arrays |= {f"{name}/{place}": np.asarray(array) for place, array in enumerate(each)}
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise MedwardError(f"{objects[0]}: is an array of objects, and only numbers can be saved; send numbers")
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _unpacked(content: bytes) -> SavedRound:
    lists: dict[str, list[np.ndarray]] = {_MODEL: []}
    with np.load(io.BytesIO(content), allow_pickle=False) as kept:
        for name in kept.files:
            lists.setdefault(name.partition("/")[0], []).append(kept[name])
    (told,), parameters = lists.pop(_STATE), lists.pop(_MODEL)
    return SavedRound(FederationState.from_json(json.loads(told.tobytes()), lists), parameters)
