"""A form of files (``multipart/form-data``): images in fields of known names and, beside them, their study."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from medward.guard.errors import MedwardError
from medward.integrations.serving.service import LONGEST_STUDY

FIELDS = ("image", "file", "dicom")
STUDY_FIELD = "study"


@dataclass(frozen=True, slots=True)
class FileForm:
    """The files of a form, in order, and the study that it says they belong to, "" for none."""

    files: list[bytes]
    study: str = ""


async def read_form(request: Request, rows: int, body_bytes: int) -> FileForm:
    """At most `rows` files, never spooled to disk: they may show a patient."""
    parser = MultiPartParser(request.headers, request.stream(), max_files=rows, max_fields=1)
    parser.spool_max_size = body_bytes
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    parts = form.multi_items()
    files = [await part.read() for name, part in parts if name in FIELDS and isinstance(part, UploadFile)]
    said = [part for name, part in parts if name == STUDY_FIELD and isinstance(part, str)]
    await form.close()
    if not files or len(files) + len(said) < len(parts):
        raise HTTPException(
            422, 'send one file or several, each in a field named "image", "file" or "dicom", and their "study"'
        )
    study = said[0] if said else ""
    if len(study) > LONGEST_STUDY:
        raise MedwardError(f"study: at most {LONGEST_STUDY} characters, got {len(study)}")
    return FileForm(files, study)


def one_study(header: str, field: str) -> str:
    """The study that header or form say, which must not be two."""
    if header and field and header != field:
        raise MedwardError("study: the form and the header Medward-Study say two; send one of them")
    return header or field
