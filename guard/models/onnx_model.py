"""An ONNX file as a `Model`, run by onnxruntime; no torch, no onnx package.

The graph is read from bytes with external data switched off, so what was digested is all that runs.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.models import checks, onnx_front
from medward.guard.models.base import Adapter, Exported, first_line, require_extra
from medward.guard.models.front import FRONT_MARK
from medward.guard.models.onnx_outputs import FLOATS, choose_outputs, count_classes, has_columns
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints, Outputs

_BATCH = 256
LABELS = ("tensor(int64)", "tensor(int32)", "tensor(string)")
_DTYPES = dict(zip(FLOATS, (np.float32, np.float64, np.float16), strict=True))
CHANNELS_LAST = (1, 2, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxModel:
    """A session, safe to share between threads, and the names of its input and outputs."""

    spec: ModelSpec
    session: Any
    data: bytes
    input: str
    scores: str
    features: str | None = None

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to scores ``(n, classes)`` and features ``(n, d)``."""
        names = [self.scores] if self.features is None else [self.scores, self.features]
        arrays = self.run(inputs, names)
        return checks.checked_outputs(arrays[0], arrays[1] if len(arrays) > 1 else None, self.spec)

    def run(self, inputs: NDArray[Any], names: list[str]) -> list[NDArray[Any]]:
        """The outputs called `names` as the file itself gives them, for rows in the layout it takes."""
        node = self.session.get_inputs()[0]
        fixed = node.shape[0] if isinstance(node.shape[0], int) else None
        x = inputs.reshape(len(inputs), -1) if len(node.shape) == 2 else inputs
        return checks.in_batches(
            lambda batch: self.session.run(names, {self.input: batch}),
            np.array(x, _DTYPES[node.type]),
            fixed or _BATCH,
            pad=fixed is not None,
        )

    def own_decisions(self, rows: NDArray[Any]) -> Ints | None:
        """What the file's own label output says, as class indices, or its scores in double precision where it has that.

        Labels that are names must be the class names; numbers must be class indices, or else go with one class each.
        """
        if not isinstance(self.spec.task, Classification):
            return None
        label = next((each.name for each in self.session.get_outputs() if _holds_labels(each)), None)
        if label is None and self.session.get_inputs()[0].type != "tensor(double)":
            return None
        found = self.run(rows, [label or self.scores])[0]
        if label is None:
            return np.asarray(np.argmax(self.spec.task.read(found, self.spec.name), axis=1), np.int64)
        return class_indices(found.reshape(-1), self.predict(rows.astype(np.float32)).scores, self.spec)

    def export(self, folder: Path) -> Exported:
        """Write the very bytes that were loaded."""
        (folder / "model.onnx").write_bytes(self.data)
        names = {"input": self.input, "scores": self.scores}
        return Exported("model.onnx", names | ({"features": self.features} if self.features else {}))


def adapt_onnx(x: object, spec: ModelSpec, sample: Array, features: str | None, output_key: str | None) -> OnnxModel:
    """Open an ONNX file; its feature output is called `features`, default "features" if there is one."""
    return adapt_graph(onnx_front.read_graph(Path(str(x))), str(x), spec, sample, features, output_key)


def adapt_graph(
    data: bytes, source: str, spec: ModelSpec, sample: Array, features: str | None, output_key: str | None
) -> OnnxModel:
    """The graph of `data`, called `source` in messages, behind what `spec` says stands before it."""
    session = open_session(data, source)
    given = _only_input(session, source, whole=True)
    _check_rows(given, spec, source)
    if spec.prepare.mean and _normalises(session):
        raise MedwardError(
            f"{source}: normalises its rows itself, as medward wrote it; leave mean and std (--mean, --std, the "
            "processor's) out"
        )
    onnx_front.check_whole(given, spec, sample, source)
    if steps := onnx_front.front_steps(given, spec):
        data = onnx_front.graph_with_front(data, steps, spec)
        session = open_session(data, source)
        given = _only_input(session, source)
    scores, shown = choose_outputs(session.get_outputs(), source, task=spec.task, features=features, key=output_key)
    model = OnnxModel(spec=spec, session=session, data=data, input=given.name, scores=scores, features=shown)
    _check_runs(model, sample, source)
    return model


