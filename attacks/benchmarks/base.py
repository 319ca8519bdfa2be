"""What a benchmark task is, and how its rows are split so that no split leaks into another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medward.guard.data.split import Split, save_npz, split_digest
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints, Modality

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkTask:
    """One data set, split for an attack experiment. No row, and no known patient, is in two splits.

    "train": the victim is fitted on it. "selection": early stopping (images only). "calibration": benign,
    unseen, same site as train. "holdout": unseen, divided from train by chance alone (non-members, shadows,
    benign traffic). "test": the official test split where there is one, else divided by chance.
    `shape` excludes the batch axis; `low` and `high` bound every value, None where the units have no bound.
    `duplicates` counts the rows dropped because the same input came before. `source` says where the data is
    from and under which licence.
    """

    name: str
    modality: Modality
    shape: tuple[int, ...]
    low: float | None
    high: float | None
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    source: str
    duplicates: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 over the rows and labels of every split, in order: names this task at this seed."""
        return split_digest(*self.splits.values())


def to_npz(task: BenchmarkTask, path: Path) -> None:
    """Write the task's splits as the one npz that every command reads."""
    save_npz(path, task.splits)


def data_root(root: Path | None = None) -> Path:
    """Data folder: `root`, else ``MEDWARD_DATA``, else ``data/`` in or beside the checkout, else the cache.

    The cache is ``~/.cache/medward`` (``XDG_CACHE_HOME`` is respected). Nothing is created.
    """
    if root is not None:
        return root
    if named := os.environ.get("MEDWARD_DATA"):
        return Path(named)
    beside = [CHECKOUT / "data", CHECKOUT.parent / "data"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medward"
    return next((path for path in beside if path.is_dir()), cache)


def read_known(root: Path | None, name: str, digests: tuple[str, ...], remedy: str) -> dict[str, np.ndarray]:
    """The arrays of the npz `name` under the data root, if its bytes have one of `digests` ("sha256:...").

    Raises `MedwardError`: the file is missing (with `remedy`), or is not a known one (with both digests).
    """
    path = data_root(root) / name
    if not path.is_file():
        raise MedwardError(f"{path} is missing: {remedy} (the folder is set by MEDWARD_DATA)")
    content = path.read_bytes()
    found = {f"{kind}:{_hash(kind, content)}" for kind in {known.partition(":")[0] for known in digests}}
    if not found & set(digests):
        raise MedwardError(
            f"{path} is not the file this task knows: it has {' '.join(sorted(found))}, "
            f"expected {' or '.join(digests)}; {remedy}"
        )
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def first_seen(*parts: Split) -> tuple[list[Split], int]:
    """Drop each row whose input is already in an earlier part or earlier in its own; also say how many."""
    seen: set[bytes] = set()
    kept = []
    for part in parts:
        index = []
        for i, row in enumerate(np.ascontiguousarray(part.inputs)):
            if (key := row.tobytes()) not in seen:
                seen.add(key)
                index.append(i)
        kept.append(part.take(np.array(index, np.int64)))
    return kept, sum(map(len, parts)) - sum(map(len, kept))


def stratified_partition(data: Split, sizes: Mapping[str, int], *, seed: int) -> dict[str, Split]:
    """Divide labelled rows by chance into splits of about `sizes`, stratified by label, patients kept whole.

    Groups (a patient's rows, or a single row where patients are unknown) are visited in a random order; each
    goes where its labels are most wanted. Sizes are scaled to use every row; without patients
    they are met to within one row per class. The result does not depend on the order of the rows.
    """
    if data.labels is None:
        raise MedwardError("partition: labels are needed to stratify")
    data = data.take(_canonical(data.inputs))
    labels = np.asarray(data.labels)
    groups = np.arange(len(data)) if data.patients is None else data.patients
    counts = np.bincount(labels)
    share = np.array(list(sizes.values()), float) / sum(sizes.values())
    missing = share[:, None] * counts  # (splits, classes): rows each split still wants
    chosen: list[list[Ints]] = [[] for _ in sizes]
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(row)
    rows_of = [np.array(rows, np.int64) for _, rows in sorted(members.items())]
    for group in np.random.default_rng(seed).permutation(len(rows_of)):
        rows = rows_of[group]
        have = np.bincount(labels[rows], minlength=len(counts))
        split = int(np.argmax(missing @ have))
        missing[split] -= have
        chosen[split].append(rows)
    empty = np.zeros(0, np.int64)  # of a split so small that every patient is wanted more elsewhere
    return {name: data.take(np.sort(np.concatenate([*rows, empty]))) for name, rows in zip(sizes, chosen, strict=True)}


def _canonical(inputs: Array) -> Ints:
    """An order of the rows that depends on their content alone."""
    return np.array(sorted(range(len(inputs)), key=lambda i: inputs[i].tobytes()), np.int64)


def _hash(kind: str, content: bytes) -> str:
    return hashlib.new(kind, content, usedforsecurity=False).hexdigest()
