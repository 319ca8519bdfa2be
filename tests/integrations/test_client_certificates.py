"""TLS with client certificates: a condition besides the key, and a bond that a stolen token does not have."""

from __future__ import annotations

import base64
import hashlib
import ssl

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from support.authorities import Authority
from support.issuer import AUDIENCE, ISSUER, key_set, signed
from support.live_servers import listening

from medward.guard.errors import MedwardError, UnavailableError
from medward.integrations.serving import create_app, serve_bundle
from medward.integrations.serving.identity.fetched_document import fetch_document
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.keys import KeyStore

BODY = {"inputs": [[0.5, -1.0, 2.0]]}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def app(make_guard, tmp_path):
    (tmp_path / "jwks.json").write_bytes(key_set())
    identity = IdentitySettings(issuer=ISSUER, audience=AUDIENCE, jwks=str(tmp_path / "jwks.json"))
    return create_app(make_guard(), keys=KeyStore(tmp_path / "keys.json"), identity=identity)


@pytest.fixture
def server(app, authority):
    own = authority.sign("server")
    options = {"certificate": own.certificate, "private_key": own.private_key, "client_ca": authority.path}
    with listening(app, **options) as live:
        yield live


def client(server, authority, certificate=None):
    context = ssl.create_default_context(cafile=authority.path)
    if certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.private_key)
    return httpx.Client(base_url=server.url.replace("http:", "https:"), verify=context, trust_env=False)


def test_a_certificate_is_needed_besides_the_key_and_is_not_instead_of_it(server, authority, tmp_path):
    token = KeyStore(tmp_path / "keys.json").add(("clinic",))
    with client(server, authority, authority.sign("clinic")) as known:
        assert known.post("/v1/predict", json=BODY).status_code == 401
        assert known.post("/v1/predict", json=BODY, headers={"X-API-Key": token}).status_code == 200
    for stranger in (None, Authority(tmp_path, "another").sign("clinic"), authority.sign("late", days=-1)):
        with client(server, authority, stranger) as unknown, pytest.raises(httpx.TransportError):
            unknown.post("/v1/predict", json=BODY, headers={"X-API-Key": token})
        with client(server, authority, stranger) as unknown, pytest.raises(httpx.TransportError):
            unknown.get("/healthz")


def test_a_token_bound_to_a_certificate_works_over_that_one_only(server, authority):
    holder, thief = authority.sign("holder"), authority.sign("thief")
    der = x509.load_pem_x509_certificate(holder.certificate.read_bytes()).public_bytes(Encoding.DER)
    digest = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    bound, free = ({"Authorization": f"Bearer {token}"} for token in (signed(cnf={"x5t#S256": digest}), signed()))
    with client(server, authority, holder) as rightful, client(server, authority, thief) as other:
        assert rightful.post("/v1/predict", json=BODY, headers=bound).status_code == 200
        refused = other.post("/v1/predict", json=BODY, headers=bound)
        assert refused.status_code == 401
        assert "another client certificate" in refused.json()["detail"]
        assert other.post("/v1/predict", json=BODY, headers=free).status_code == 200


def test_without_client_certificates_a_bound_token_is_not_taken(app):
    with listening(app) as live:
        headers = {"Authorization": f"Bearer {signed(cnf={'x5t#S256': 'x' * 43})}"}
        assert httpx.post(f"{live.url}/v1/predict", json=BODY, headers=headers).status_code == 401


@pytest.mark.parametrize(("own", "said"), [(False, "client certificates need TLS"), (True, "no usable certificates")])
def test_authorities_that_would_not_do_are_refused_at_the_start(authority, tmp_path, own, said):
    signed_by = authority.sign("server")
    tls = {"certificate": signed_by.certificate, "private_key": signed_by.private_key} if own else {}
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(MedwardError, match=said):
        serve_bundle(tmp_path / "bundle", state=tmp_path / "state", client_ca=tmp_path / "no.pem", **tls)


def test_keys_are_fetched_over_tls_that_is_verified(app, authority, monkeypatch):
    """The server's own probe stands for a document: what counts is whose certificate is believed."""
    own = authority.sign("server")
    with listening(app, certificate=own.certificate, private_key=own.private_key) as live:
        address = f"https://127.0.0.1:{live.address[1]}/healthz"
        with pytest.raises(UnavailableError, match="ConnectError"):
            fetch_document(address)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        assert b"ok" in fetch_document(address)
