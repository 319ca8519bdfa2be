"""Bodies that are arrays: NPY for rows of numbers, Arrow streams for tables; and those that only look like them."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numpy.lib import format as npy

from medward.guard.columns import TRUTH, Column
from medward.integrations.contracts.subjects import LinearModel
from medward.integrations.serving import Limits, array_bodies

ROWS = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
NPY, ARROW = {"Content-Type": "application/x-npy"}, {"Content-Type": "application/vnd.apache.arrow.stream"}
COLUMNS = (
    Column(name="age", whole=True),
    Column(name="sex", values=("f", "m"), missing=True),
    Column(name="smokes", values=TRUTH),
)
TABLE = {"age": [63, 41], "sex": ["f", None], "smokes": [True, False]}
JSON = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]


class TableModel(LinearModel):
    """The linear model, whose three numbers have names."""

    def __init__(self):
        super().__init__()
        self.spec = replace(self.spec, columns=COLUMNS)


def npy_bytes(array, version=(1, 0), **options):
    file = io.BytesIO()
    npy.write_array(file, array, version, **options)
    return file.getvalue()


def npy_said(shape, descr="<f4", values=b"", fortran=False):
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"shape": shape, "fortran_order": fortran, "descr": descr})
    return file.getvalue() + values


def arrow_bytes(table, **options):
    table = table if isinstance(table, pa.Table) else pa.table(table)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        stream.write_table(table)
    return sink.getvalue()


def detail(response, status=422):
    assert response.status_code == status, response.text
    return response.json()["detail"]


@pytest.fixture
def table_client(client):
    return client(guard_parts={"model": TableModel()}, limits=Limits(rows=4))


# NPY


@pytest.mark.parametrize(
    "array",
    [
        ROWS,
        ROWS.astype("<f8"),
        ROWS.astype(">f4"),
        np.asfortranarray(ROWS),
        (ROWS * 3).astype(np.int8),
        ROWS.astype(np.float16),
        ROWS > 0,
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_npy_body_is_answered_as_the_json_of_its_numbers(client, array, version):
    made = client()
    posted = made.post("/v1/predict", json={"inputs": array.astype(float).tolist()}).json()
    answer = made.post("/v1/predict", content=npy_bytes(array, version), headers=NPY).json()
    np.testing.assert_allclose(answer["scores"], posted["scores"], atol=1e-6)
    assert answer["labels"] == posted["labels"]


def test_an_npy_body_may_hold_images(image_client):
    images = np.random.default_rng(2).uniform(size=(2, 1, 4, 6)).astype(np.float32)
    made = image_client()
    answer = made.post("/v1/predict", content=npy_bytes(images), headers=NPY).json()
    posted = made.post("/v1/predict", json={"inputs": images.tolist()}).json()
    np.testing.assert_allclose(answer["scores"], posted["scores"], atol=1e-6)
    assert "values must be <= 1" in detail(made.post("/v1/predict", content=npy_bytes(images * 255), headers=NPY))


class Bomb:
    """Unpickled, it would raise."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


WHOLE = npy_bytes(ROWS)
NOT_NPY = {
    "nothing": (b"", "no NPY array"),
    "another file": (b"\x89PNG\r\n\x1a\n" + bytes(200), "no NPY array"),
    "cut in the header": (WHOLE[:40], "no NPY array"),
    "cut in the values": (WHOLE[:-1], "bytes, 23 follow the header"),
    "more than the values": (WHOLE + b"\0", "25 follow the header"),
    "objects": (npy_bytes(np.array([[Bomb()] * 3]), allow_pickle=True), "got dtype object"),
    "a pickle": (b"\x80\x04cposix\nsystem\n", "no NPY array"),
    "structures": (npy_said((2,), [("a", "<f4"), ("b", "<f4")], bytes(16)), "got dtype"),
    "complex numbers": (npy_bytes(ROWS.astype(complex)), "got dtype complex128"),
    "long doubles": (npy_said((2, 3), "<f16", bytes(96)), "inputs: expected numbers of at most 64 bits"),
    "texts": (npy_bytes(np.array([["a", "b", "c"]])), "got dtype <U1"),
    "dates": (npy_bytes(np.array([[1, 2, 3]], "M8[s]")), "got dtype datetime64[s]"),
    "a huge shape": (npy_said((2**62, 3)), "got (46"),
    "a shape that overflows": (npy_said((2**63, 2**63)), "got (92"),
    "a shape below nothing": (npy_said((-1, 3)), "got (-1, 3)"),
    "no rows": (npy_said((0, 3)), "n from 1 to 4, got (0, 3)"),
    "too many rows": (npy_bytes(np.zeros((5, 3), "i1")), "n from 1 to 4, got (5, 3)"),
    "one row alone": (npy_bytes(ROWS[0]), "expected shape (n, 3)"),
    "another width": (npy_bytes(ROWS[:, :2]), "got (2, 2)"),
    "not a number": (npy_bytes(ROWS * np.nan), "must be finite"),
    "a header of code": (b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').getpid()".ljust(32), "no NPY array"),
    "a deep header": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 900) + b"(" * 900, "no NPY array"),
    "a long header": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 1050) + b" " * 1050, "no NPY array"),
    "a header longer than the body": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{", "no NPY array"),
    "another version": (b"\x93NUMPY\x03\x00" + bytes(100), "no NPY array"),
}


@pytest.mark.parametrize("case", NOT_NPY)
def test_what_is_no_array_of_rows_is_refused_with_a_sentence(client, case, monkeypatch):
    made = client(limits=Limits(rows=4))
    content, said = NOT_NPY[case]
    if case in ("a huge shape", "a shape that overflows"):
        monkeypatch.setattr(np, "frombuffer", lambda *_: pytest.fail("memory was spent"))
    told = detail(made.post("/v1/predict", content=content, headers=NPY))
    assert said in told
    assert len(told) < 300
    monkeypatch.undo()
    assert made.post("/v1/predict", content=WHOLE, headers=NPY).status_code == 200


