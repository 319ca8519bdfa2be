"""From a trained model and benign data to a bundle."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medward.guard.bundle import folder as bundle
from medward.guard.bundle.bounds import build_bounds
from medward.guard.bundle.certified import check_range, find_certificate, model_file_digest
from medward.guard.bundle.power import measure_power
from medward.guard.bundle.site import learn_profile, quality_on
from medward.guard.data.objects import as_splits, benign_split
from medward.guard.data.operating_point import at_sensitivity
from medward.guard.data.pixels import batch_of, check_image_shape, sent_shape
from medward.guard.data.reading import Reading
from medward.guard.data.report_labels import check_prose, tell_odd_reports
from medward.guard.data.resized import resized_inputs
from medward.guard.data.split import check_split, label_split, log, split_digest, tell_understanding, tell_writing
from medward.guard.data.table_split import fitted_split
from medward.guard.errors import MedwardError
from medward.guard.intake.burned_in_check import check_shows_text
from medward.guard.models import REPORT_ROWS, as_served, describe_model, infer_spec, with_task, wrap
from medward.guard.models.base import WrappedModel
from medward.guard.models.checks import check_decisions
from medward.guard.models.fidelity import check_own
from medward.guard.models.fitted_columns import fitted_columns
from medward.guard.models.inference import OperatingPoints, label_kind
from medward.guard.models.kinds import OPAQUE, REPORT
from medward.guard.models.sources import check_size, open_source
from medward.guard.policy import Policy
from medward.guard.preparation import Preparation
from medward.guard.profile import check_enough, forward_batches
from medward.guard.spec import AnyTask
from medward.guard.tasks.base import check_level
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.report import WrittenReport
from medward.guard.tasks.report_reader import CHEST_TERMS, Mention, ReportReader
from medward.guard.types import Array, Layout, Modality, Outputs, ScoreKind

_SAMPLE = 256  # rows on which the model's claims and its exported form are checked


def protect(
    model: object,
    benign: object,
    policy: Policy,
    out: Path | str,
    *,
    name: str = "model",
    modality: Modality | None = None,
    task: AnyTask | str | None = None,
    classes: Sequence[str] | None = None,
    output: ScoreKind | None = None,
    threshold: OperatingPoints | None = None,
    sensitivity: float | None = None,
    tolerance: float | None = None,
    cut_points: Sequence[float] = (),
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    layout: Layout | None = None,
    bits: int | None = None,
    prepare: Preparation | None = None,
    processor: object = None,
    target: str | None = None,
    patient: str | None = None,
    integer: Sequence[str] = (),
    immutable: Sequence[str] = (),
    split: str | None = None,
    labels: Path | None = None,
    features: str | None = None,
    output_key: str | None = None,
    allow_code: bool = False,
    certificate: Path | str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> bundle.Bundle:
    """Wrap `model`, calibrate a profile on `benign` rows it was not trained on, and write the bundle to `out`.

    `benign` should come from the site that will be served, with ordinary cases in their ordinary proportions; every
    bound the guard states is relative to it, and counts every row (where patients are known, every patient) as one
    independent draw: leave copies in that real traffic holds, and keep augmented ones out. Whole-number images need
    `low` and `high`, and `layout` and `bits` where these do not show; see `guard.data.pixels`. Labels, where known, say
    how well the model does: the card keeps it, and names that look exchanged are refused. `features` names the layer or
    ONNX output that monitors watch.

    `benign` is a `Split`, a path or an object that `guard.data.objects` reads; of several splits the one called
    `split`, or else as benign rows are. In a table `target` and `patient` name the columns of labels and patients; the
    model takes those it was fitted on, else all others. `integer` and `immutable` name columns that stay whole numbers,
    or as they are, under attack; those that hold whole numbers only are whole anyway.

    `task` says what the model answers, as a word ("classification", "multilabel", "regression", "opaque", "report") or
    as the task itself (`guard.tasks`); where it shows, it need not be said. `threshold` is the operating point of a
    model of two classes, whose second is decided from that probability on, or of each finding; `sensitivity` chooses it
    on the labelled rows instead. `tolerance` is the smallest change of a number that matters, `cut_points` are those
    between decisions, in its `unit`. `prepare` says how files become inputs and are normalised inside the model; a
    Hugging Face image `processor` (or its folder) says it too, and one beside the model is read
    (`guard.models.sources`).
    `output_key` chooses one of several outputs of a module or file; `allow_code` lets a MONAI bundle's configuration
    run code. A `certificate` of training, the one said or ``certificate.json`` beside the model's file, goes into the
    card where it is of that very file (`guard.bundle.certified`). Where the policy certifies answers, bounds are built
    and kept (`guard.bundle.bounds`). A release level that the policy leaves open and the
    task does not have becomes one that it has. What was understood is logged before work begins. What is calibrated and
    written is the exported model, whose decisions on all rows are the given one's own.
    """
    if not isinstance(policy, Policy):
        raise MedwardError(f"policy: expected a Policy, got {type(policy).__name__}; Policy(on_error=...) has defaults")
    if sensitivity is not None and threshold is not None:
        raise MedwardError(
            f"sensitivity = {sensitivity} and threshold = {threshold}: both choose the operating point; give one"
        )
    out = Path(out)
    certified, handed = find_certificate(model, certificate), model_file_digest(model)
    source = open_source(model, processor, low=low, high=high, prepare=prepare, allow_code=allow_code)
    model, low, high, prepare = source.model, source.low, source.high, source.prepare
    classes = source.classes if classes is None else classes
    named = isinstance(benign, str | Path)
    reading = Reading(
        low=low,
        high=high,
        channels=source.file_channels(benign),
        bits=bits,
        prepare=prepare,
        target=target,
        patient=patient,
        labels=labels,
    )
    found = benign_split(as_splits(benign, reading), split, benign if named else "data")
    found, columns = fitted_split(found, fitted_columns(model), integer=integer, immutable=immutable)
    bits = found.bits if bits is None else bits
    raw = check_split(found)
    raw = replace(raw, inputs=resized_inputs(raw.inputs, prepare, layout))
    inputs, layout, bits = batch_of(raw.inputs, low=low, high=high, layout=layout, bits=bits)
    sent = sent_shape(raw.inputs.shape[1:], layout)
    opaque = isinstance(task, Opaque) or task == OPAQUE
    report = isinstance(task, WrittenReport) or task == REPORT
    if layout is not None and not opaque:
        _check_shape(inputs.shape[1:], sent, describe_model(model, output_key, report=report).get("shape"))
    spec = infer_spec(
        model,
        sample=inputs[:_SAMPLE],
        name=name,
        modality=modality,
        low=low,
        high=high,
        labels=label_kind(raw.labels, raw.names),
        task=task,
        columns=columns,
        classes=classes,
        output=output,
        threshold=threshold,
        tolerance=tolerance,
        cut_points=cut_points,
        unit=unit,
        sent=sent,
        prepare=prepare,
        output_key=output_key,
    )
    spec = replace(spec, layout=layout, bits=bits)
    check_range(certified, spec)
    check_size(spec)
    check_shows_text(policy.privacy, spec)
    policy = _with_level(policy, spec.task)
    rows = label_split(replace(raw, inputs=spec.check(inputs)), spec.task)
    if isinstance(spec.task, WrittenReport) and raw.names is not None:
        tell_odd_reports(raw.names, spec.task, "labels")
    word = spec.task.kind if task is not None else None
    given = wrap(
        model,
        spec=spec,
        sample=inputs,
        features=features,
        task=word,
        exclusive=rows.labels is not None,
        output_key=output_key,
    )
    if sensitivity is not None:
        chosen = at_sensitivity(spec.task, forward_batches(given, rows.inputs).scores, rows.labels, sensitivity)
        spec = replace(spec, task=chosen)
        given = with_task(given, chosen)
    served = as_served(given)
    if not isinstance(spec.task, Opaque):  # of which nothing is decided that could be compared
        most = min(REPORT_ROWS, len(inputs)) if report else len(inputs)
        tell_writing(spec.task, "the model and its form in the bundle write about %d rows, to be compared", most)
        answered = _check_served(given, served, rows.inputs[:most], inputs[:most])
        if isinstance(spec.task, WrittenReport):
            what, remedy = "the model's reports", "have it write English sentences, or its findings would be misread"
            check_prose(answered.texts, spec.task, what, remedy)
            tell_odd_reports(answered.texts, spec.task, what)
            _tell_unnamed_findings(answered.texts, spec.task)
    bundle.check_target(out, overwrite)
    check_enough(len(rows), rows.patients, policy.monitor.calibration_risk)
    if rows.labels is not None:
        tell_writing(spec.task, "written about %d labelled rows, to say how well findings are told", len(rows))
    quality = quality_on(served, rows)
    tell_understanding({"data": rows}, spec.task, low=low, high=high, layout=layout, bits=bits, quality=quality)
    bounds = build_bounds(served, rows.inputs, policy)
    tell_writing(spec.task, "%d rows are seen for the calibration, and nothing is written", len(rows))
    profile, sizes = learn_profile(served, rows, policy, seed=seed)
    return bundle.save_bundle(
        out,
        served,
        policy,
        profile,
        data_digest=split_digest(raw),
        sizes=sizes,
        quality=quality,
        target=target,
        patient=patient,
        source=handed,
        certificate=certified,
        bounds=bounds,
        power=measure_power(served, profile, policy, rows.inputs, seed=seed),
        overwrite=overwrite,
    )


def _check_shape(shape: tuple[int, ...], sent: tuple[int, ...] | None, takes: Sequence[int | None] | None) -> None:
    """Refuse images of another `shape` than the model `takes`; rows `sent` with its axes are checked by its adapter."""
    if sent is None or takes is None or len(takes) != len(sent):
        check_image_shape(shape, takes)


def _check_served(given: WrappedModel, served: WrappedModel, rows: Array, raw: NDArray[Any]) -> Outputs:
    """What an exported model answers about `rows`; refuses others than the given one's, or its own."""
    answered = forward_batches(served, rows)
    check_own(given, answered.scores, raw)
    check_decisions(forward_batches(given, rows), answered, given.spec, "the exported model")
    return answered


