"""A line of an audit log: the canonical JSON of a record in its place in the chain.

What a line holds is said in `guard.audit.log`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from os import PathLike
from typing import Any

from medward.guard.errors import IntegrityError, MedwardError

StrPath = str | PathLike[str]
EncodedRecord = Mapping[str, bytes]
"""The members of a record by name, each as a canonical line has it."""
GENESIS = "0" * 64
CHAIN = ("seq", "time", "prev", "hash")


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _hash(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != "hash"}
    return hashlib.sha256(_canonical(content)).hexdigest()


def encode_record(record: Mapping[str, Any]) -> EncodedRecord:
    """Each member of a record as a canonical line has it, so that whoever seals records encodes none."""
    if wrong := [name for name in record if not isinstance(name, str)]:
        raise MedwardError(f"audit record: must be finite JSON with text keys: {wrong[0]!r} is none")
    try:
        return {name: _canonical({name: value})[1:-1] for name, value in record.items()}
    except (TypeError, ValueError) as error:
        raise MedwardError(f"audit record: must be finite JSON with text keys: {error}") from None


def sealed_line(record: EncodedRecord, seq: int, prev: str) -> tuple[bytes, str]:
    """The line of a record in its place in the chain, and its hash."""
    time = datetime.now(UTC).isoformat(timespec="microseconds")
    members = {**record, **encode_record({"seq": seq, "time": time, "prev": prev})}
    digest = hashlib.sha256(_object(members)).hexdigest()
    return _object({**members, "hash": b'"hash":"%s"' % digest.encode()}) + b"\n", digest


def _object(members: EncodedRecord) -> bytes:
    return b"{%s}" % b",".join(members[name] for name in sorted(members))


def parsed_record(line: bytes, where: str) -> dict[str, Any]:
    """The record on a line, its own form and hash checked."""
    try:
        record = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        raise IntegrityError(f"{where}: not JSON") from None
    if not isinstance(record, dict) or any(name not in record for name in CHAIN):
        raise IntegrityError(f"{where}: not an audit record, which has {', '.join(CHAIN)}")
    try:
        same = _canonical(record) == line
    except ValueError:  # NaN and infinities parse, but are never written
        same = False
    if not same:
        raise IntegrityError(f"{where}: not in canonical form; its bytes were changed")
    if _hash(record) != record["hash"]:
        raise IntegrityError(f"{where}: broken hash: its content was changed")
    return record


def check_torn(line: bytes, where: str) -> None:
    """An unfinished line is the start of a record. A whole record with something after it is damage."""
    try:
        _, end = json.JSONDecoder().raw_decode(line.decode("latin-1"))
    except (ValueError, RecursionError):
        return
    if end < len(line):
        raise IntegrityError(f"{where}: a whole record that does not end in a newline")