def test_a_body_larger_than_its_rows_can_be_is_refused_while_it_comes(client):
    made, read = client(limits=Limits(rows=4)), []

    def pieces():
        for _ in range(1000):
            read.append(1)
            yield bytes(1000)

    assert "at most 1120 bytes" in detail(made.post("/v1/predict", content=pieces(), headers=NPY), 413)
    assert "at most 1120 bytes" in detail(made.post("/v1/predict", content=bytes(1121), headers=NPY), 413)


# Arrow


def test_an_arrow_stream_is_answered_as_named_rows(table_client):
    posted = table_client.post("/v1/predict", json={"rows": JSON}).json()
    for table in (
        TABLE,
        pa.table(
            {
                "age": pa.array([63, 41], pa.int8()),
                "sex": pa.array(["f", None], pa.large_string()),
                "smokes": [True, False],
            }
        ),
        pa.table({"smokes": [True, False], "sex": ["f", None], "age": pa.array([63, 41], pa.float64())}),
        pa.concat_tables([pa.table(TABLE).slice(0, 1), pa.table(TABLE).slice(1, 1)]),
    ):
        answer = table_client.post("/v1/predict", content=arrow_bytes(table), headers=ARROW).json()
        assert answer["scores"] == posted["scores"]


def changed(**columns):
    return pa.table({**TABLE, **columns})


NESTED = pa.array([[1.0], [2.0]])
STREAM = arrow_bytes(TABLE)
NOT_ARROW = {
    "nothing": (b"", "no whole Arrow stream"),
    "another file": (b"PK\x03\x04" + bytes(100), "no whole Arrow stream"),
    "cut in the schema": (STREAM[:60], "no whole Arrow stream"),
    "cut in the rows": (STREAM[:-60], "no whole Arrow stream"),
    "a message of 2 GiB": (b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(64), "no whole Arrow stream"),
    "no rows": (arrow_bytes(pa.table(TABLE).slice(0, 0)), "at least one row"),
    "too many rows": (arrow_bytes(pa.concat_tables([pa.table(TABLE)] * 3).combine_chunks()), "more than 4 rows"),
    "too many batches": (arrow_bytes(pa.concat_tables([pa.table(TABLE)] * 3)), "more than 4 rows"),
    "lists": (arrow_bytes(changed(age=NESTED)), "column 'age': send numbers, truth values or texts, not list<"),
    "structures": (arrow_bytes(changed(age=pa.array([{"a": 1}, {"a": 2}]))), "not struct<"),
    "a dictionary": (arrow_bytes(changed(sex=pa.array(["f", "m"]).dictionary_encode())), "not dictionary<"),
    "nulls alone": (arrow_bytes(changed(age=pa.nulls(2))), "not null"),
    "dates": (arrow_bytes(changed(age=pa.array([1, 2], pa.timestamp("s")))), "not timestamp[s]"),
    "compressed": (arrow_bytes(TABLE, compression="zstd"), "compressed buffers"),
    "a name twice": (arrow_bytes(pa.table([[1], [2]], ["age", "age"])), "two columns of one name"),
    "a column too many": (arrow_bytes(changed(height=[1.0, 2.0])), "column 'height' is unknown"),
    "a column missing": (arrow_bytes(pa.table(TABLE).drop_columns("sex")), "column 'sex' is absent"),
    "a gap where none was": (arrow_bytes(changed(age=[63, None])), "column 'age': a value is missing"),
    "not a number": (arrow_bytes(changed(age=[63.0, float("nan")])), "send null where it is missing"),
    "another category": (arrow_bytes(changed(sex=["f", "x"])), "column 'sex'"),
}


@pytest.mark.parametrize("case", NOT_ARROW)
def test_what_is_no_stream_of_rows_is_refused_with_a_sentence(table_client, case):
    content, said = NOT_ARROW[case]
    assert said in detail(table_client.post("/v1/predict", content=content, headers=ARROW))
    assert table_client.post("/v1/predict", content=STREAM, headers=ARROW).status_code == 200


def test_offsets_beyond_a_text_are_not_followed(table_client):
    """The bytes of a text's offsets, made larger than the text is."""
    at = STREAM.rindex(struct.pack("<iii", 0, 1, 1))
    broken = STREAM[:at] + struct.pack("<iii", 0, 1, 2**30) + STREAM[at + 12 :]
    assert "no whole Arrow stream" in detail(table_client.post("/v1/predict", content=broken, headers=ARROW))


def test_no_flipped_byte_breaks_the_server(table_client):
    for at in range(0, len(STREAM), 7):
        flipped = STREAM[:at] + bytes([STREAM[at] ^ 0xFF]) + STREAM[at + 1 :]
        assert table_client.post("/v1/predict", content=flipped, headers=ARROW).status_code in (200, 422)


def test_who_takes_which(client, table_client, monkeypatch):
    """Numbers say no gaps, and rows without names are no table."""
    assert "send application/json, application/vnd.apache.arrow.stream" in detail(
        table_client.post("/v1/predict", content=WHOLE, headers=NPY), 415
    )
    assert "send application/json, application/x-npy, " in detail(
        client().post("/v1/predict", content=STREAM, headers=ARROW), 415
    )
    monkeypatch.setattr(array_bodies, "find_spec", lambda _: None)
    assert "arrow" not in detail(
        client(guard_parts={"model": TableModel()}).post("/v1/predict", content=STREAM, headers=ARROW), 415
    )
