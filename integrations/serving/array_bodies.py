"""Bodies that are arrays: rows of numbers as NPY, rows of a table by the names of its columns as an Arrow stream.

Both say in a header what follows, which is checked against what the model takes before anything is made of it.
References: numpy.lib.format (versions 1.0 and 2.0); arrow.apache.org/docs/format/Columnar.html (IPC streaming format).
"""

from __future__ import annotations

import io
import math
import struct
from importlib.util import find_spec
from typing import Any

import numpy as np
from fastapi import HTTPException, Request
from numpy.lib import format as npy

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array
from medward.integrations.serving.body import CLOSE
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.rows import refuse_numbers, row_bytes

NPY_TYPE, ARROW_TYPE = "application/x-npy", "application/vnd.apache.arrow.stream"
_NPY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_HEADER_BYTES = 1024  # of NPY; NumPy writes 128
_VALUE_BYTES = 8
_LEAST_BYTES = 64 * 1024  # of an Arrow stream: its schema, and padding
_MESSAGE_BYTES = 4096  # of one Arrow message, besides its rows


def array_types(spec: ModelSpec) -> tuple[str, ...]:
    """The types of bodies that are arrays, of those that the model of `spec` takes."""
    try:
        refuse_numbers(spec)
    except MedwardError:
        numbers: tuple[str, ...] = ()
    else:
        numbers = (NPY_TYPE,)
    return (*numbers, ARROW_TYPE) if spec.columns and find_spec("pyarrow") else numbers


async def read_array_body(request: Request, kind: str, spec: ModelSpec, limits: Limits) -> bytes:
    """The body, or 413 once it is longer than `limits.rows` rows of `spec` can be."""
    if kind == NPY_TYPE:
        most = _HEADER_BYTES + limits.rows * math.prod(spec.row_shape) * _VALUE_BYTES
    else:
        most = _LEAST_BYTES + limits.rows * (row_bytes(spec.columns) + _MESSAGE_BYTES)
    most, body = min(most, limits.body_bytes), bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"such a body may hold at most {most} bytes; send fewer rows per request", CLOSE)
    return bytes(body)


def array_rows(body: bytes, kind: str, spec: ModelSpec, rows: int) -> Any:
    """At most `rows` rows of the model of `spec` that `body` holds, as `ModelSpec.check` takes them."""
    return npy_rows(body, spec, rows) if kind == NPY_TYPE else arrow_rows(body, rows)


def npy_rows(body: bytes, spec: ModelSpec, rows: int) -> Array:
    """Rows of numbers ``(n, *row_shape)``, n at most `rows`, that are all of an NPY `body`; nothing is unpickled."""
    file = io.BytesIO(body)
    try:
        shape, by_column, dtype = _NPY_HEADERS[npy.read_magic(file)](file, max_header_size=_HEADER_BYTES)
    except Exception as error:  # a header is a text of Python, whose reader raises anything
        raise MedwardError(f"the body is no NPY array of version 1.0 or 2.0 ({type(error).__name__})") from None
    if dtype.kind not in "fiub" or dtype.itemsize > _VALUE_BYTES:
        raise MedwardError(f"inputs: expected numbers of at most {8 * _VALUE_BYTES} bits, got dtype {dtype}")
    wanted = "(n, " + ", ".join(map(str, spec.row_shape)) + ")"
    if len(shape) != 1 + len(spec.row_shape) or shape[1:] != spec.row_shape or not 1 <= shape[0] <= rows:
        raise MedwardError(f"inputs: expected shape {wanted} with n from 1 to {rows}, got {shape}"[:200])
    values, size = memoryview(body)[file.tell() :], math.prod(shape) * dtype.itemsize
    if len(values) != size:
        raise MedwardError(f"inputs: shape {shape} of {dtype} takes {size} bytes, {len(values)} follow the header")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if by_column else "C")


def arrow_rows(body: bytes, rows: int) -> list[dict[str, Any]]:
    """At most `rows` named rows that are all of an Arrow stream `body`, null where a value is missing.

    Columns are numbers, truth values and texts: no lists, dictionaries or extensions, and no compressed buffers, which
    may inflate to anything.
    """
    import pyarrow as pa

    try:
        messages = pa.ipc.MessageReader.open_stream(pa.BufferReader(body))
        schema = pa.ipc.read_schema(messages.read_next_message())
        _check_schema(schema, pa)
        found: list[dict[str, Any]] = []
        for count, message in enumerate(messages):
            if message.type != "record batch":
                raise MedwardError(f"the body holds a {message.type}; send a schema and batches of rows alone")
            if count >= rows:
                raise MedwardError(f"the body holds more than {rows} batches of rows; send them in one")
            length, compressed = _batch_header(message.metadata.to_pybytes())
            if compressed:
                raise MedwardError("the body holds compressed buffers; write them uncompressed")
            if not 0 <= length <= rows - len(found):
                raise MedwardError(f"the body holds more than {rows} rows; at most {rows} rows per request")
            batch = pa.ipc.read_record_batch(message, schema)
            batch.validate(full=True)
            found += [{name: _value(each) for name, each in row.items()} for row in batch.to_pylist()]
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(f"the body is no whole Arrow stream ({type(error).__name__})") from None
    if not found:
        raise MedwardError("rows: at least one row is needed")
    if any(value != value for row in found for value in row.values()):
        raise MedwardError("rows: a value is NaN; send null where it is missing")
    return found


def _value(found: Any) -> Any:
    """A value as JSON would have it: one number is as good as another."""
    return float(found) if isinstance(found, int) and not isinstance(found, bool) else found


def _check_schema(schema: Any, pa: Any) -> None:
    if len({*schema.names}) < len(schema.names):
        raise MedwardError("the body has two columns of one name")
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
    for each in schema:
        if not any(is_kind(each.type) for is_kind in (*known, pa.types.is_large_string)):
            raise MedwardError(f"column {each.name[:64]!r}: send numbers, truth values or texts, not {each.type}"[:200])


def _batch_header(metadata: bytes) -> tuple[int, bool]:
    """How many rows a record batch says that it has, and whether its buffers are compressed.

    pyarrow tells neither before it has made the batch, so these two fields are read out of the flatbuffer. Reference:
    Message.fbs of Arrow; flatbuffers.dev/internals.
    """

    def field(table: int, place: int) -> int | None:
        """Where the field at `place` of `table` lies, None where it has its default."""
        vtable = table - struct.unpack_from("<i", metadata, table)[0]
        if vtable < 0 or 4 + 2 * place >= struct.unpack_from("<H", metadata, vtable)[0]:
            return None
        offset = struct.unpack_from("<H", metadata, vtable + 4 + 2 * place)[0]
        return table + offset if offset else None

    root = struct.unpack_from("<I", metadata, 0)[0]
    header = field(root, 2)
    if header is None:
        raise MedwardError("the body holds a message without a header")
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    length = field(batch, 0)
    return 0 if length is None else struct.unpack_from("<q", metadata, length)[0], field(batch, 3) is not None
