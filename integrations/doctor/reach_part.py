"""What a server needs beside its own folder: certificates, the issuer's public keys, the site's archive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from medward.guard.errors import IntegrityError, MedwardError
from medward.integrations.clinical.dicomweb_source import DicomWebSource, NotInSource, StudyName
from medward.integrations.doctor.remark import Remark
from medward.integrations.doctor.state_part import SOON
from medward.integrations.serving.identity.settings import IdentitySettings

ABSENT_STUDY = "2.25.1"
"""A study that is asked for to see whether the archive answers; no archive should have it."""


def certificate_remarks(what: str, path: Path) -> Iterator[Remark]:
    """When the certificates in the PEM file at `path` end; `what` says whose they are."""
    try:
        from cryptography import x509
    except ModuleNotFoundError:
        raise MedwardError(f"{path}: its end cannot be read; pip install 'medward[serve]'") from None
    now = datetime.now(UTC)
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise MedwardError(f"{path}: holds no PEM certificate; give the file that the authority sent") from None
    for each in found:
        name = each.subject.rfc4514_string() or "without a name"
        begins, ends = each.not_valid_before_utc, each.not_valid_after_utc
        said = f"{path}: {what} of {name} is valid until {ends:%Y-%m-%d}"
        if now >= ends:
            said = f"{path}: {what} of {name} ended on {ends:%Y-%m-%d}: no client connects"
        elif now < begins:
            said = (
                f"{path}: {what} of {name} begins on {begins:%Y-%m-%d}: no client connects before, or the clock is off"
            )
        elif ends - now < SOON:
            said += f", {(ends - now).days} days"
        else:
            yield Remark(part="TLS", said=said)
            continue
        yield Remark(part="TLS", said=said, state="mend", remedy="renew it, and restart the server")


def issuer_remarks(identity: IdentitySettings) -> Iterator[Remark]:
    """Whether the issuer's public keys can be had, so that a token can be verified."""
    from medward.integrations.serving.identity.signing_keys import IssuerKeys

    asyncio.run(IssuerKeys(identity).check_ready())
    yield Remark(
        part="identity", said=f"the keys of {identity.issuer} can be had, and one verifies an allowed signature"
    )


def archive_remarks(source: DicomWebSource) -> Iterator[Remark]:
    """Whether the archive answers, and lets this server ask."""
    with suppress(NotInSource, IntegrityError):
        asyncio.run(source.retrieve(StudyName(study=ABSENT_STUDY), 1, lambda _: None))
    yield Remark(part="archive", said=f"the archive answers within {source.seconds:g} s, and lets this server ask")
    if source.in_clear_text:
        said = "studies and the archive's authorization travel in clear text"
        yield Remark(part="archive", said=said, state="note", remedy="give an https:// address")