def describe_onnx(x: object, output_key: str | None = None) -> dict[str, Any]:
    """The shape of one input, whether outputs have columns, and class numbers where the graph says how many."""
    session = open_session(onnx_front.read_graph(Path(str(x))), str(x))
    shape = tuple(
        size if isinstance(size, int) else None for size in _only_input(session, str(x), whole=True).shape[1:]
    )
    outputs = [each for each in session.get_outputs() if output_key in (None, each.name)]
    width = count_classes(outputs, str(x)) if outputs else None
    known: dict[str, Any] = {"shape": shape, "columns": has_columns(outputs)}
    known |= {"normalised": True} if _normalises(session) else {}
    return known | ({} if width is None else {"classes": tuple(str(k) for k in range(width))})


def load_onnx(data: bytes, spec: ModelSpec, options: Mapping[str, str]) -> OnnxModel:
    """Open verified bytes; `options` holds the names that `export` recorded."""
    session = open_session(data, "model.onnx")
    given = _only_input(session, "model.onnx")
    scores, features = choose_outputs(session.get_outputs(), "model.onnx", recorded=options, task=spec.task)
    return OnnxModel(spec=spec, session=session, data=data, input=given.name, scores=scores, features=features)


def class_indices(labels: NDArray[np.generic], scores: Array, spec: ModelSpec) -> Ints:
    """The class ``(n,)`` that each of a file's own `labels (n,)` stands for.

    Labels are class names, or places in their order. Numbers that may be both, as grades 1 to 4 over places 0 to 3, are
    read as what agrees better with the largest `scores (n, K)`, but never as places where the names are the places in
    another order. Labels of another vocabulary still have one label for a class: where rows of one label have
    different largest scores, the rows that are not as most are get -1, an index that no score decides.
    """
    own = [str(each) for each in labels.tolist()]
    places = {str(k) for k in range(len(spec.classes))}
    decided = np.argmax(scores, axis=1)
    readings = []
    if set(own) <= set(spec.classes):
        readings.append(np.array([spec.classes.index(each) for each in own], np.int64))
    if set(own) <= places and set(spec.classes) != places:
        readings.append(np.array([int(each) for each in own], np.int64))
    if readings:
        return max(readings, key=lambda reading: int((reading == decided).sum()))
    found = np.array(decided, np.int64)
    for each in set(own):
        rows = np.array([label == each for label in own])
        found[rows & (decided != np.bincount(decided[rows]).argmax())] = -1
    return found


def _holds_labels(node: Any) -> bool:
    """Whether an output is what converters call the label: one whole number or name a row, under a usual name."""
    named = any(word in node.name.lower() for word in ("label", "class"))
    return named and node.type in LABELS and (len(node.shape) == 1 or node.shape[1:] == [1])


def open_session(data: bytes, source: str) -> Any:
    """An onnxruntime session on the CPU with one thread per call; requests run side by side instead."""
    ort = require_extra("onnxruntime", "serve")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # No file can lie below the null device, so a tensor stored outside the model is never found.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "xternal" in str(error):
            raise MedwardError(
                f"{source}: weights lie outside the file; put them inside: onnx.save(onnx.load(path), path)"
            ) from None
        raise MedwardError(f"{source}: onnxruntime cannot load the model: {_cause(error)}") from None
    return session


def _normalises(session: Any) -> bool:
    """Whether the file says that it normalises its rows itself."""
    return FRONT_MARK in session.get_modelmeta().custom_metadata_map


def _only_input(session: Any, source: str, *, whole: bool = False) -> Any:
    """The description of the one numeric input with a batch axis; `whole` numbers are cast to in front of the graph."""
    nodes = session.get_inputs()
    found = ", ".join(f"{node.name}: {node.type} {node.shape}" for node in nodes)
    needs = "needs exactly one floating-point input with a batch axis"
    if len(nodes) != 1:
        raise MedwardError(
            f"{source}: {needs}, got {found}; make the others constants of the file, or wrap the model in a function "
            'and give its name, "package.module:function"'
        )
    if nodes[0].type not in _DTYPES and not (whole and nodes[0].type in onnx_front.WHOLE_RANGES):
        raise MedwardError(
            f"{source}: {needs}, got {found}; export it with a float32 input and a Cast to "
            f"{nodes[0].type.removeprefix('tensor(').removesuffix(')')} inside"
        )
    if len(nodes[0].shape) < 2:
        raise MedwardError(f"{source}: {needs}, got {found}; export it with the axes of its input declared")
    return nodes[0]


