"""From a trained model and benign data to a bundle."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medward.guard.bundle import folder as bundle
from medward.guard.bundle.site import learn_profile, quality_on
from medward.guard.data.pixels import batch_of, check_image_shape
from medward.guard.data.split import Split, check_split, label_split, split_digest, tell_understanding
from medward.guard.errors import MedwardError
from medward.guard.models import as_served, callable_model, describe_model, infer_spec, wrap
from medward.guard.models.checks import check_decisions
from medward.guard.models.fidelity import check_own
from medward.guard.policy import Policy
from medward.guard.profile import check_enough, forward_batches
from medward.guard.types import Layout, Modality, ScoreKind

_SAMPLE = 256  # rows on which the model's claims and its exported form are checked


def protect(
    model: object,
    benign: Split,
    policy: Policy,
    out: Path | str,
    *,
    name: str = "model",
    modality: Modality | None = None,
    classes: Sequence[str] | None = None,
    output: ScoreKind | None = None,
    task: str | None = None,
    low: float | None = None,
    high: float | None = None,
    layout: Layout | None = None,
    bits: int | None = None,
    features: str | None = None,
    threshold: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> bundle.Bundle:
    """Wrap `model`, calibrate a profile on `benign` rows it was not trained on, and write the bundle to `out`.

    `benign` should come from the site that will be served, with ordinary cases in their ordinary proportions; every
    bound the guard states is relative to it, and counts every row (where patients are known, every patient) as one
    independent draw: leave copies in that real traffic holds, and keep augmented ones out. Whole-number images need
    `low` and `high`, and `layout` and `bits` where these do not show; see `guard.data.pixels`. A DataFrame may be the
    inputs where the model knows the names of its columns: they must be the same, in order. Labels, where known, say how
    well the model does: the card keeps it, and names that look exchanged are refused. `features` names the layer or
    ONNX output that monitors watch. `threshold` is the operating point of a model of two classes: the second one is
    decided from that probability on. `task` says what the model answers, where that cannot be seen: only
    "classification", one right class of several, is guarded. What was understood of the data is logged before work
    begins. What is calibrated and written is the exported model, whose decisions on all rows are the given one's own.
    """
    out = Path(out)
    raw = check_split(benign, _columns(model))
    inputs, layout, bits = batch_of(raw.inputs, low=low, high=high, layout=layout, bits=bits)
    if layout is not None:
        check_image_shape(inputs.shape[1:], describe_model(model).get("shape"))
    spec = infer_spec(
        model,
        sample=inputs[:_SAMPLE],
        name=name,
        modality=modality,
        classes=classes,
        output=output,
        low=low,
        high=high,
        task=task,
        threshold=threshold,
    )
    spec = replace(spec, layout=layout, bits=bits)
    rows = label_split(replace(raw, inputs=spec.check(inputs)), spec.classes)
    exclusive = rows.labels is not None
    given = wrap(model, spec=spec, sample=inputs, features=features, task=task, exclusive=exclusive)
    served = as_served(given)
    answered = forward_batches(served, rows.inputs)
    check_own(given, answered.scores, inputs)
    check_decisions(forward_batches(given, rows.inputs), answered, spec, "the exported model")
    bundle.check_target(out, overwrite)
    check_enough(len(rows), rows.patients, policy.monitor.calibration_risk)
    quality = quality_on(served, rows)
    tell_understanding({"data": rows}, spec.classes, low=low, high=high, layout=layout, bits=bits, quality=quality)
    profile, sizes = learn_profile(served, rows, policy, seed=seed)
    return bundle.save_bundle(
        out,
        served,
        policy,
        profile,
        data_digest=split_digest(raw),
        sizes=sizes,
        quality=quality,
        overwrite=overwrite,
    )


def medward_version() -> str:
    """The installed version of Medward."""
    return importlib.metadata.version("medward")


def _columns(model: object) -> list[str] | None:
    """The names of the columns that `model` was fitted on, where it knows them."""
    if isinstance(model, str) and ":" in model:
        try:
            model = callable_model.resolve_entrypoint(model)
        except MedwardError:
            return None  # `infer_spec` says what is wrong with it
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(each) for each in names]
