"""Requests that two readers would read differently, over a real socket: none is answered as something else."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from support.live_servers import listening

from medward.integrations.serving import create_app
from medward.integrations.serving.keys import KeyStore

BODY = json.dumps({"inputs": [[0.5, -1.0, 2.0]]}).encode()
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.fixture
def app(make_guard, tmp_path):
    return create_app(make_guard(), keys=KeyStore(tmp_path / "keys.json"))


@pytest.fixture
def token(tmp_path):
    return KeyStore(tmp_path / "keys.json").add(("clinic",))


def answers(live, content):
    """The statuses of all answers to `content`, until the server closes or says no more for long."""
    with live.send(content) as connection:
        connection.settimeout(3)
        found = b""
        with suppress(TimeoutError):
            while piece := connection.recv(2**16):
                found += piece
        return [int(each[:3]) for each in found.split(b"HTTP/1.1 ")[1:]]


def request(token, *lines, path="/v1/predict", body=b""):
    head = (f"POST {path} HTTP/1.1", "Host: x", f"X-API-Key: {token}", "Content-Type: application/json", *lines)
    return "\r\n".join([*head, "", ""]).encode() + body


AFTER = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LENGTH, PIECES = f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked"
AMBIGUOUS = {
    "length and pieces": ((LENGTH, PIECES), CHUNKED),
    "pieces and length": ((PIECES, "Content-Length: 4"), CHUNKED),
    "two lengths": ((LENGTH, "Content-Length: 4"), BODY),
    "pieces twice": ((PIECES, PIECES), CHUNKED),
    "pieces of another coding": (("Transfer-Encoding: gzip, chunked",), CHUNKED),
    "a length with a sign": ((f"Content-Length: +{len(BODY)}",), BODY),
    "a length in hex": (("Content-Length: 0x10",), BODY),
    "a name with a space": (("Content-Length : 4", PIECES), CHUNKED),
    "a folded header": (("X-Folded: a", f" {LENGTH}"), BODY),
    "a piece of negative size": ((PIECES,), b"-1\r\nx\r\n0\r\n\r\n"),
}


def test_a_body_said_in_one_way_is_answered_and_so_is_what_follows_it(app, token):
    with listening(app) as live:
        assert answers(live, request(token, LENGTH, body=BODY) + AFTER) == [200, 200]
        assert answers(live, request(token, PIECES, body=CHUNKED) + AFTER) == [200, 200]


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_follows_a_body_that_could_be_read_in_two_ways_is_not_answered(app, token, case):
    lines, body = AMBIGUOUS[case]
    with listening(app) as live:
        found = answers(live, request(token, *lines, body=body) + AFTER)
    assert set(found) <= {400, 501}, "by the server or, of what is left of the body, by the next reading"


@pytest.mark.parametrize(
    "path",
    ["/v1/../metrics", "/v1/%2e%2e/metrics", "/healthz/../metrics", "//metrics", "/metrics/", "/metrics%00",
     "/v2/models/..%2f..%2fmetrics", "/./metrics", "/METRICS", "/healthz;/metrics", "http://x/metrics",
     "/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd"],
)  # fmt: skip
def test_no_spelling_of_a_path_opens_what_needs_a_key(app, path):
    with listening(app) as live:
        content = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        (status,) = answers(live, content)
    assert status in (400, 401, 404)
