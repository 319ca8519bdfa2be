"""Web pages that may ask from a browser, and probes by HEAD."""

import pytest
from typer.testing import CliRunner

from medward.guard.errors import MedwardError
from medward.integrations.cli import app
from medward.integrations.serving.cross_origin import checked_origins
from medward.integrations.serving.keys import KeyStore

ROWS = {"inputs": [[0.5, -1.0, 2.0]]}
VIEWER, OTHER = "https://viewer.example", "https://other.example"


def preflight(client, origin, method="POST", headers="authorization, content-type, medward-study"):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return client.options("/v1/predict", headers=asked)


def test_no_page_may_ask_unless_it_is_said(client):
    made = client()
    assert preflight(made, VIEWER).status_code == 405
    answer = made.post("/v1/predict", json=ROWS, headers={"Origin": VIEWER})
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_that_is_named_may_ask_and_no_other(client, tmp_path):
    keys = KeyStore(tmp_path / "keys.json")
    token = keys.add(("a",))
    made = client(keys=keys, origins=[VIEWER])
    allowed = preflight(made, VIEWER)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == VIEWER
    assert "access-control-allow-credentials" not in allowed.headers
    for refused in (preflight(made, OTHER), preflight(made, "null"), preflight(made, VIEWER + ".evil")):
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
    assert preflight(made, VIEWER, method="DELETE").status_code == 400
    assert preflight(made, VIEWER, headers="x-other").status_code == 400
    for key, status in ((token, 200), ("mw_0", 401)):
        answer = made.post("/v1/predict", json=ROWS, headers={"Origin": VIEWER, "X-API-Key": key})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == VIEWER
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
        assert "origin" in answer.headers["vary"].lower()
    answer = made.post("/v1/predict", json=ROWS, headers={"Origin": OTHER, "X-API-Key": token})
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_reads_why_its_request_was_refused_at_the_edge(client):
    made = client(origins=[VIEWER])
    refused = made.post("/v1/predict", content=b"x", headers={"Origin": VIEWER, "Content-Encoding": "br"})
    assert refused.status_code == 415
    assert refused.headers["access-control-allow-origin"] == VIEWER


@pytest.mark.parametrize(
    "origin",
    [
        "*", "", "null", "viewer.example", "https://viewer.example/", "https://viewer.example/app", "https://*.example",
        "HTTPS://viewer.example", "https://Viewer.example", "https://user@viewer.example", "ftp://viewer.example",
        "https://viewer.example:443", "http://viewer.example:80", "https://viewer.example ", "https://a, https://b",
        "https://viewer.example\n",
    ],
)  # fmt: skip
def test_only_exact_origins_are_taken(origin):
    with pytest.raises(MedwardError, match="allow-origin"):
        checked_origins([VIEWER, origin])


def test_origins_as_browsers_send_them_are_taken():
    said = (VIEWER, "http://localhost:3000", "https://10.0.0.7:8443", "http://[::1]:8000", "https://viewer.example:80")
    assert checked_origins(said) == said


def test_a_wrong_origin_ends_the_command_before_a_bundle_is_read(tmp_path):
    result = CliRunner().invoke(app, ["serve", str(tmp_path), "--allow-origin", "*"])
    assert isinstance(result.exception, MedwardError)
    assert "allow-origin: *" in str(result.exception)


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/linear/ready", "/", "/v1/models"]
)
def test_head_is_get_without_the_body(client, path):
    made = client()
    head, get = made.head(path), made.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))
    assert made.head("/nowhere").status_code == 404
    assert made.head("/v1/predict").status_code == 405


def test_head_needs_a_key_where_get_does(client, tmp_path):
    made = client(keys=KeyStore(tmp_path / "keys.json"))
    assert made.head("/v1/models").status_code == made.head("/metrics").status_code == 401
    assert made.head("/healthz").status_code == 200