def _tell_unnamed_findings(texts: Sequence[str], task: WrittenReport) -> None:
    """Warn of findings that reports say are there or may be, and that the task does not name: no decision has them."""
    named = {each.lower().replace("_", " ") for each in task.findings}  # whose words may be the user's own
    unnamed = {name: words for name, words in CHEST_TERMS.items() if name not in named and words not in task.words}
    others = ReportReader(unnamed)
    said = Counter(name for text in texts for name, meant in others.read(text).items() if meant > Mention.ABSENT)
    if said:
        log.warning(
            "findings: reports also speak of %s, which is in no decision: at level label nobody is told; name all that "
            "the model may find",
            ", ".join(f"{name} ({count} of {len(texts)})" for name, count in said.most_common()),
        )


def _with_level(policy: Policy, task: AnyTask) -> Policy:
    """`policy` with a release level that `task` has: the one said, or full where none was."""
    if policy.release.default in task.levels or "level" in policy.release.model_fields_set:
        check_level(task, policy.release.default)
        return policy
    log.warning("answers leave at level full: a model that %s has no level %s", task.rule, policy.release.level)
    return policy.model_copy(update={"release": policy.release.model_copy(update={"level": "full"})})


def medward_version() -> str:
    """The installed version of Medward."""
    return importlib.metadata.version("medward")
