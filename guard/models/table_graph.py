"""ONNX nodes that make of encoded rows what a model itself takes, put in front of its graph.

So one file takes the rows that clients, screens and attackers see, and needs neither pandas nor the model's library.
What `guard.columns.decode_rows` does is done here by the same arithmetic: the nearest place of a category, clipped, and
NaN where the indicator is above one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medward.guard.columns import TRUTH, Column
from medward.guard.models.base import require_extra

INPUT = "input"
TEXT_GAP = "nan"
"""What stands for a missing text within a graph."""
_LEAST_OPSET = 11  # of the operators that are added; trees alone are written for older ones
_MARK = "medward_"  # begins the names of all that is added


def in_front(graph: Any, columns: Sequence[Column]) -> bytes:
    """The ONNX model `graph` with one float input ``(n, D')`` of encoded rows.

    Its own inputs are one of all columns, or one for each column in their order.
    """
    onnx = require_extra("onnx", "sklearn")
    inputs = [each.name for each in graph.graph.input]
    renamed = {name: f"{_MARK}{name}" for name in inputs}
    for node in graph.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    parts = _Nodes(onnx, columns)
    if len(inputs) == 1 and len(columns) > 1:
        parts.matrix(renamed[inputs[0]])
    else:
        for place, name in enumerate(inputs):
            parts.column(place, renamed[name])
    own = list(graph.graph.node)
    del graph.graph.node[:], graph.graph.input[:]
    graph.graph.node.extend([*parts.nodes, *own])
    graph.graph.initializer.extend(parts.constants)
    width = len(columns) + sum(each.indicated for each in columns)
    graph.graph.input.append(onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, [None, width]))
    versions = {each.domain: each.version for each in graph.opset_import}
    versions[""] = max(versions.get("", 0), _LEAST_OPSET)
    del graph.opset_import[:]
    graph.opset_import.extend(onnx.helper.make_opsetid(*each) for each in versions.items())
    data: bytes = graph.SerializeToString()
    return data


def joined(first: Any, second: Any) -> Any:
    """The ONNX model that gives what `second` gives of the first output of `first`."""
    onnx = require_extra("onnx", "sklearn")
    first = onnx.compose.add_prefix(first, f"{_MARK}steps_", rename_inputs=False)
    source, inner = first.graph.output[0].name, second.graph.input[0].name
    for node in second.graph.node:
        node.input[:] = [source if name == inner else name for name in node.input]
    nodes = [*first.graph.node, *second.graph.node]
    del second.graph.node[:], second.graph.input[:]
    second.graph.node.extend(nodes)
    second.graph.input.extend(first.graph.input)
    second.graph.initializer.extend(first.graph.initializer)
    versions: dict[str, int] = {}
    for each in (*first.opset_import, *second.opset_import):
        versions[each.domain] = max(versions.get(each.domain, 0), each.version)
    del second.opset_import[:]
    second.opset_import.extend(onnx.helper.make_opsetid(*each) for each in versions.items())
    second.ir_version = max(first.ir_version, second.ir_version)
    return second


def without_maps(graph: Any) -> Any:
    """`graph` with the table of probabilities in place of the list of dictionaries that CatBoost makes of it."""
    onnx = require_extra("onnx", "sklearn")
    for node in [each for each in graph.graph.node if each.op_type == "ZipMap"]:
        graph.graph.node.remove(node)
        for place, each in enumerate(graph.graph.output):
            if each.name == node.output[0]:
                graph.graph.output.remove(each)
                table = onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, [None, None])
                graph.graph.output.insert(place, table)
    return graph


class _Nodes:
    """Nodes in the making, and the constants they need."""

    def __init__(self, onnx: Any, columns: Sequence[Column]) -> None:
        self.onnx, self.columns = onnx, columns
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        indicated = [place for place, each in enumerate(columns) if each.indicated]
        self.indicators: Mapping[int, int] = {place: len(columns) + at for at, place in enumerate(indicated)}

    def matrix(self, output: str) -> None:
        """All columns as one array, NaN for gaps."""
        count = range(len(self.columns))
        own = self.add("Gather", INPUT, self.constant([*count], np.int64), axis=1)
        if not self.indicators:
            self.add("Identity", own, output=output)
            return
        told = self.add("Gather", INPUT, self.constant([self.indicators.get(at, at) for at in count], np.int64), axis=1)
        may = self.constant([[at in self.indicators for at in count]], np.bool_)
        gap = self.add("And", self.add("Greater", told, self.constant(0.5)), may)
        self.add("Where", gap, self.constant(np.nan), own, output=output)

    def column(self, place: int, output: str) -> None:
        """One column ``(n, 1)`` as the model itself takes it."""
        column = self.columns[place]
        own = self._gathered(place)
        if column.indicated:
            gap = self.add("Greater", self._gathered(self.indicators[place]), self.constant(0.5))
            self.add("Where", gap, self.constant(np.nan), own, output=output)
        elif not column.values:
            self.add("Identity", own, output=output)
        else:
            last = self.constant(column.places - 1.0)
            nearest = self.add("Clip", self.add("Round", own), self.constant(0.0), last)
            if column.values == TRUTH and not column.missing:
                self.add("Identity", nearest, output=output)
                return
            words = self.constant([*column.values, *[TEXT_GAP] * column.missing], np.object_)
            index = self.add("Cast", nearest, to=self.onnx.TensorProto.INT64)
            self.add("Gather", words, index, axis=0, output=output)

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node, and name its output."""
        output = output or f"{_MARK}{len(self.nodes)}_"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add a constant, and name it."""
        name = f"{_MARK}constant_{len(self.constants)}"
        if dtype is np.object_:
            kind, words = self.onnx.TensorProto.STRING, [each.encode() for each in values]
            self.constants.append(self.onnx.helper.make_tensor(name, kind, [len(words)], words))
        else:
            self.constants.append(self.onnx.numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def _gathered(self, place: int) -> str:
        return self.add("Gather", INPUT, self.constant([place], np.int64), axis=1)
