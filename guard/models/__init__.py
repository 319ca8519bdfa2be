"""One contract for every kind of trained model; importing this loads none of their libraries.

`wrap` turns a torch module, a Hugging Face image classifier, a scikit-learn estimator, an ONNX file or any
callable into a `guard.models.base.Model`. One file per kind; each offers an `Adapter`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from medward.guard.columns import Column, is_plain
from medward.guard.errors import MedwardError
from medward.guard.models import fidelity
from medward.guard.models.adapters import FILES, adapter_of_file, find_adapter
from medward.guard.models.base import Adapter, Exported, WrappedModel, first_line
from medward.guard.models.checks import check_names, check_scores, check_spec
from medward.guard.models.front import check_front
from medward.guard.models.inference import LabelKind, TaskOptions, infer_task
from medward.guard.models.kinds import OPAQUE, REPORT, check_task, check_values
from medward.guard.preparation import AS_IT_IS, Preparation
from medward.guard.spec import AnyTask, ModelSpec
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Modality, Outputs

__all__ = [
    "FILES",
    "Exported",
    "WrappedModel",
    "as_served",
    "check_scores",
    "describe_model",
    "infer_spec",
    "load_model",
    "with_task",
    "wrap",
]

SAMPLE_ROWS, RAW_ROWS, REPORT_ROWS = 256, 8, 16
"""Rows that a model is checked on, rows that only show what shape its outputs have, and rows reports are written on."""


def wrap(
    x: object,
    *,
    spec: ModelSpec,
    sample: object,
    features: str | None = None,
    task: str | None = None,
    exclusive: bool = False,
    untrained: bool = False,
    output_key: str | None = None,
) -> WrappedModel:
    """Wrap a trained classifier; `spec` is checked on `sample`, benign inputs ``(n, *shape)`` as the caller has them.

    What `spec` says stands before the model's own first layer (`guard.models.front`) is put there, and will be in the
    file that the model becomes. `output_key` chooses one of several outputs, by name or place.

    Models are run on the first `SAMPLE_ROWS` of them; the exported form of an estimator is compared on all.

    `x` is a module, an estimator, a callable on batches, a path ``*.onnx`` or ``*.skops``, or the name
    ``"package.module:attribute"`` of any of these. `features` names the layer (torch: its output) or ONNX
    output that monitors watch; default: the input of the last ``nn.Linear``, the ONNX output "features", else
    none. The returned model's ``spec.features`` is the width found. `task` is the word for what the model answers
    (`kinds.TASKS`), where it was said; `exclusive` says that labels show one right class for each input,
    `untrained` that the values of its scores show nothing of its kind, for it may never have been trained.
    Raises `MedwardError` when the scores are not what `spec` claims, when the model is of a kind that is not guarded,
    and when it fails the fidelity gate (`guard.models.fidelity`).
    """
    check_task(spec.name, task)
    check_spec(spec)
    check_front(spec)
    rows = spec.check(sample)
    report = isinstance(spec.task, WrittenReport)
    most = REPORT_ROWS if report else SAMPLE_ROWS
    probe, raw = rows[:most], np.asarray(sample)[:most]
    adapter, x = find_adapter(x, report=report)
    if not adapter.tables and not is_plain(spec.columns):
        odd = next(each.name for each in spec.columns if not is_plain([each]))
        raise MedwardError(
            f"{spec.name}: column {odd!r} has gaps or texts, and this kind of model takes numbers only; give a "
            "scikit-learn pipeline that takes the table, or the numbers that the model was trained on"
        )
    known = {} if isinstance(spec.task, Opaque) else adapter.describe(x, output_key)
    check_names(spec.name, spec.classes, _own_names(known))
    model, outputs = _predicted(adapter, x, spec, rows, features, output_key, most)
    check_scores(outputs.scores, spec)
    if not untrained:
        check_values(outputs.scores, spec, task, exclusive=exclusive or "output" in known)
    fidelity.check_fidelity(model, probe, raw)
    width = 0 if outputs.features is None else outputs.features.shape[1]
    wrapped: WrappedModel = replace(model, spec=replace(spec, features=width))
    return wrapped


def infer_spec(
    x: object,
    *,
    sample: object,
    name: str = "model",
    modality: Modality | None = None,
    low: float | None = None,
    high: float | None = None,
    labels: LabelKind | None = None,
    task: AnyTask | str | None = None,
    sent: tuple[int, ...] | None = None,
    prepare: Preparation = AS_IT_IS,
    output_key: str | None = None,
    columns: tuple[Column, ...] = (),
    **options: Any,
) -> ModelSpec:
    """The specification of `x` with as little said as possible; what cannot be known must be said.

    The shape comes from `sample`. Classes come from scikit-learn's ``classes_``, Hugging Face's ``id2label``
    or an ONNX output's width. scikit-learn gives probabilities and Hugging Face gives logits; for torch, ONNX
    and callables what scores are must be said, for it cannot be seen from outside. Bounds are never guessed.
    `columns` name the numbers of a table's row. `task` is a word or the task itself, `options` are those of
    `inference.TaskOptions`; `labels` say what the labels beside the data are.
    """
    shape = np.asarray(sample).shape[1:]
    bare = ModelSpec(
        name=name,
        modality=modality or ("image" if len(shape) > 1 else "tabular"),
        shape=shape,
        task=Opaque(),
        low=low,
        high=high,
        sent=sent,
        prepare=prepare,
        columns=columns,
    )
    check_front(bare)

    def raw() -> Array:
        return _raw_outputs(x, bare, sample, output_key)

    if isinstance(task, type):
        raise MedwardError(f"{name}: task: {task.__name__} is a class; give an instance of it, or a word")
    if not isinstance(task, str | None):
        if any(options.values()):
            raise MedwardError(f"{name}: give the task itself, or words that tell it, not both")
        spec = replace(bare, task=task)
    else:
        said = TaskOptions(task=task, **options)
        check_task(name, task)
        known = {} if task == OPAQUE else describe_model(x, output_key, report=task == REPORT)
        check_names(name, said.classes or (), _own_names(known))
        spec = replace(bare, task=infer_task(name, said, known, raw, labels))
    check_spec(spec)
    return spec


def _raw_outputs(x: object, spec: ModelSpec, sample: object, output_key: str | None) -> Array:
    """What the model itself returns for a few rows, whatever that is."""
    check_spec(spec)
    adapter, x = find_adapter(x)
    return _predicted(adapter, x, spec, spec.check(sample)[:RAW_ROWS], None, output_key)[1].scores


def _predicted(
    adapter: Adapter,
    x: object,
    spec: ModelSpec,
    rows: Array,
    features: str | None,
    output_key: str | None,
    most: int = SAMPLE_ROWS,
) -> tuple[Any, Outputs]:
    """The adapted model and its outputs for the first of `rows`, `most` of them."""
    try:
        model: Any = adapter.adapt(x, spec, rows, features, output_key)
        return model, model.predict(rows[:most])
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(f"{spec.name}: the model fails on the sample: {first_line(error)}") from error


def _own_names(known: Mapping[str, Any]) -> Sequence[str] | None:
    """The class names of the model itself; numbers of the columns of an ONNX file are none."""
    return known.get("classes") if "output" in known else None


def describe_model(x: object, output_key: str | None = None, *, report: bool = False) -> dict[str, Any]:
    """What can be known of `x` without running it: "classes", "output", and "shape" of one input, None for any size.

    `output_key` names the output to take, where there are several; `report` says that it writes reports.

    Raises `MedwardError` when it cannot be read or is no model.
    """
    adapter, x = find_adapter(x, report=report)
    known: dict[str, Any] = adapter.describe(x, output_key)
    return known


def as_served(model: WrappedModel) -> WrappedModel:
    """The model that a bundle of `model` would serve: written to a file and read back."""
    with TemporaryDirectory() as folder:
        exported = model.export(Path(folder))
        data = (Path(folder) / exported.file).read_bytes()
        return load_model(exported.file, data, spec=model.spec, options=exported.options, allow_code=True)


def with_task(model: WrappedModel, task: AnyTask) -> WrappedModel:
    """`model`, which answers the same, under a specification with another `task`: other operating points."""
    held: Any = model
    again: WrappedModel = replace(held, spec=replace(model.spec, task=task))
    return again


def load_model(
    file: str, data: bytes, *, spec: ModelSpec, options: Mapping[str, str], allow_code: bool
) -> WrappedModel:
    """The model that `export` wrote to `file`; `data` are the file's bytes, already verified by the caller.

    Only ``entrypoint.json`` runs code; it is refused unless `allow_code`.
    """
    if file == "entrypoint.json" and not allow_code:
        raise MedwardError(
            f"{file}: this bundle imports code; pass allow_code=True (--allow-code) if you trust its source"
        )
    adapter = adapter_of_file(file, report=isinstance(spec.task, WrittenReport))
    if adapter.load is None:
        raise MedwardError(f"{file}: no bundle holds a model so")
    model: WrappedModel = adapter.load(data, spec, options)
    return model
