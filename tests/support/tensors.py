"""Requests of the Open Inference Protocol as its clients write them, with tensors as bytes and without."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from medward.integrations.serving.binary_tensors import TENSOR_TYPES

LENGTH = "Inference-Header-Content-Length"


def asked(shape: list[int], datatype: str = "FP32", **tensor: Any) -> dict[str, Any]:
    """A request for one tensor; what it holds is in `tensor`."""
    return {"inputs": [{"name": "inputs", "shape": shape, "datatype": datatype, **tensor}]}


def binary_body(body: dict[str, Any], raw: bytes) -> tuple[bytes, dict[str, str]]:
    """A body with `raw` behind its JSON, and the header that says so."""
    text = json.dumps(body).encode()
    return text + raw, {LENGTH: str(len(text))}


def binary_request(rows: Any, datatype: str = "FP32", **more: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers of `rows` as bytes of `datatype`."""
    array = np.asarray(rows).astype(TENSOR_TYPES[datatype])
    raw = array.tobytes()
    return binary_body({**asked([*array.shape], datatype, parameters={"binary_data_size": len(raw)}), **more}, raw)


def read_outputs(response: Any) -> dict[str, Any]:
    """Every output by name: lists from JSON, arrays and texts from bytes."""
    assert response.status_code == 200, response.text
    length = response.headers.get(LENGTH)
    text = response.content if length is None else response.content[: int(length)]
    rest, found = response.content[len(text) :], {}
    for each in json.loads(text)["outputs"]:
        if "data" in each:
            assert "parameters" not in each
            found[each["name"]] = each["data"]
            continue
        size = each["parameters"]["binary_data_size"]
        raw, rest = rest[:size], rest[size:]
        if each["datatype"] == "BYTES":
            found[each["name"]] = _texts(raw)
        else:
            found[each["name"]] = np.frombuffer(raw, TENSOR_TYPES[each["datatype"]]).reshape(each["shape"])
    assert not rest
    return found


def _texts(raw: bytes) -> list[str]:
    texts = []
    while raw:
        (size,) = struct.unpack("<I", raw[:4])
        texts.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return texts