def _check_rows(node: Any, spec: ModelSpec, source: str) -> None:
    """Refuse data whose rows are not of the shape that the file declares."""
    declared = tuple(size if isinstance(size, int) else None for size in node.shape[1:])
    given = spec.row_shape if len(declared) == len(spec.row_shape) else spec.shape
    if len(declared) == 1:
        given = (math.prod(spec.shape),)
    if _fits(given, declared):
        return
    takes = tuple("any" if size is None else size for size in declared)
    raise MedwardError(
        f"{source}: input {node.name!r} takes rows of shape {_words(takes)}, the data's are {_words(given)}; "
        + (_channels_last(node) if _fits(_last(spec.shape), declared) else "give rows of the shape it was trained on")
    )


def _check_runs(model: OnnxModel, sample: Array, source: str) -> None:
    """Refuse a file that does not run on one row and on two, or that takes images in another layout.

    A file that declares sizes for neither layout is asked in both. Where only channels-last images run, or the answers
    differ, nothing says which layout it takes.
    """
    node, spec = model.session.get_inputs()[0], model.spec
    declared = tuple(size if isinstance(size, int) else None for size in node.shape[1:])
    row, turned = sample[:1], None
    if len(declared) == 3 and _last(spec.shape) != spec.shape and _fits(_last(spec.shape), declared):
        turned = _answer(model, row.transpose(0, *(axis + 1 for axis in CHANNELS_LAST)))
    scores = _answer(model, row)
    takes = f"{source}: input {node.name!r} declares {node.shape}"
    if isinstance(scores, str) and not (turned is None or isinstance(turned, str)):
        raise MedwardError(
            f"{takes} and runs on rows of shape {_words(_last(spec.shape))} only, the data's are {_words(spec.shape)}; "
            + _channels_last(node)
        )
    if isinstance(scores, str):
        raise MedwardError(f"{takes} and does not run on rows of shape {_words(spec.shape)}: {scores}")
    if isinstance(turned, np.ndarray) and (turned.shape != scores.shape or not np.allclose(turned, scores, atol=1e-5)):
        sizes = ",".join(str(size) for size in (1, *spec.shape))
        raise MedwardError(
            f"{takes} and runs on {_words(spec.shape)} and on {_words(_last(spec.shape))} alike, with other answers; "
            f"declare its sizes: python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name {node.name} "
            f"--input_shape {sizes} IN OUT"
        )
    two = _answer(model, np.concatenate([row, row]))
    if isinstance(two, str):
        raise MedwardError(
            f"{takes} and runs on one row but not on two: {two}; export it with a dynamic batch axis, or declare a "
            "batch of 1"
        )


def _answer(model: OnnxModel, rows: Array) -> Array | str:
    """The scores of `rows`, or why onnxruntime gives none."""
    try:
        return model.run(rows, [model.scores])[0]
    except Exception as error:  # onnxruntime raises types of its own
        return _cause(error)


def _cause(error: Exception) -> str:
    """What onnxruntime says of a node that failed, less its own file names and codes."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(
        r"Non-zero status code returned while running (\w+) node\. Name:'[^']*' Status Message: ", r"\1: ", text
    )
    text = re.sub(r"/\S+\.(?:h|cc|cpp):\d+ .*?(?: was false\. |\) (?=[A-Z]))", "", text)
    return first_line(ValueError(text)).removeprefix("ValueError: ").rstrip(".")


def _last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape ``(C, H, W)`` as ``(H, W, C)``."""
    return tuple(shape[axis] for axis in CHANNELS_LAST) if len(shape) == 3 else shape


def _channels_last(node: Any) -> str:
    return (
        "it takes channels last: put a Transpose with perm = [0, 2, 3, 1] first in the file (tf2onnx: "
        f"--inputs-as-nchw {node.name}:0)"
    )


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(b in (None, a) for a, b in zip(shape, declared, strict=True))


def _words(shape: tuple[object, ...]) -> str:
    return f"({', '.join(str(size) for size in shape)})"


ONNX_ADAPTER = Adapter(adapt_onnx, describe_onnx, load_onnx)
