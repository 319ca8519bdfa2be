"""An issuer of access tokens: its keys, the tokens it signs, and the address where its public keys lie."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.hospital.example", "https://medward.hospital.example"


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of several keys, made once."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def public_jwk(key: Any, **members: Any) -> dict[str, Any]:
    """The public half of `key` as a JSON Web Key."""
    kinds = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm = next((each for kind, each in kinds.items() if isinstance(key, kind)), OKPAlgorithm)
    jwk = json.loads(algorithm.to_jwk(key.public_key()))
    jwk.pop("key_ops", None)
    return {**jwk, "kid": "one", "use": "sig", **members}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys or [public_jwk(rsa_key())]}).encode()


def claims(**changed: Any) -> dict[str, Any]:
    """What a good token says; None takes a claim away."""
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": now + 300,
        "nbf": now,
        "iat": now,
        "jti": "j-1",
        "sub": "s",
        "client_id": "radiology-pacs",
        "scope": "system/DiagnosticReport.cu openid",
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def signed(key: Any = None, algorithm: str = "RS256", headers: dict[str, Any] | None = None, **changed: Any) -> str:
    """A token of `claims`, by the first RSA key unless another is given."""
    return jwt.encode(claims(**changed), key or rsa_key(), algorithm, headers={"kid": "one", **(headers or {})})


@dataclass
class KeyAddress:
    """Where the issuer's keys lie: `answer` is status, headers and body of the next answers; None says nothing."""

    url: str = ""
    answer: tuple[int, dict[str, str], bytes] | None = (200, {}, b"")
    asked: list[str] = field(default_factory=list)
    drip: float = 0.0  # seconds between bytes of a body
    go: threading.Event = field(default_factory=threading.Event)

    def serve(self, *keys: dict[str, Any]) -> None:
        self.answer = (200, {"Content-Type": "application/json"}, key_set(*keys))


@contextmanager
def key_address() -> Iterator[KeyAddress]:
    """An address on loopback, gone at the end."""
    kept = KeyAddress()
    kept.serve()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kept.asked.append(self.path)
            if kept.answer is None:
                kept.go.wait(30)
                return
            status, headers, body = kept.answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for part in [body] if not kept.drip else (bytes([each]) for each in body):
                    self.wfile.write(part)
                    time.sleep(kept.drip)
            except OSError:
                return

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}/keys"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield kept
    finally:
        kept.go.set()
        server.shutdown()
        server.server_close()
        thread.join()
