"""Data as it travels between commands: one npz, named splits.

A split `s` is ``s_inputs`` or ``s_images`` (n, ...), and where known ``s_labels`` (n,) or (n, 1) and ``s_patients``
(n,). An npz with bare ``inputs``/``images`` holds one split called "data". MedMNIST files are read as they are.
Names with a meaning: "train" (the model saw it), "calibration" (benign, unseen), "holdout" (unseen, same draw as
train), "test". uint8 images ``(n, H, W)`` or ``(n, H, W, C)`` become float32 ``(n, C, H, W)`` scaled to
``[low, high]``. Pickled arrays are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guard.errors import MedwardError
from guard.types import Array, Ints, ModelSpec


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs ``(n, ...)`` with, where known, labels ``(n,)`` and patient numbers ``(n,)``."""

    inputs: Array
    labels: Ints | None = None
    patients: Ints | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Ints | slice) -> Split:
        """The rows at `index`."""
        return Split(
            self.inputs[index],
            None if self.labels is None else self.labels[index],
            None if self.patients is None else self.patients[index],
        )


def load_npz(path: Path) -> dict[str, Split]:
    """Read every split of an npz, raw: nothing is scaled until `conform` knows the model."""
    if not path.exists():
        raise MedwardError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # a damaged file can make NumPy and zipfile raise nearly anything
        if "pickle" in str(error):
            error = ValueError("it is another kind of file or has pickled objects in it")
        raise MedwardError(f"{path}: not a readable npz without pickled objects: {error}") from None
    splits = {}
    for key, values in arrays.items():
        name, _, kind = key.rpartition("_")
        if kind not in ("inputs", "images"):
            continue
        prefix = f"{name}_" if name else ""
        labels, patients = arrays.get(f"{prefix}labels"), arrays.get(f"{prefix}patients")
        if values.ndim < 2:
            raise MedwardError(f"{path}: {key} must have a row per input and at least two axes, got {values.shape}")
        for what, column in (("labels", labels), ("patients", patients)):
            if column is not None and column.dtype.kind not in "iub":
                raise MedwardError(f"{path}: {prefix}{what} must be whole numbers, got dtype {column.dtype}")
            if column is not None and column.size != len(values):
                raise MedwardError(f"{path}: {prefix}{what} has {column.size} entries for {len(values)} {key}")
        splits[name or "data"] = Split(
            values,
            None if labels is None else labels.reshape(-1).astype(np.int64),
            None if patients is None else patients.reshape(-1).astype(np.int64),
        )
    if not splits:
        found = ", ".join(arrays) or "none"
        raise MedwardError(f"{path}: no array named inputs, images, <split>_inputs or <split>_images; it has {found}")
    return splits


def save_npz(path: Path, splits: Mapping[str, Split]) -> None:
    """Write splits so that `load_npz` reads them back equal."""
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    for name, split in splits.items():
        arrays[f"{name}_inputs"] = split.inputs
        if split.labels is not None:
            arrays[f"{name}_labels"] = split.labels
        if split.patients is not None:
            arrays[f"{name}_patients"] = split.patients
    np.savez_compressed(path, allow_pickle=False, **arrays)


def conform(inputs: Array, spec: ModelSpec) -> Array:
    """Bring raw `inputs` to the batch `spec` expects: uint8 images are scaled and their channels moved first."""
    x = np.asarray(inputs)
    if x.dtype == np.uint8 and spec.modality == "image":
        x = image_batch(x, low=0.0 if spec.low is None else spec.low, high=1.0 if spec.high is None else spec.high)
    return spec.check(x)


def image_batch(images: NDArray[np.generic], *, low: float, high: float) -> Array:
    """8-bit ``(n, H, W)`` or ``(n, H, W, C)`` to float32 ``(n, C, H, W)`` in ``[low, high]``."""
    if images.ndim not in (3, 4):
        raise MedwardError(f"images: expected shape (n, H, W) or (n, H, W, C), got {images.shape}")
    x = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    return np.asarray(x, np.float32) / np.float32(255) * np.float32(high - low) + np.float32(low)


def digest(*splits: Split) -> str:
    """SHA-256 over the rows of `splits`, their dtype and shape: names the data, reveals none of it."""
    sha = hashlib.sha256()
    for split in splits:
        for array in (split.inputs, split.labels):
            if array is not None:
                sha.update(f"{array.dtype}{array.shape}".encode())
                sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
