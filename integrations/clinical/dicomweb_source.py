"""A site's archive, from which the server itself fetches the studies that requests name (WADO-RS).

A request chooses identifiers and nothing else: the address is the operator's, what is asked for are digits and dots,
redirects and proxies of the environment are not followed, and what comes is bounded in size, time and number and must
be of the study that was asked for. Reference: DICOM PS3.18, sec. 10.4.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio

from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.intake.instance import dicom_instance, is_uid
from medward.guard.intake.picture import image_library
from medward.integrations.clinical.multipart_related import DICOM_PART, RELATED, related_files

ACCEPT = f'{RELATED}; type="{DICOM_PART}"; transfer-syntax=*'
AUTHORIZATION = re.compile(r"[A-Za-z]+ [\x21-\x7e]+")


class NotInSource(MedwardError):
    """Raised for a study, series or instance that the archive does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyName:
    """A study name says what is to be fetched: a study, a `series` of it, or one `instance` of that."""

    study: str
    series: str = ""
    instance: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no unique identifier, and an instance without its series."""
        for name in ("study", "series", "instance"):
            value = getattr(self, name)
            if (value or name == "study") and not is_uid(value):
                raise MedwardError(f"{name}: must be a DICOM unique identifier, digits and dots, at most 64 characters")
        if self.instance and not self.series:
            raise MedwardError("series: must be said with an instance, which is in one")

    @property
    def path(self) -> str:
        """The address of its instances below that of the archive."""
        parts = (("studies", self.study), ("series", self.series), ("instances", self.instance))
        return "/".join(f"{word}/{uid}" for word, uid in parts if uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomWebSource:
    """A DICOMweb source is the archive at `url`, as ``https://archive.example/dicom-web``, asked with `authorization`.

    No more than `most_bytes` come of one study and within `seconds`. `authorization` is the whole value of the header,
    "" for none. Raises `MedwardError` for an address that is none.
    """

    url: str
    authorization: str = field(default="", repr=False)
    most_bytes: int = 256 * 2**20
    seconds: float = 60.0

    def __post_init__(self) -> None:
        """Check the address, and that what fetches is installed."""
        image_library("httpx2", "studies of an archive", "dicomweb")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise MedwardError("source: must be an address as https://archive.example/dicom-web, without query")
        if parts.username or parts.password:
            raise MedwardError("source: must hold no password; give it as MEDWARD_SOURCE_AUTHORIZATION")
        if self.authorization and not AUTHORIZATION.fullmatch(self.authorization):
            raise MedwardError("MEDWARD_SOURCE_AUTHORIZATION: must be a scheme and a value, as Bearer TOKEN")

    @property
    def in_clear_text(self) -> bool:
        """Whether what is fetched travels unencrypted to another machine."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost")

    async def retrieve(self, name: StudyName, most: int, meter: Callable[[int], None]) -> list[bytes]:
        """The files of `name`, of which there may be `most`; `meter` is told of bytes as they come, and may refuse.

        Raises `NotInSource`; `MedwardError` for too many or too large ones; `UnavailableError` where the archive does
        not answer; `IntegrityError` where it answers with what is not of that study.
        """
        import httpx2

        headers = {"Accept": ACCEPT, "Accept-Encoding": "identity"} | (
            {"Authorization": self.authorization} if self.authorization else {}
        )
        try:
            with anyio.fail_after(self.seconds):
                async with (
                    httpx2.AsyncClient(follow_redirects=False, trust_env=False, timeout=self.seconds) as client,
                    client.stream("GET", f"{self.url.rstrip('/')}/{name.path}", headers=headers) as response,
                ):
                    self._check(response)
                    body = await self._body(response, meter)
        except TimeoutError:
            raise UnavailableError(f"source: gave no study within {self.seconds:g} s") from None
        except httpx2.HTTPError as error:
            raise UnavailableError(f"source: {type(error).__name__}") from None
        return _checked(related_files(response.headers["content-type"], body, most), name)

    def _check(self, response: Any) -> None:
        """Refuse an answer that is not a study."""
        if response.status_code == 404:
            raise NotInSource("the archive has no such study, series or instance")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        coding = response.headers.get("content-encoding", "identity")
        if response.status_code != 200 or kind != RELATED or coding != "identity":
            raise UnavailableError(f"source: answered {response.status_code} {kind[:64]}")

    async def _body(self, response: Any, meter: Callable[[int], None]) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():
            meter(len(chunk))
            body += chunk
            if len(body) > self.most_bytes:
                raise MedwardError(
                    f"the study has more than {self.most_bytes} bytes; name one series or instance of it, or raise "
                    "--source-mib"
                )
        return bytes(body)


def _checked(files: list[bytes], name: StudyName) -> list[bytes]:
    """`files`, each of which must be of what was asked for."""
    for file in files:
        found = dicom_instance(file)
        if found is None or found.study != name.study:
            raise IntegrityError("source: gave an instance that is not of the study that was asked for")
        if name.series not in ("", found.series) or name.instance not in ("", found.sop_instance):
            raise IntegrityError("source: gave an instance that was not asked for")
    return files
