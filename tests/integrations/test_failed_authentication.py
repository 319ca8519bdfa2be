"""Requests that do not say who asks: counted, told, bounded per address, and never at the cost of those who do."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from support.issuer import AUDIENCE, ISSUER, key_address, public_jwk, rsa_key, signed

from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.integrations.serving import Limits, create_app
from medward.integrations.serving.identity.failed_authentication import address_network
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.keys import KeyStore

BODY = {"inputs": [[0.5, -1.0, 2.0]]}
NOBODY = "mw_" + "0" * 8 + "_" + "0" * 64


@pytest.fixture
def keys(tmp_path):
    return KeyStore(tmp_path / "keys.json")


@pytest.fixture
def address():
    with key_address() as kept:
        yield kept


@pytest.fixture
def told():
    return []


@pytest.fixture
def serve(make_guard, keys, told):
    """A client at an address of its own, of one app with the limit `failures`; tokens are taken with `jwks`."""
    clients = []

    def make(failures="60/minute", jwks="", on_error="withhold", **records):
        identity = IdentitySettings(issuer=ISSUER, audience=AUDIENCE, jwks=jwks) if jwks else None
        guard = make_guard(Policy(on_error=on_error), **records)
        limits = Limits(failures=failures)
        app = create_app(guard, keys=keys, limits=limits, identity=identity, on_failed_authentication=told.append)

        def client(where="192.0.2.1"):
            made = TestClient(app, raise_server_exceptions=False, client=(where, 5000))
            clients.append(made)
            return made

        return client

    yield make
    for each in clients:
        each.close()


def ask(client, token=None, path="/v1/predict"):
    return client.post(path, json=BODY, headers={"Authorization": f"Bearer {token}"} if token else {})


def count(client, reason):
    lines = client.app.state.service.metrics.text().decode().splitlines()
    named = f'medward_failed_authentications_total{{reason="{reason}"}}'
    return next((float(line.split()[-1]) for line in lines if line.startswith(named)), 0.0)


def test_an_address_that_fails_too_often_is_told_so_and_others_are_not(serve, keys, told):
    at = serve("3/hour")
    hostile, other = at("198.51.100.7"), at("192.0.2.1")
    found = [ask(hostile, NOBODY) for _ in range(6)]
    assert [each.status_code for each in found] == [401] * 3 + [429] * 3
    assert int(found[-1].headers["retry-after"]) > 3000
    assert found[-1].headers["content-type"] == "application/problem+json"
    assert ask(other, NOBODY).status_code == 401
    assert count(hostile, "unknown") == 7
    assert len(told) == 4, "what is one too many is counted and told to nobody"
    assert 'medward_refused_requests_total{reason="failures"} 3.0' in other.app.state.service.metrics.text().decode()


def test_who_holds_a_key_is_served_from_an_address_that_is_full_of_failures(serve, keys):
    """All clients of one proxy have its address."""
    token, at = keys.add(("clinic",)), serve("1/hour")()
    assert [ask(at).status_code for _ in range(3)] == [401, 429, 429]
    assert [ask(at, token).status_code for _ in range(3)] == [200] * 3


def test_an_empty_rate_bounds_nothing_and_what_is_no_rate_is_refused(serve):
    client = serve("")()
    assert [ask(client).status_code for _ in range(70)] == [401] * 70
    with pytest.raises(MedwardError, match="is not a rate"):
        serve("often")


def test_each_reason_is_counted_and_told_with_the_credential_that_is_known(serve, keys, told, address):
    ended, watcher = keys.add(("a",)), keys.add(("b",), scope="metrics")
    keys.revoke(ended.split("_")[1])
    client = serve(jwks=address.url)()
    sent = {"missing": None, "unknown": NOBODY, "ended": ended, "token": signed(aud="x"), "scope": watcher}
    statuses = {reason: ask(client, token).status_code for reason, token in sent.items()}
    assert statuses == {"missing": 401, "unknown": 401, "ended": 401, "token": 401, "scope": 403}
    assert {reason: count(client, reason) for reason in sent} == dict.fromkeys(sent, 1.0)
    assert [each.reason for each in told] == list(sent)
    assert [each.credential for each in told] == [
        "", "", f"key:{ended.split('_')[1]}", "", f"key:{watcher.split('_')[1]}"
    ]  # fmt: skip
    assert {each.address for each in told} == {"192.0.2.1"}
    assert all(each.request_id for each in told)


def test_nothing_of_a_credential_is_said_logged_or_told(serve, keys, told, caplog, address):
    secrets = [
        NOBODY,
        signed(rsa_key(1), client_id="Secret-Client"),
        keys.add(("c",), scope="metrics"),
        "a.b.c",
        "x" * 99,
    ]
    client = serve(jwks=address.url)()
    for token in secrets:
        said = ask(client, token).text + caplog.text + repr(told)
        for part in (token.rpartition("_")[2], token.rpartition(".")[2], "Secret-Client", "secret-client"):
            assert len(part) < 9 or part not in said


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_one_subscriber_is_one_address(address, network):
    assert address_network(address) == network


def test_a_token_asks_as_its_principal_beside_keys(serve, keys, address):
    records = []
    client = serve(jwks=address.url, audit=Recorder(records))()
    key = keys.add(("hospital-a", "key-1"))
    assert ask(client, signed()).status_code == 200
    assert ask(client, key).status_code == 200
    assert [each["principal"] for each in records] == ["radiology-pacs", "hospital-a/key-1"]
    assert len(address.asked) == 1


class Recorder:
    def __init__(self, records):
        self.records = records

    def append(self, record):
        self.records.append(dict(record))


def test_a_token_opens_nothing_that_its_scopes_do_not(serve, address):
    client = serve(jwks=address.url)()
    refused = ask(client, signed(scope="openid system/Observation.rs"))
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    for path in ("/metrics", "/admin/v1/keys"):
        head = {"Authorization": f"Bearer {signed(scope='system/*.cruds')}"}
        assert client.get(path, headers=head).status_code == 403


def test_a_token_that_is_not_taken_is_told_why(serve, address):
    refused = ask(serve(jwks=address.url)(), signed(aud="https://another.example"))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert refused.json()["detail"] == "the token is not taken: it is for another audience"


def test_without_an_issuer_no_token_is_taken(serve):
    assert ask(serve()(), signed()).status_code == 401


@pytest.mark.parametrize(("on_error", "ready"), [("withhold", 503), ("flag", 200)])
def test_an_issuer_that_is_away_is_an_outage_and_not_the_client_s_fault(serve, keys, address, on_error, ready):
    """No answer leaves unasked for by a known client: a token is 503, keys go on, and readiness says it."""
    address.answer = (500, {}, b"")
    client, watcher = serve(jwks=address.url, on_error=on_error)(), keys.add(("ops",), scope="metrics")
    refused = ask(client, signed())
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert ask(client, keys.add(("clinic",))).status_code == 200
    told = client.get("/readyz", headers={"X-API-Key": watcher})
    assert told.status_code == ready
    assert "answers 500" in told.text
    assert address.url not in client.get("/readyz").text
    assert client.get("/healthz").status_code == 200


def test_a_server_whose_issuer_answers_is_ready(serve, address):
    address.serve(public_jwk(rsa_key()))
    assert serve(jwks=address.url)().get("/readyz").status_code == 200
