"""From a trained torch model and its data to a folder with the hardened model, ready for ``medward protect``.

`MODEL` is the hardened model and `ORIGINAL` the model as it was (for ``medward validate --undefended``), both ONNX;
`WEIGHTS` is the hardened state dict, for the user's own code; `CERTIFICATE` says what was done.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medward.guard.data.overlap import measure_overlap
from medward.guard.data.pixels import batch_of
from medward.guard.data.split import Split, check_split, tell_understanding
from medward.guard.errors import MedwardError
from medward.guard.files import sync_to_disk
from medward.guard.harden.certificate import Certificate, Hardener
from medward.guard.harden.network import ROWS_PER_BATCH, trainable_copy
from medward.guard.harden.robust.inner import frozen_statistics
from medward.guard.models import callable_model, describe_model, kinds, wrap
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Layout, ScoreKind

MODEL, ORIGINAL, WEIGHTS, CERTIFICATE = "model.onnx", "original.onnx", "weights.pt", "certificate.json"
WRITTEN = (MODEL, ORIGINAL, WEIGHTS, CERTIFICATE)
TRAINING, SELECTION = ("train", "data"), ("selection", "val")
SHARE = 5  # without a selection split, one patient (or row) in so many of each class is set apart


def harden(
    model: object,
    splits: Mapping[str, Split],
    out: Path,
    method: Hardener,
    *,
    low: float | None = None,
    high: float | None = None,
    layout: Layout | None = None,
    bits: int | None = None,
    threshold: float | None = None,
    task: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[Certificate, str]:
    """Harden `model`, a torch module or its name ``"package.module:attribute"``, and write the folder `out`.

    `splits` needs "train", with labels; epochs are chosen on "selection" or "val", else on a fifth of train. Returns
    the certificate, and in one sentence which rows were chosen on. `layout` and `bits` are those of
    `guard.bundle.make`, `threshold` is the operating point of a model of two classes. Copies and patients that are on
    both sides are a note of the certificate. Models of other kinds than one class of several are refused before they
    are trained; `task` "classification" says that it is none of them where its scores look so. The folder is built
    beside `out` and renamed: a kill leaves no half-written one, and the training starts anew. Raises `MedwardError`.
    """
    network = resolve_module(model)
    used = {name: _numbered(name, splits[name]) for name in (*TRAINING, *SELECTION) if name in splits}
    train, selection, chosen_on = divide_splits({**splits, **used}, seed)
    train, selection = (
        replace(split, inputs=batch_of(split.inputs, low=low, high=high, layout=layout, bits=bits)[0])
        for split in (train, selection)
    )
    tell_understanding({"train": train, "selection": selection}, None, low=low, high=high)
    _refuse_other_kinds(network, train, task)
    with replaced_folder(out, overwrite=overwrite) as build:
        hardened = method.harden(network, train, selection, low=low, high=high, seed=seed, threshold=threshold)
        sample = np.asarray(train.inputs[:ROWS_PER_BATCH], np.float32)
        for net, file in ((network, ORIGINAL), (hardened.network, MODEL)):
            _export(net, sample, build / file, hardened.certificate)
        torch.save({name: value.cpu() for name, value in hardened.network.state_dict().items()}, build / WEIGHTS)
        files = {name: hashlib.sha256((build / name).read_bytes()).hexdigest() for name in (MODEL, ORIGINAL, WEIGHTS)}
        shared = measure_overlap(train, selection).sentence("train", "the rows that epochs are chosen on")
        notes = (*hardened.certificate.notes, *([shared] if shared else []))
        certificate = hardened.certificate.model_copy(update={"files": files, "notes": notes})
        (build / CERTIFICATE).write_text(certificate.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return certificate, chosen_on


def resolve_module(model: object) -> nn.Module:
    """The torch module that `model` is or names."""
    found = callable_model.resolve_entrypoint(model) if isinstance(model, str) and ":" in model else model
    if not isinstance(found, nn.Module):
        raise MedwardError(
            f'model: only torch modules can be hardened, given as "package.module:attribute", got {_kind(model, found)}'
            + ("; that is a class: write net = Net() in that module and give net" if isinstance(found, type) else "")
        )
    return found


def _refuse_other_kinds(network: nn.Module, train: Split, task: str | None) -> None:
    """Refuse a network not made to choose one class of several; rows it cannot take are the method's to name."""
    kinds.check_task("model", task)
    describe_model(network)
    inputs = torch.from_numpy(np.asarray(train.inputs[:ROWS_PER_BATCH], np.float32))
    try:
        scoring = trainable_copy(network, inputs, "cpu")
        with torch.no_grad(), frozen_statistics(scoring):
            scores = scoring.scores(inputs).numpy()
    except MedwardError:
        return
    if not scoring.logarithm:
        kinds.check_values(scores, _spec(scores.shape[1], train.inputs, "logits", None, None), task, exclusive=True)


