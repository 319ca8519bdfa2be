"""An ONNX file as a `Model`, run by onnxruntime; no torch, no onnx package.

The graph is read from bytes with external data switched off, so what was digested is all that runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guard.errors import MedwardError
from guard.models import checks
from guard.models.base import Exported, first_line, read, require
from guard.types import Array, Ints, ModelSpec, Outputs

BATCH = 256
SCORES = ("scores", "probabilities", "logits")
LABELS = ("tensor(int64)", "tensor(int32)", "tensor(string)")
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


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
        node = self.session.get_inputs()[0]
        fixed = node.shape[0] if isinstance(node.shape[0], int) else None
        x = inputs.reshape(len(inputs), -1) if len(node.shape) == 2 else inputs
        x = np.ascontiguousarray(x, DTYPES[node.type])
        names = [self.scores] if self.features is None else [self.scores, self.features]
        arrays = checks.in_batches(
            lambda batch: self.session.run(names, {self.input: batch}),
            x,
            fixed or BATCH,
            pad=fixed is not None,
        )
        return checks.outputs(arrays[0], arrays[1] if len(arrays) > 1 else None, self.spec)

    def own_decisions(self, rows: NDArray[Any]) -> Ints | None:
        """What the file's own label output says, as class indices, or its scores in double precision where it has that.

        Labels that are names must be the class names; numbers must be class indices, or else go with one class each.
        """
        node = self.session.get_inputs()[0]
        label = next((each.name for each in self.session.get_outputs() if _holds_labels(each)), None)
        if label is None and node.type != "tensor(double)":
            return None
        fixed = node.shape[0] if isinstance(node.shape[0], int) else None
        x = rows.reshape(len(rows), -1) if len(node.shape) == 2 else rows
        x = np.array(x, DTYPES[node.type])
        names = [label or self.scores]
        found = checks.in_batches(
            lambda batch: self.session.run(names, {self.input: batch}), x, fixed or BATCH, pad=fixed is not None
        )[0]
        if label is None:
            return np.asarray(np.argmax(found, axis=1), np.int64)
        return class_indices(found.reshape(-1), self.predict(rows.astype(np.float32)).scores, self.spec)

    def export(self, folder: Path) -> Exported:
        """Write the very bytes that were loaded."""
        (folder / "model.onnx").write_bytes(self.data)
        names = {"input": self.input, "scores": self.scores}
        return Exported("model.onnx", names | ({"features": self.features} if self.features else {}))


def adapt(x: object, spec: ModelSpec, _sample: Array, features: str | None) -> OnnxModel:
    """Open an ONNX file; its feature output is called `features`, default "features" if there is one."""
    data = read(Path(str(x)))
    session = open_session(data, str(x))
    outputs = {node.name: node for node in session.get_outputs()}
    if features is not None and features not in outputs:
        raise MedwardError(f"{x}: no output named {features!r}; the outputs are {list(outputs)}")
    features = features or ("features" if "features" in outputs else None)
    return OnnxModel(
        spec=spec,
        session=session,
        data=data,
        input=_only_input(session, str(x)),
        scores=_scores(outputs, features, str(x)),
        features=features,
    )


def describe(x: object) -> dict[str, Any]:
    """The shape of one input, and class numbers when the width of the score output is written in the graph."""
    session = open_session(read(Path(str(x))), str(x))
    _only_input(session, str(x))
    outputs = {node.name: node for node in session.get_outputs()}
    width = outputs[_scores(outputs, "features", str(x))].shape[-1]
    shape = tuple(size if isinstance(size, int) else None for size in session.get_inputs()[0].shape[1:])
    known: dict[str, Any] = {"shape": shape}
    return known | ({"classes": tuple(str(k) for k in range(width))} if isinstance(width, int) else {})


def load(data: bytes, spec: ModelSpec, options: Mapping[str, str]) -> OnnxModel:
    """Open verified bytes; `options` holds the names that `export` recorded."""
    session = open_session(data, "model.onnx")
    _only_input(session, "model.onnx")
    names = {
        "input": options.get("input"),
        "scores": options.get("scores"),
        "features": options.get("features"),
    }
    outputs = {node.name for node in session.get_outputs()}
    for name in (names["scores"], names["features"] or names["scores"]):
        if name not in outputs:
            raise MedwardError(f"model.onnx: no output named {name!r}; the outputs are {sorted(outputs)}")
    return OnnxModel(
        spec=spec,
        session=session,
        data=data,
        input=str(names["input"]),
        scores=str(names["scores"]),
        features=names["features"],
    )


def class_indices(labels: NDArray[np.generic], scores: Array, spec: ModelSpec) -> Ints | None:
    """`labels (n,)` of a file as class indices; None for names and numbers that are of another vocabulary.

    Such a vocabulary still has one label for a class: where rows of one label have different largest `scores (n, K)`,
    the rows that are not as most are get -1, an index that no score decides.
    """
    own = [str(each) for each in labels.tolist()]
    if set(own) <= set(spec.classes):
        return np.array([spec.classes.index(each) for each in own], np.int64)
    if set(own) <= {str(k) for k in range(len(spec.classes))}:
        return np.array([int(each) for each in own], np.int64)
    decided = np.argmax(scores, axis=1)
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
    ort = require("onnxruntime", "serve")
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
        raise MedwardError(f"{source}: onnxruntime cannot load the model: {first_line(error)}") from None
    return session


def _only_input(session: Any, source: str) -> str:
    nodes = session.get_inputs()
    if len(nodes) != 1 or nodes[0].type not in DTYPES or len(nodes[0].shape) < 2:
        found = ", ".join(f"{node.name}: {node.type} {node.shape}" for node in nodes)
        raise MedwardError(f"{source}: needs exactly one floating-point input with a batch axis, got {found}")
    return str(nodes[0].name)


def _scores(outputs: Mapping[str, Any], features: str | None, source: str) -> str:
    """The score output: the only floating-point matrix besides the features, else one with a usual name."""
    matrices = [
        name for name, node in outputs.items() if name != features and node.type in DTYPES and len(node.shape) == 2
    ]
    named = [name for name in SCORES if name in matrices]
    if len(matrices) == 1 or named:
        return named[0] if named else matrices[0]
    if any(node.type.startswith("seq") for node in outputs.values()):
        raise MedwardError(f"{source}: scores are a list of dictionaries; convert the model with zipmap=False")
    raise MedwardError(f"{source}: name the score output one of {list(SCORES)}; the outputs are {list(outputs)}")
