"""One small document from an address of the operator's: bounded in size and time, and never from another address."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from medward.guard.errors import MedwardError, UnavailableError
from medward.integrations.serving.identity.settings import LOOPBACK_HOSTS

MOST_DOCUMENT_BYTES = 256 * 1024  # of a document; a set of a hundred keys with their certificates has less
MOST_DOCUMENT_SECONDS = 5.0  # for all of it: looking the address up, connecting, reading to the end


def fetch_document(address: str) -> bytes:
    """What lies at `address`. Redirects are not followed.

    TLS is verified by the system's certificates (or ``SSL_CERT_FILE``), and a proxy that the environment names is used,
    but not for this machine's own addresses. Raises `UnavailableError`.
    """
    try:
        import httpx2
    except ModuleNotFoundError:
        raise MedwardError("identity.jwks: an address needs httpx2: pip install 'medward[serve]'") from None

    async def fetch() -> bytes:
        authorities = ssl.create_default_context()
        outside = urlsplit(address).hostname not in LOOPBACK_HOSTS
        with anyio.fail_after(MOST_DOCUMENT_SECONDS):
            async with httpx2.AsyncClient(
                follow_redirects=False, timeout=MOST_DOCUMENT_SECONDS, trust_env=outside, verify=authorities
            ) as client:
                # No coding, so that what is counted is what comes.
                wanted = {"Accept": "application/json", "Accept-Encoding": "identity"}
                async with client.stream("GET", address, headers=wanted) as response:
                    if response.status_code != 200:
                        raise UnavailableError(f"{address} answers {response.status_code}")
                    content = b""
                    async for piece in response.aiter_raw():
                        content += piece
                        if len(content) > MOST_DOCUMENT_BYTES:
                            raise UnavailableError(f"{address} has more than {MOST_DOCUMENT_BYTES} bytes")
                    return content

    try:
        return anyio.run(fetch)
    except TimeoutError:
        raise UnavailableError(f"{address} did not answer within {MOST_DOCUMENT_SECONDS:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError) as error:
        raise UnavailableError(f"{address}: {type(error).__name__}") from error


def read_document(path: Path) -> bytes:
    """The file at `path`, of as many bytes at most. Raises `UnavailableError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > MOST_DOCUMENT_BYTES:
        raise UnavailableError(f"{path} has more than {MOST_DOCUMENT_BYTES} bytes")
    return content