def divide_splits(splits: Mapping[str, Split], seed: int) -> tuple[Split, Split, str]:
    """Rows to train on, rows to choose the epoch on, and where the latter are from.

    Without a selection split a part of train is set apart, by patient where patients are known, stratified by class.
    """
    train = next((splits[name] for name in TRAINING if name in splits), None)
    if train is None:
        raise MedwardError(f'hardening needs a split "train"; the data has {", ".join(splits)}')
    for name in SELECTION:
        if name in splits:
            return train, splits[name], f'epochs are chosen on the {len(splits[name])} rows of "{name}"'
    if train.labels is None:
        raise MedwardError("train: hardening needs labels; add train_labels to the data")
    patients = np.arange(len(train)) if train.patients is None else train.patients
    rng, apart = np.random.default_rng(seed), []
    whose, first = np.unique(patients, return_index=True)
    for label in np.unique(train.labels[first]):
        group = rng.permutation(whose[train.labels[first] == label])
        apart.append(group[: -(-len(group) // SHARE)])
    chosen = np.isin(patients, np.concatenate(apart)) if apart else np.zeros(0, bool)
    unit = "rows" if train.patients is None else f"rows ({len(np.concatenate(apart))} patients)"
    told = f'the data has no split "selection" or "val": {int(chosen.sum())} {unit} of train are set apart for it'
    return train.take(np.flatnonzero(~chosen)), train.take(np.flatnonzero(chosen)), told


@contextmanager
def replaced_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to build in that becomes `path` when the block ends well, and is gone when it does not.

    A `path` that is not empty is refused, unless `overwrite` is set and it is an earlier result.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    build, old = (path.with_name(f".{path.name}.{kind}") for kind in ("tmp", "old"))
    with _alone(build, path):
        if old.exists() and not _ours(old):
            build.rmdir()
            raise MedwardError(f"{old}: is in the way and not from a hardening; move it away")
        try:
            if old.exists() and not path.exists():  # a run was killed between its two last steps
                old.rename(path)
            _check(path, overwrite)
            yield build
            build.chmod(0o755)
            for each in (*build.iterdir(), build):
                sync_to_disk(each)
            shutil.rmtree(old, ignore_errors=True)
            if path.exists():
                path.rename(old)
            build.rename(path)
            sync_to_disk(path.parent)
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            shutil.rmtree(build, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(build: Path, path: Path) -> Iterator[None]:
    """Make the folder `build`, empty and locked: what a killed run left there is gone, a run at work is left alone."""
    try:
        build.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(build, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise MedwardError(f"{build}: cannot build there: {error.strerror}; move it away") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.path.samestat(os.fstat(handle), build.stat())  # not one that a run has just made a result of
        except (BlockingIOError, FileNotFoundError):
            free = False
        except OSError as error:
            raise MedwardError(f"{build}: cannot be locked: {error.strerror}; choose a local folder") from None
        if not free:
            raise MedwardError(f"{path}: another run is hardening into it; wait for it, or choose another folder")
        if not _ours(build):
            raise MedwardError(f"{build}: is in the way and not from a hardening; move it away")
        for each in build.iterdir():
            each.unlink()
        yield
    finally:
        os.close(handle)


def _ours(folder: Path) -> bool:
    """Whether all that `folder` holds are files that a hardening writes."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(each.name in WRITTEN and each.is_file() and not each.is_symlink() for each in folder.iterdir())


def _check(path: Path, overwrite: bool) -> None:
    """Refuse a `path` that holds anything but, with `overwrite`, an earlier result."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise MedwardError(f"{path}: exists and is not a folder; choose another place for the hardened model")
    names = {each.name for each in path.iterdir()} if path.exists() else set()
    if names and not overwrite:
        raise MedwardError(f"{path}: is not empty; choose another folder, or replace it with --overwrite")
    if names and not (CERTIFICATE in names and _ours(path)):
        other = ", ".join(sorted(names - set(WRITTEN))) or "folders or links"
        raise MedwardError(f"{path}: holds more than a hardened model ({other}) and is not overwritten; choose another")


def _export(network: nn.Module, sample: Array, file: Path, of: Certificate) -> None:
    """Write `network` as the ONNX `file`, checked to answer on `sample` as the network does."""
    output: ScoreKind = (
        "probabilities" if trainable_copy(network, torch.from_numpy(sample), "cpu").logarithm else "logits"
    )
    spec = _spec(of.classes, sample, output, of.low, of.high)
    written = wrap(network, spec=spec, sample=sample, task=kinds.CLASSIFICATION).export(file.parent)
    (file.parent / written.file).rename(file)


def _spec(classes: int, sample: Array, output: ScoreKind, low: float | None, high: float | None) -> ModelSpec:
    return ModelSpec(
        name="model",
        modality="image" if sample.ndim == 4 else "tabular",
        shape=sample.shape[1:],
        task=Classification(classes=tuple(map(str, range(classes))), output=output),
        low=low,
        high=high,
    )


def _numbered(name: str, split: object) -> Split:
    """`split` with labels that are class numbers: a network has no names."""
    try:
        rows = check_split(split)
        if rows.names is not None:
            raise MedwardError(
                "labels are names, and a network's scores have none; give the number of each one's score, from 0"
            )
    except MedwardError as error:
        raise MedwardError(f"{name}: {error}") from None
    return rows


def _kind(model: object, found: object) -> str:
    if isinstance(found, str):
        return repr(found)
    return f"{type(found).__name__} for {model!r}" if isinstance(model, str) else type(found).__name__
