"""Bodies that come compressed, and answers that leave so."""

import gzip
import json
import tracemalloc
import zlib

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.policy import Policy
from medward.integrations.serving import Limits
from medward.integrations.serving.compression import PIECE_BYTES, inflated

ROWS = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]]
BODY = json.dumps({"inputs": ROWS}).encode()
CODINGS = {"gzip": gzip.compress, "deflate": zlib.compress}
ROUTES = {"/v1/predict": "inputs", "/v1/models/linear:predict": "instances"}


def post(client, body, coding="gzip", path="/v1/predict", **headers):
    return client.post(
        path, content=body, headers={"Content-Type": "application/json", "Content-Encoding": coding, **headers}
    )


def received(pieces, coding):
    """All that a reader of `inflated` gets, message by message."""

    async def main():
        queue = [
            {"type": "http.request", "body": piece, "more_body": place < len(pieces) - 1}
            for place, piece in enumerate(pieces)
        ]

        async def receive():
            return queue.pop(0)

        read, found = inflated(receive, coding), []
        while not found or found[-1]["more_body"]:
            found.append(await read())
        return [each["body"] for each in found]

    return anyio.run(main)


@pytest.mark.parametrize("coding", [*CODINGS, "GZIP", " deflate "])
@pytest.mark.parametrize("path", ROUTES)
def test_a_compressed_body_is_answered_as_it_is_when_plain(client, coding, path):
    made = client(Policy(on_error="withhold", release={"level": "full"}))
    body = {ROUTES[path]: ROWS}
    plain = made.post(path, json=body).json()
    packed = CODINGS[coding.strip().lower()](json.dumps(body).encode())
    found = post(made, packed, coding, path)
    assert found.status_code == 200, found.text
    assert {**found.json(), "id": ""} == {**plain, "id": ""}


def test_a_compressed_form_of_files_is_read_too(image_client, png):
    made = image_client()
    file = png(np.full((4, 6), 200, np.uint8))
    request = made.build_request("POST", "/v1/predict", files=[("image", ("x", file))])
    body = request.read()
    answer = post(made, gzip.compress(body), **{"Content-Type": request.headers["content-type"]})
    assert answer.json()["labels"] == ["light"]


@given(st.binary(max_size=3 * PIECE_BYTES), st.sampled_from([*CODINGS]), st.integers(1, 5000))
def test_what_was_compressed_comes_out_in_pieces_of_a_bounded_size(data, coding, size):
    data *= 3
    packed = CODINGS[coding](data)
    pieces = received([packed[start : start + size] for start in range(0, len(packed), size)], coding)
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= PIECE_BYTES


BAD = {
    "no gzip at all": (BODY, "gzip", "is not gzip"),
    "deflate named gzip": (zlib.compress(BODY), "gzip", "is not gzip"),
    "gzip named deflate": (gzip.compress(BODY), "deflate", "is not deflate"),
    "raw deflate": (zlib.compress(BODY, wbits=-15), "deflate", "is not deflate"),
    "truncated": (gzip.compress(BODY)[:-9], "gzip", "ends before its gzip data"),
    "without its end": (gzip.compress(BODY)[:-1], "gzip", "ends before its gzip data"),
    "empty": (b"", "gzip", "ends before its gzip data"),
    "a wrong sum": (gzip.compress(BODY)[:-8] + b"\0" * 8, "gzip", "is not gzip"),
    "followed by more": (gzip.compress(BODY) + b"x", "gzip", "behind the end"),
    "two in a row": (gzip.compress(BODY) * 2, "gzip", "behind the end"),
    "compressed twice": (gzip.compress(gzip.compress(BODY)), "gzip", "not JSON"),
    "not compressed but said twice": (gzip.compress(BODY), "gzip, gzip", "compressed once"),
    "another coding": (BODY, "br", "as gzip or deflate"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_body_that_is_not_what_it_says_is_refused(client, case):
    body, coding, words = BAD[case]
    response = post(client(), body, coding)
    assert response.status_code in (400, 415), response.text
    assert words in response.json()["detail"]


def test_two_headers_of_encoding_are_two_encodings(client):
    headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")]
    assert client().post("/v1/predict", content=gzip.compress(BODY), headers=headers).status_code == 415


@pytest.fixture(scope="module")
def bomb():
    """A hundred mebibytes of blanks."""
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(b" " * 2**20) for _ in range(100)) + packer.flush()


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/models/linear:predict", "/v2/models/linear/infer"])
def test_a_bomb_is_too_large_before_it_is_inflated(client, bomb, path):
    made = client(limits=Limits(body_bytes=2**20))
    assert len(bomb) < 2**20
    tracemalloc.start()
    response = post(made, bomb, path=path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert response.status_code == 413, response.text
    assert peak < 8 * 2**20


def test_a_bomb_in_a_form_of_files_is_too_large_too(image_client):
    made = image_client(limits=Limits(body_bytes=2**20))
    bomb = gzip.compress(b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + b" " * 2**23)
    assert post(made, bomb, **{"Content-Type": "multipart/form-data; boundary=b"}).status_code == 413
    assert post(made, gzip.compress(b" " * 2**23), **{"Content-Type": "image/png"}).status_code == 413


def test_blocks_that_hold_nothing_do_not_go_on_for_ever(client):
    """Empty blocks inflate to no byte at all, so what comes in is metered as well."""
    made = client(limits=Limits(body_bytes=1000))
    start = zlib.compressobj(wbits=-15)
    block = start.compress(b"") + start.flush(zlib.Z_FULL_FLUSH)
    sent = []

    def chunks():
        yield b"\x78\x9c"
        for _ in range(10_000):
            sent.append(1)
            yield block * 100

    response = made.post(
        "/v1/predict", content=chunks(), headers={"Content-Type": "application/json", "Content-Encoding": "deflate"}
    )
    assert response.status_code == 413


def test_answers_are_compressed_for_who_accepts_it(client):
    made = client(Policy(on_error="withhold", release={"level": "full"}))
    rows = {"inputs": ROWS * 20}
    plain = made.post("/v1/predict", json=rows, headers={"Accept-Encoding": "identity"})
    packed = made.post("/v1/predict", json=rows, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.json()["scores"] == plain.json()["scores"]
