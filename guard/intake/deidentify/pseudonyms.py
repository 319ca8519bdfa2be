"""Pseudonyms from a secret key: the same patient, study or device gets the same one, in every file and every run.

Keyed hashes (HMAC-SHA256, RFC 2104): who does not have the key cannot find out which identifier became which pseudonym,
not even by trying all numbers. Whoever has it can link, so it is kept apart from the files.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from medward.guard.errors import MedwardError
from medward.guard.files import sync_to_disk

KEY_BYTES = 32
FEWEST_DAYS, MOST_DAYS = 30, 1825  # that the dates of a patient are moved into the past


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Pseudonyms made with one secret `key`; equal for equal values, whoever computes them."""

    key: bytes

    def identifier(self, kind: str, value: str) -> str:
        """A name of 16 letters and digits for an identifier `value` of a `kind`, equal for equal values."""
        return self._digest(kind, value).hex()[:16].upper()

    def unique_identifier(self, value: str) -> str:
        """A DICOM UID for another (PS3.5 B.2, from 128 bits)."""
        return f"2.25.{int.from_bytes(self._digest('uid', value)[:16], 'big')}"

    def days(self, patient: str) -> int:
        """By how many days the dates of `patient` are moved into the past: all by as many, so intervals stay."""
        number = int.from_bytes(self._digest("days", patient)[:8], "big")
        return FEWEST_DAYS + number % (MOST_DAYS - FEWEST_DAYS + 1)

    def shifted_date(self, text: str, patient: str) -> str:
        """A date ``YYYYMMDD`` of `patient`, moved; empty where `text` is no date. What follows the day is dropped."""
        digits = text.strip().replace(".", "")[:8]
        try:
            day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
            return (day - timedelta(days=self.days(patient))).strftime("%Y%m%d").zfill(8)
        except (ValueError, OverflowError):
            return ""

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.new(self.key, f"{kind}\0{value}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def read_or_make_key(path: Path) -> bytes:
    """The key in the file `path`; where there is none, one is drawn and written, for its owner's eyes only.

    Raises `MedwardError` where the file holds something else.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_key(path)
    key = secrets.token_bytes(KEY_BYTES)
    with os.fdopen(handle, "w") as file:
        file.write(key.hex() + "\n")
    sync_to_disk(path)
    sync_to_disk(path.parent)
    return key


def read_key(path: Path) -> bytes:
    """The key in the file `path`. Raises `MedwardError` where it holds something else."""
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (ValueError, UnicodeDecodeError):
        key = b""
    if len(key) != KEY_BYTES:
        raise MedwardError(
            f"{path}: is no key of {KEY_BYTES} bytes in hexadecimal; name that of an earlier run, or a new one"
        )
    return key
