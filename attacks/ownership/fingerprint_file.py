"""A fingerprint on disk: one npz without pickles, readable by its owner alone, with a digest of all that it holds.

It is secret. Who has it can train a clone to answer its inputs otherwise, and it holds rows of the owner's data.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from medward.attacks.ownership.fingerprint import Fingerprint
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.files import write_durably
from medward.guard.models.checks import check_spec
from medward.guard.spec import ModelSpec

FINGERPRINT_FORMAT = 1
_ARRAYS = ("inputs", "own", "ways", "null", "null_sorts", "clones", "clone_ways")
_KIND = "medward fingerprint"


def check_new_file(path: Path) -> None:
    """Refuse, before work begins, a `path` where no new fingerprint can be written; none is ever overwritten."""
    if path.suffix != ".npz":
        raise MedwardError(f"{path}: a fingerprint is an npz; call it {path.with_suffix('.npz').name}")
    if path.exists():
        raise MedwardError(f"{path}: is there already; choose another name, or move it away")
    if not path.parent.is_dir():
        raise MedwardError(f"{path.parent}: there is no such folder; make it first")


def save_fingerprint(path: Path, found: Fingerprint) -> str:
    """Write the fingerprint, whole or not at all, for its owner alone to read; returns its digest."""
    arrays = {name: np.asarray(getattr(found, name)) for name in _ARRAYS}
    said = {
        "kind": _KIND,
        "format": FINGERPRINT_FORMAT,
        "bundle": found.bundle,
        "spec": TypeAdapter(ModelSpec).dump_python(found.spec, mode="json"),
        "way_names": found.way_names,
        "null_names": found.null_names,
    }
    text = json.dumps(said, sort_keys=True)
    digest = _digest(text, arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, said=np.array(text), digest=np.array(digest), **arrays)
    write_durably(path, buffer.getvalue(), mode=0o600)
    return digest


def load_fingerprint(path: Path) -> Fingerprint:
    """Read a fingerprint, its digest first.

    Raises `IntegrityError` where it was changed, `MedwardError` where it is no fingerprint or of another format.
    """
    if not path.is_file():
        raise MedwardError(f"{path}: there is no such file; `medward fingerprint` writes one")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive can raise nearly anything
        raise MedwardError(f"{path}: is no fingerprint, or is damaged ({type(error).__name__})") from None
    text, digest = (str(arrays.pop(name, "")) for name in ("said", "digest"))
    try:
        said = json.loads(text)
        known = said["kind"] == _KIND
    except (ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise MedwardError(f"{path}: is no fingerprint; `medward fingerprint` writes one")
    if said["format"] != FINGERPRINT_FORMAT:
        raise MedwardError(
            f"{path}: format {said['format']!r}, this medward reads format {FINGERPRINT_FORMAT}; make it anew"
        )
    if set(arrays) != set(_ARRAYS) or _digest(text, arrays) != digest:
        raise IntegrityError(f"{path}: was changed since it was written; restore it from its source")
    try:
        spec = TypeAdapter(ModelSpec).validate_json(json.dumps(said["spec"]))
        check_spec(spec)
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        raise MedwardError(f"{path}: spec.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return Fingerprint(
        spec=spec,
        bundle=said["bundle"],
        way_names=tuple(said["way_names"]),
        null_names=tuple(said["null_names"]),
        **arrays,
    )


def _digest(text: str, arrays: dict[str, NDArray[Any]]) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return sha.hexdigest()
