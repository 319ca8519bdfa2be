"""Bodies of several DICOM files, as DICOMweb sends them: ``multipart/related; type="application/dicom"``.

References: RFC 2046, sec. 5.1; RFC 2387; DICOM PS3.18, sec. 8.6.1.
"""

from __future__ import annotations

from email.message import Message

from medward.guard.errors import MedwardError

RELATED, DICOM_PART = "multipart/related", "application/dicom"
_MOST_HEADERS = 4096  # bytes of one part's headers
_LONGEST_BOUNDARY = 70


def related_files(content_type: str, body: bytes, most: int) -> list[bytes]:
    """The DICOM files in `body`, in order, of which there may be `most`.

    Raises `MedwardError` for a body that ends early, has none or too many, or holds a part of another type.
    """
    boundary = related_boundary(content_type)
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, most + 2)
    if len(pieces) > most + 2:
        raise MedwardError(f"the body holds more than {most} DICOM files; send fewer, or raise --rows")
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise MedwardError("the body has no part, or ends before its last boundary")
    return [_part(piece, index) for index, piece in enumerate(pieces[1:-1])]


def related_boundary(content_type: str) -> bytes:
    """The boundary that `content_type` names. Raises `MedwardError` for another type or none."""
    message = Message()
    message["Content-Type"] = content_type
    kind, boundary = message.get_content_type(), message.get_param("boundary")
    of = str(message.get_param("type", DICOM_PART)).lower()
    if kind != RELATED or of != DICOM_PART or not isinstance(boundary, str) or not boundary.isascii():
        raise MedwardError(f'send {RELATED}; type="{DICOM_PART}"; boundary=...')
    if not 1 <= len(boundary) <= _LONGEST_BOUNDARY:
        raise MedwardError(f"the boundary must have 1 to {_LONGEST_BOUNDARY} characters")
    return boundary.encode()


def related_body(files: list[bytes], boundary: str) -> bytes:
    """`files` as one body."""
    head = f"--{boundary}\r\nContent-Type: {DICOM_PART}\r\n\r\n".encode()
    return b"".join(head + file + b"\r\n" for file in files) + f"--{boundary}--\r\n".encode()


def _part(piece: bytes, index: int) -> bytes:
    """The file in one part."""
    padding, _, piece = piece.partition(b"\r\n")
    if padding.strip(b" \t"):
        raise MedwardError(f"part {index}: its boundary is not a line of its own")
    if piece.startswith(b"\r\n"):  # no headers
        return piece[2:]
    head, found, file = piece.partition(b"\r\n\r\n")
    if not found or len(head) > _MOST_HEADERS:
        raise MedwardError(f"part {index}: has no end of its headers within {_MOST_HEADERS} bytes")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
            if kind != DICOM_PART.encode():
                raise MedwardError(f"part {index}: is no {DICOM_PART}")
    return file
