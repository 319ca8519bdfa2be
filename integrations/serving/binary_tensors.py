"""The binary tensor extension of the Open Inference Protocol: tensors as bytes behind the JSON of a body.

The header ``Inference-Header-Content-Length`` says how long the JSON is. Numbers are little-endian and row-major, a
BOOL is one byte, a text (BYTES) is its length as four bytes and then itself. Reference:
github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
from fastapi import HTTPException, Request
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.types import Array

JSON_LENGTH = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"
TENSOR_TYPES = {
    name: np.dtype(code)
    for name, code in {
        "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
        "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "BOOL": "?",
    }.items()
}  # fmt: skip


def json_length(request: Request) -> int | None:
    """How many bytes of the body are JSON, as its header says; None without one: then all are. Raises 400 and 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    said = request.headers.getlist(JSON_LENGTH)
    if kind not in ("", "application/json", BINARY):
        raise HTTPException(415, f"send application/json, or {BINARY} with the header {JSON_LENGTH}")
    if kind == BINARY and not said:
        raise HTTPException(400, f"{JSON_LENGTH}: {BINARY} needs it, to say how many bytes are JSON")
    if not said:
        return None
    if len(said) > 1 or not (said[0].isascii() and said[0].isdigit()):
        raise HTTPException(400, f"{JSON_LENGTH}: must be one whole number")
    return int(said[0][:20])


def split_body(body: bytes, length: int | None) -> tuple[bytes, bytes]:
    """The JSON of `body`, of `length` bytes, and the bytes of tensors that follow it."""
    if length is None:
        return body, b""
    if not 1 <= length <= len(body):
        raise HTTPException(400, f"{JSON_LENGTH}: must be from 1 to the {len(body)} bytes of the body, got {length}")
    return body[:length], body[length:]


def binary_array(binary: bytes, size: int, shape: Sequence[int], datatype: str) -> Array:
    """The tensor that `binary` is, all of it, of which the client says that it has `size` bytes."""
    dtype = TENSOR_TYPES[datatype]
    needed = math.prod(shape) * dtype.itemsize
    if size != needed:
        raise MedwardError(
            f"inputs: shape {[*shape]} of {datatype} takes {needed} bytes, binary_data_size is {size}; send as many"
        )
    refuse_leftover(binary, size)
    if datatype == "BOOL" and binary.translate(None, b"\0\1"):
        raise MedwardError("inputs: a BOOL is one byte, 0 or 1")
    return np.frombuffer(binary, dtype).reshape(shape)


def refuse_leftover(binary: bytes, size: int) -> None:
    """Refuse a body whose bytes behind the JSON are not the `size` that its tensor has."""
    if len(binary) != size:
        raise MedwardError(f"inputs: {len(binary)} bytes follow the JSON, the tensor has {size}; see {JSON_LENGTH}")


def tensor_bytes(data: Sequence[bool | float | int | str | None], datatype: str) -> bytes:
    """`data` as the bytes of a tensor; None, a score that does not leave, is NaN."""
    if datatype == "BYTES":
        texts = [str(each).encode() for each in data]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    values: NDArray[np.generic] = np.array(
        [math.nan if each is None else each for each in data], TENSOR_TYPES[datatype]
    )
    return values.tobytes()
