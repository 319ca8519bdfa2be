"""From any model of a table and its data to a folder with certified trees, ready for ``medward protect``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medward.guard.certificate import CERTIFICATE, CERTIFIED, HARDENED_MARK, ORIGINAL, RobustnessCertificate
from medward.guard.certify.bounds import Bounds
from medward.guard.data.overlap import measure_overlap
from medward.guard.data.split import Split, log, tell_understanding
from medward.guard.data.table_rows import chosen_columns, encoded_rows
from medward.guard.errors import MedwardError
from medward.guard.harden.division import divide_splits, needed_splits
from medward.guard.harden.given_rows import decided_rows, rows_with_labels
from medward.guard.harden.result_folder import replaced_folder
from medward.guard.harden.trees.method import CertifiedTrees
from medward.guard.models import infer_spec, wrap
from medward.guard.models.base import WrappedModel
from medward.guard.models.fitted_columns import fitted_columns
from medward.guard.models.inference import label_kind
from medward.guard.models.onnx_front import add_metadata
from medward.guard.models.onnx_model import load_onnx
from medward.guard.models.sources import Source
from medward.guard.named_values import Table
from medward.guard.threat_policy import small_radius

_SAMPLE = 256  # rows on which the model's claims and its exported form are checked


def harden_to_trees(
    source: Source,
    splits: Mapping[str, Split],
    out: Path,
    method: CertifiedTrees,
    *,
    said: Mapping[str, Any],
    seed: int,
    overwrite: bool,
) -> tuple[RobustnessCertificate, str]:
    """Train trees in the place of the model of `source`, and write the folder `out`.

    `said` are the words of a task (`guard.models.infer_spec`). The folder holds the trees, the model as it was where
    it can be written as ONNX, and the certificate; which rows were measured on is told in one sentence.
    """
    read = {
        name: rows_with_labels(
            name,
            _fitted(splits[name], source.model),
            low=source.low,
            high=source.high,
            layout=None,
            bits=None,
            prepare=source.prepare,
        )[0]
        for name in needed_splits(splits)
    }
    first = next(iter(read.values()))
    if first.inputs.ndim != 2 or not np.isfinite(np.asarray(first.inputs, np.float64)).all():
        raise MedwardError(
            f"architecture: trees need rows of finite numbers (n, d), got {first.inputs.dtype} {first.inputs.shape}; "
            "fill gaps and encode texts first, and for images use --architecture small"
        )
    sample = np.asarray(first.inputs, np.float32)[:_SAMPLE]
    labels = label_kind(first.labels, first.names)
    spec = infer_spec(source.model, sample=sample, low=source.low, high=source.high, labels=labels, **said)
    task = method.check(spec)
    if small := small_radius(method.epsilon, spec.modality):
        log.warning("harden: %s", small)
    original = wrap(source.model, spec=spec, sample=sample)
    known = {name: decided_rows(name, split, task) for name, split in read.items()}
    train, selection, chosen_on = divide_splits(known, seed, task)
    chosen_on = chosen_on.replace("epochs are chosen", "figures are measured")
    tell_understanding({"train": train, "selection": selection}, task, low=source.low, high=source.high)
    with replaced_folder(out, overwrite=overwrite) as build:
        bounds, written = _written_original(original, build)
        data, certificate = method.harden(original, bounds, train, selection, spec=spec, seed=seed)
        (build / CERTIFIED).write_bytes(data)
        add_metadata(build / CERTIFIED, {HARDENED_MARK: method.name})
        names = [CERTIFIED, *([ORIGINAL] if written else [])]
        files = {name: hashlib.sha256((build / name).read_bytes()).hexdigest() for name in names}
        shared = measure_overlap(train, selection).sentence("train", "the rows that figures are measured on")
        notes = [*certificate.notes, *([shared] if shared else [])]
        if not written:
            notes.append("the model cannot be written as ONNX: validate without --before")
        told: dict[str, Any] = {"files": files, "original": files.get(ORIGINAL, "")}
        if len(known) == 1:
            told["before"] = None
            told["certified_shares"] = tuple(
                each.model_copy(update={"before": None}) for each in certificate.certified_shares
            )
            notes.append(
                "figures before are not stated: the rows kept apart are of train, which the given model may have "
                'learned; give a split "selection" that it never saw'
            )
        certificate = certificate.model_copy(update={**told, "notes": tuple(notes)})
        (build / CERTIFICATE).write_text(certificate.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return certificate, chosen_on


def _fitted(split: Split, model: object) -> Split:
    """`split` with the columns that the `model` was fitted on, where it knows them; what is left out is said."""
    if not isinstance(split.inputs, Table):
        return split
    return replace(split, inputs=encoded_rows(chosen_columns(split.inputs, fitted_columns(model)), ()))


def _written_original(original: WrappedModel, build: Path) -> tuple[Bounds | None, bool]:
    """The bounds of the model as it was, if it has any, and whether it was written as ONNX."""
    exported = original.export(build)
    file = build / exported.file
    if file.name != CERTIFIED:
        file.unlink()
        return None, False
    file = file.rename(build / ORIGINAL)
    data = file.read_bytes()
    load_onnx(data, original.spec, exported.options)
    try:
        return Bounds.of(data, original.spec, exported.options), True
    except MedwardError:
        return None, True
