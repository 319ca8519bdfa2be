"""From a trained torch model and its data to a folder with the hardened model, ready for ``medward protect``.

`MODEL` is the hardened model and `ORIGINAL` the model as it was (for ``medward validate --before``), both ONNX;
`WEIGHTS` is the hardened state dict, for the user's own code; `CERTIFICATE` says what was done. Private training that
is to be audited adds `CANARIES` and `MANIFEST`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medward.guard.certificate import (
    CERTIFICATE,
    HARDENED_MARK,
    ORIGINAL,
    AnyCertificate,
    PrivacyCertificate,
)
from medward.guard.data.objects import as_splits
from medward.guard.data.overlap import measure_overlap
from medward.guard.data.reading import Reading
from medward.guard.data.split import log, tell_understanding
from medward.guard.errors import MedwardError
from medward.guard.harden import known_hardeners, plugin_hardeners
from medward.guard.harden.audit_rows import arrange_audit, write_audit
from medward.guard.harden.certificate import Hardener
from medward.guard.harden.division import divide_splits, needed_splits
from medward.guard.harden.given_rows import decided_rows, rows_with_labels
from medward.guard.harden.losses.table import losses_of
from medward.guard.harden.method import HardeningMethod
from medward.guard.harden.network import ROWS_PER_BATCH
from medward.guard.harden.private.method import PrivateTraining
from medward.guard.harden.result_folder import MODEL, WEIGHTS, replaced_folder
from medward.guard.harden.task import network_task, said_task
from medward.guard.harden.training_ledger import clear_ledger, harden_with_ledger
from medward.guard.harden.trees.folder import harden_to_trees
from medward.guard.harden.trees.method import CertifiedTrees
from medward.guard.models import callable_model, wrap
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.models.inference import OperatingPoints
from medward.guard.models.onnx_front import add_metadata
from medward.guard.models.sources import check_size, open_source
from medward.guard.models.torch_front import fronted, own_module, refuse_script
from medward.guard.plugins import plugin_versions
from medward.guard.preparation import Preparation
from medward.guard.spec import AnyTask, ModelSpec
from medward.guard.tasks.opaque import Opaque
from medward.guard.threat_policy import small_radius
from medward.guard.types import Array, Layout, ScoreKind


def harden(
    model: object,
    data: object,
    out: Path | str,
    method: Hardener | CertifiedTrees | str = "uat",
    *,
    target: str | None = None,
    patient: str | None = None,
    labels: Path | None = None,
    low: float | None = None,
    high: float | None = None,
    layout: Layout | None = None,
    bits: int | None = None,
    prepare: Preparation | None = None,
    task: AnyTask | str | None = None,
    classes: Sequence[str] | None = None,
    output: ScoreKind | None = None,
    threshold: OperatingPoints | None = None,
    tolerance: float | None = None,
    cut_points: Sequence[float] = (),
    processor: object = None,
    output_key: str | None = None,
    allow_code: bool = False,
    canaries: int = 0,
    candidates: int | None = None,
    resume: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[AnyCertificate, str]:
    """Harden `model`, a torch module or its name ``"package.module:attribute"``, and write the folder `out`.

    A Hugging Face folder and a MONAI bundle are read as `guard.bundle.make` reads them, with `prepare` to `allow_code`
    meaning the same. What is normalised before the first layer is trained through, and is in the files written.

    A `method` of `CertifiedTrees` trains trees in the place of any model of a table (`guard.harden.trees.folder`). Else
    `method` is one of `guard.harden.HARDENERS` with settings of its own, or a name of one: that has its default
    settings and the radius that `medward validate` attacks with. Or it is a `PrivateTraining`, whose settings must be
    said; then so many made-up `canaries` are planted and half of about `candidates` rows held out by coins, for audits
    (`guard.harden.audit_rows`), and with `resume` a training that was killed goes on. `data` are splits by name, a
    path, or objects that `guard.data.objects` reads; of a table `target` and `patient` name the columns of labels and
    patients, all others are the network's inputs. It needs "train", with labels; epochs are chosen on "selection" or
    "val", else on a fifth of train. Returns the certificate, and in one sentence which rows were chosen on. `layout`
    and `bits` are those of `guard.bundle.make`, and so are `task` (a word or the task itself) to `cut_points`, of which
    what shows need not be said; `classes` must be where labels are names. What is trained, attacked and measured is the
    decision at the operating points, or a number within its tolerance. Opaque outputs, models of kinds that are not
    guarded, and labels of another task are refused before anything is trained. Copies and patients that are on both
    sides are a note of the certificate. The folder is built beside `out` and renamed: a kill leaves no half-written
    one, and the training starts anew, a private one where its ledger is (`guard.harden.training_ledger`). Raises
    `MedwardError`.
    """
    source = open_source(model, processor, low=low, high=high, prepare=prepare, allow_code=allow_code)
    low, high, classes = source.low, source.high, source.classes if classes is None else classes
    reading = Reading(
        low=low, high=high, bits=bits, prepare=source.prepare, target=target, patient=patient, labels=labels
    )
    words: dict[str, Any] = {"classes": classes, "output": output, "threshold": threshold}
    words |= {"tolerance": tolerance, "cut_points": cut_points}
    if isinstance(method, CertifiedTrees):
        said_words = {"task": task, **words, "output_key": output_key}
        return harden_to_trees(
            source, as_splits(data, reading), Path(out), method, said=said_words, seed=seed, overwrite=overwrite
        )
    network = resolve_module(source.model)
    refuse_script(network)
    splits = as_splits(data, reading)
    read = {
        name: rows_with_labels(name, splits[name], low=low, high=high, layout=layout, bits=bits, prepare=source.prepare)
        for name in needed_splits(splits)
    }
    used = {name: split for name, (split, _) in read.items()}
    first, sent = next(iter(read.values()))
    spec = ModelSpec(
        name="model",
        modality="image" if first.inputs.ndim == 4 else "tabular",
        shape=first.inputs.shape[1:],
        task=Opaque(),  # until it is known
        low=low,
        high=high,
        sent=sent,
        prepare=source.prepare,
    )
    check_size(spec)
    network = fronted(network, spec, output_key)
    if not isinstance(method, PrivateTraining) and (canaries or candidates is not None or resume):
        raise MedwardError("canaries, candidates, resume: are for private training; leave them out, or give one")
    method = _without_mirrors(_named_method(method, spec) if isinstance(method, str) else method, spec)
    if isinstance(method, HardeningMethod) and (small := small_radius(method.epsilon, spec.modality)):
        log.warning("harden: %s", small)
    said = said_task(task, **words)
    sample = np.asarray(first.inputs[:ROWS_PER_BATCH], np.float32)
    found = network_task(network, torch.from_numpy(sample), said, first.labels, first.names)
    losses_of(found)
    known = {name: decided_rows(name, split, found) for name, split in used.items()}
    train, selection, chosen_on = divide_splits(known, seed, found)
    tell_understanding({"train": train, "selection": selection}, found, low=low, high=high)
    measured_on = "the rows that epochs are chosen on"
    if isinstance(method, HardeningMethod) and method.training.keep_last:
        measured_on = "the rows that figures are measured on"
        chosen_on = chosen_on.replace("epochs are chosen", "figures are measured")
    if isinstance(method, PrivateTraining):  # no row chooses an epoch
        measured_on = "the rows that accuracy is measured on"
        chosen_on = chosen_on.replace("epochs are chosen", "accuracy is measured")
        method, train = arrange_audit(method, train, selection, canaries=canaries, candidates=candidates, seed=seed)
    with replaced_folder(Path(out), overwrite=overwrite) as build:
        given: Any = {"network": network, "train": train, "selection": selection}
        given |= {"low": low, "high": high, "seed": seed, "task": found}
        if isinstance(method, PrivateTraining):
            hardened = harden_with_ledger(method, Path(out), resume=resume, **given)
        else:
            hardened = method.harden(**given)
        sample = np.asarray(train.inputs[:ROWS_PER_BATCH], np.float32)
        spec = replace(spec, task=found)
        for net, file in ((network, ORIGINAL), (hardened.network, MODEL)):
            _export(own_module(net), spec, sample, build / file, output_key)
        add_metadata(build / MODEL, {HARDENED_MARK: method.name})
        state = own_module(hardened.network).state_dict()
        torch.save({name: value.cpu() for name, value in state.items()}, build / WEIGHTS)
        kept = write_audit(method, build) if isinstance(method, PrivateTraining) else ()
        written = (MODEL, ORIGINAL, WEIGHTS, *kept)
        files = {name: hashlib.sha256((build / name).read_bytes()).hexdigest() for name in written}
        shared = measure_overlap(train, selection).sentence("train", measured_on)
        unchecked = _start_notes(method, apart=len(known) == 1)
        notes = (*hardened.certificate.notes, *([shared] if shared else []), *unchecked, *_front_notes(spec))
        versions = hardened.certificate.versions | plugin_versions(
            each for each in plugin_hardeners() if each.name == method.name
        )
        told = {"task": found, "low": low, "high": high, "files": files, "notes": notes, "versions": versions}
        if len(known) == 1:
            told |= _without_before(hardened.certificate, notes)
        certificate = hardened.certificate.model_copy(update=told)
        (build / CERTIFICATE).write_text(certificate.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if isinstance(method, PrivateTraining):
        clear_ledger(Path(out))
    return certificate, chosen_on


def resolve_module(model: object) -> nn.Module:
    """The torch module that `model` is or names."""
    found = callable_model.resolve_entrypoint(model) if isinstance(model, str) and ":" in model else model
    if isinstance(found, PretrainedWriter):
        raise MedwardError(
            "model: a network that writes reports is hardened in Python, by what it sees of images: "
            "medward.guard.harden.robust.tower.TowerTraining; medward harden trains classes, findings and numbers"
        )
    if not isinstance(found, nn.Module):
        raise MedwardError(
            f'model: only torch modules can be hardened, given as "package.module:attribute", got {_kind(model, found)}'
            + _trees_hint(found)
            + ("; that is a class: write net = Net() in that module and give net" if isinstance(found, type) else "")
        )
    return found


def _export(network: nn.Module, spec: ModelSpec, sample: Array, file: Path, output_key: str | None) -> None:
    """Write `network`, behind what `spec` says stands before it, as the ONNX `file`, checked to answer as it does."""
    task = spec.task.kind  # known by now
    model = wrap(network, spec=spec, sample=sample, task=task, untrained=True, output_key=output_key)
    (file.parent / model.export(file.parent).file).rename(file)


def _without_before(certificate: AnyCertificate, notes: tuple[str, ...]) -> dict[str, Any]:
    """What is stated where the rows kept apart are of train, which the given model may have learned."""
    if isinstance(certificate, PrivacyCertificate):
        note = (
            "accuracy before is not stated: the rows kept apart are of train, which the given model may have learned; "
            'give a split "selection" that neither saw, to compare'
        )
        measured = {name: value for name, value in certificate.measured.items() if name != "before"}
        return {"measured": measured, "notes": (*notes, note)}
    note = (
        "figures before are not stated, and those after may flatter: the rows kept apart are of train, which the given "
        'model may have learned; give a split "selection" that it never saw'
    )
    shares = tuple(each.model_copy(update={"before": None}) for each in certificate.certified_shares)
    return {"before": None, "certified_shares": shares, "notes": (*notes, note)}


def _front_notes(spec: ModelSpec) -> tuple[str, ...]:
    """What a reader must know of a file that normalises its rows itself."""
    if not spec.prepare.mean:
        return ()
    return (f"{MODEL} and {ORIGINAL} normalise their rows themselves: protect them without mean and std",)


def _start_notes(method: Hardener, *, apart: bool) -> tuple[str, ...]:
    """What a reader must know of a start that nobody could check: the rows kept `apart` are of train."""
    if not isinstance(method, PrivateTraining) or method.start != "pretrained" or not apart:
        return ()
    return (
        "the start was compared with rows of train only: weights that were fitted to all of train pass; give a split "
        '"selection" that they never saw, so that it can be told',
    )


def _named_method(name: str, spec: ModelSpec) -> Hardener:
    """The method called `name` at its default settings, with the radius that inputs of `spec` are attacked with."""
    known = known_hardeners()
    if name == PrivateTraining.name:
        raise MedwardError(f'method: "{name}" needs to know what may be spent; give PrivateTraining(target_epsilon=8)')
    if name not in known:
        raise MedwardError(f"method: there is no {name!r}; there are {', '.join(known)}")
    if spec.modality == "tabular":
        return known[name].for_tables()
    if spec.low is None or spec.high is None:
        raise MedwardError("low and high: say the range of the inputs, as low=0, high=1; a radius is a share of it")
    return replace(known[name], epsilon=known[name].epsilon * (spec.high - spec.low))


def _without_mirrors(method: Hardener, spec: ModelSpec) -> Hardener:
    """`method` without what shifts and mirrors images where rows are signals, whose leads and times are no places."""
    if spec.kind != "signal" or not isinstance(method, HardeningMethod) or method.training.augment is None:
        return method
    log.warning("rows are signals: they are not shifted, mirrored and relit in training, as images are")
    return replace(method, training=replace(method.training, augment=None))


def _trees_hint(found: object) -> str:
    """What can be done for a model of another library."""
    if isinstance(found, str | type) or not callable(getattr(found, "predict", None)):
        return ""
    return "; of a table, --method certified --architecture trees trains trees in its place"


def _kind(model: object, found: object) -> str:
    if isinstance(found, str):
        return repr(found)
    return f"{type(found).__name__} for {model!r}" if isinstance(model, str) else type(found).__name__
