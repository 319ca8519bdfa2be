"""One contract for every kind of trained classifier; importing this loads none of their libraries.

`wrap` turns a torch module, a Hugging Face image classifier, a scikit-learn classifier, an ONNX file or any
callable into a `guard.protocols.Model`. One file per kind; each offers ``adapt``, ``describe`` and, for what
a bundle can hold, ``load``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from guard.errors import MedwardError
from guard.models.base import Exported, WrappedModel, first_line, read
from guard.models.checks import check_scores, check_spec
from guard.types import Modality, ModelSpec, OutputKind

__all__ = ["FILES", "Exported", "WrappedModel", "check_scores", "described", "infer_spec", "load", "wrap"]

BASES = {
    "transformers.modeling_utils.PreTrainedModel": "huggingface_model",
    "torch.nn.modules.module.Module": "torch_model",
    "sklearn.base.BaseEstimator": "sklearn_model",
}
"""Base classes by full name, most specific first, and the adapter that takes their instances."""

FILES = {"model.onnx": "onnx_model", "model.skops": "sklearn_model", "entrypoint.json": "callable_model"}
"""The files a bundle may hold its model in, and the adapter that loads each."""

SAMPLE_ROWS = 256


def wrap(x: object, *, spec: ModelSpec, sample: object, features: str | None = None) -> WrappedModel:
    """Wrap a trained classifier; `spec` is checked on `sample`, a few benign inputs ``(n, *shape)``.

    `x` is a module, an estimator, a callable on batches, a path ``*.onnx`` or ``*.skops``, or the name
    ``"package.module:attribute"`` of any of these. `features` names the layer (torch: its output) or ONNX
    output that monitors watch; default: the input of the last ``nn.Linear``, the ONNX output "features", else
    none. The returned model's ``spec.features`` is the width found.
    Raises `MedwardError` when the scores are not what `spec` claims.
    """
    check_spec(spec)
    probe = spec.check(sample)[:SAMPLE_ROWS]
    adapter, x = _adapter(x)
    try:
        model: Any = adapter.adapt(x, spec, probe, features)
        outputs = model.predict(probe)
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(f"{spec.name}: the model fails on the sample: {first_line(error)}") from error
    check_scores(outputs.scores, spec)
    if len(outputs.scores) != len(probe):
        raise MedwardError(f"{spec.name}: {len(probe)} inputs gave {len(outputs.scores)} rows of scores")
    width = 0 if outputs.features is None else outputs.features.shape[1]
    wrapped: WrappedModel = replace(model, spec=replace(spec, features=width))
    return wrapped


def infer_spec(
    x: object,
    *,
    sample: object,
    name: str = "model",
    modality: Modality | None = None,
    classes: Sequence[str] | None = None,
    output: Literal["logits", "probabilities"] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> ModelSpec:
    """The specification of `x` with as little said as possible; what cannot be known must be said.

    The shape comes from `sample`. Classes come from scikit-learn's ``classes_``, Hugging Face's ``id2label``
    or an ONNX output's width. scikit-learn gives probabilities and Hugging Face gives logits; for torch, ONNX
    and callables `output` must be given, for it cannot be seen from outside. Bounds are never guessed.
    """
    known = described(x)
    shape = np.asarray(sample).shape[1:]
    kind: OutputKind | None = output or known.get("output")
    if kind is None:
        raise MedwardError(f"{name}: say what its scores are, --output logits or --output probabilities")
    if isinstance(classes, str):
        raise MedwardError(f"{name}: classes must be a list of names, got the string {classes!r}")
    names = tuple(classes) if classes is not None else known.get("classes")
    if names is None:
        raise MedwardError(f"{name}: name the classes in score order with --classes; the model has no names")
    spec = ModelSpec(
        name=name,
        modality=modality or ("image" if len(shape) > 1 else "tabular"),
        shape=shape,
        classes=names,
        output=kind,
        low=low,
        high=high,
    )
    check_spec(spec)
    return spec


def described(x: object) -> dict[str, Any]:
    """What can be known of `x` without running it: "classes", "output", and "shape" of one input, None for any size.

    Raises `MedwardError` when it cannot be read or is no model.
    """
    adapter, x = _adapter(x)
    known: dict[str, Any] = adapter.describe(x)
    return known


def load(file: str, data: bytes, *, spec: ModelSpec, options: Mapping[str, str], allow_code: bool) -> WrappedModel:
    """The model that `export` wrote to `file`; `data` are the file's bytes, already verified by the caller.

    Only ``entrypoint.json`` runs code; it is refused unless `allow_code`.
    """
    if file == "entrypoint.json" and not allow_code:
        raise MedwardError(
            f"{file}: this bundle imports code; pass allow_code=True (--allow-code) if you trust its source"
        )
    adapter = importlib.import_module(f"guard.models.{FILES[file]}")
    model: WrappedModel = adapter.load(data, spec, options)
    return model


def _adapter(x: object) -> tuple[Any, object]:
    """The adapter module for `x`, and what to give it: entry points are resolved unless of a function."""
    found = x
    if isinstance(x, str | Path) and str(x).endswith(".skops"):
        found = importlib.import_module("guard.models.skops_file").load(read(Path(x)))
    elif isinstance(x, str) and ":" in x and not x.endswith(".onnx"):
        found = importlib.import_module("guard.models.callable_model").resolve(x)
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(found).__mro__}
    kind = next((adapter for base, adapter in BASES.items() if base in bases), None)
    if isinstance(found, str | Path):
        if not str(found).endswith(".onnx"):
            raise MedwardError(f'{found}: expected a path *.onnx or *.skops, or a name "package.module:attribute"')
        kind = "onnx_model"
    elif kind is None:
        if not callable(found):
            raise MedwardError(f"model: {type(found).__name__} is no torch module, classifier, ONNX path or callable")
        kind, found = "callable_model", x
    return importlib.import_module(f"guard.models.{kind}"), found
