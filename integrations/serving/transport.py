"""How a server listens: what of host, keys and certificates does not go together, before anything is loaded."""

from __future__ import annotations

import ssl
from pathlib import Path

from medward.guard.errors import MedwardError
from medward.integrations.serving.identity.settings import LOOPBACK_HOSTS


def check_transport(
    host: str,
    *,
    anonymous: bool,
    tokens: bool,
    certificate: Path | None,
    private_key: Path | None,
    client_ca: Path | None,
) -> str:
    """Refuse a server that others could ask without keys, and files that TLS cannot be served with.

    Gives a sentence where it may be served and keys travel in clear text, else "". `tokens` says that access tokens are
    taken. Raises `MedwardError`.
    """
    if anonymous and tokens:
        raise MedwardError("identity.issuer: a server without keys asks for no tokens either; leave --no-keys out")
    if anonymous and host not in LOOPBACK_HOSTS:
        raise MedwardError(f"host {host}: a server without keys must stay on 127.0.0.1; add keys to open it")
    if (certificate is None) != (private_key is None):
        raise MedwardError("certificate and private_key: give both or neither")
    if client_ca is not None:
        _check_authorities(client_ca, certificate)
    if certificate is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key)
        except OSError as error:
            reason = error.strerror or error
            raise MedwardError(f"{certificate}, {private_key}: not a usable key pair: {reason}") from None
    elif host not in LOOPBACK_HOSTS:
        return f"keys and patients' data travel in clear text on {host}: give a certificate or put TLS in front"
    return ""


def _check_authorities(client_ca: Path, certificate: Path | None) -> None:
    if certificate is None:
        raise MedwardError("client_ca: client certificates need TLS: give certificate and private_key too")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(client_ca)
    except OSError as error:
        raise MedwardError(f"{client_ca}: holds no usable certificates: {error.strerror or error}") from None
