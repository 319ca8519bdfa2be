"""From a trained model and benign data to a bundle."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from guard import bundle
from guard.calibrate import learn
from guard.data import Split, digest, image_batch
from guard.models import as_served, infer_spec, wrap
from guard.models.fidelity import check_own
from guard.policy import Policy
from guard.types import Modality, OutputKind

SAMPLE = 256  # rows on which the model's claims and its exported form are checked


def protect(
    model: object,
    benign: Split,
    policy: Policy,
    out: Path,
    *,
    name: str = "model",
    modality: Modality | None = None,
    classes: Sequence[str] | None = None,
    output: OutputKind | None = None,
    task: str | None = None,
    low: float | None = None,
    high: float | None = None,
    features: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> bundle.Bundle:
    """Wrap `model`, calibrate a profile on `benign` rows it was not trained on, and write the bundle to `out`.

    `benign` should come from the site that will be served, with ordinary cases in their ordinary proportions; every
    bound the guard states is relative to it, and counts every row (where patients are known, every patient) as one
    independent draw: leave copies in that real traffic holds, and keep augmented ones out. uint8 images mean a range
    of [0, 1] unless `low`, `high` say otherwise. `features` names the layer or ONNX output that monitors watch.
    """
    inputs = benign.inputs
    if inputs.dtype == np.uint8 and inputs.ndim >= 3:
        low, high = (0.0 if low is None else low), (1.0 if high is None else high)
        inputs = image_batch(inputs, low=low, high=high)
    spec = infer_spec(
        model,
        sample=inputs[:SAMPLE],
        name=name,
        modality=modality,
        classes=classes,
        output=output,
        low=low,
        high=high,
        task=task,
    )
    checked = spec.check(inputs)
    labelled = benign.labels is not None
    given = wrap(model, spec=spec, sample=inputs[:SAMPLE], features=features, task=task, exclusive=labelled)
    served = as_served(given)
    check_own(served.spec, served.predict(checked).scores, given.own_decisions(inputs))
    profile, sizes = learn(served, replace(benign, inputs=checked), policy, seed=seed)
    return bundle.save(
        out,
        served,
        policy,
        profile,
        data_digest=digest(benign),
        sizes=sizes,
        overwrite=overwrite,
    )


def version() -> str:
    """The installed version of Medward."""
    return importlib.metadata.version("medward")
