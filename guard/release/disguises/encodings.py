"""Encodings: base64, hexadecimal and decimal codes of a text, and the text they are codes of."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from medward.guard.release.disguises.folded_text import folded_view

_EXPRESSIONS = {
    "base64": re.compile(rb"[A-Za-z0-9+/_-]{8,}+={0,2}"),
    "hexadecimal": re.compile(rb"(?:(?:0x|\\x|\\u00|%|&#x)?+[0-9A-Fa-f]{2}[ :,;-]?+){4,}+"),
    "decimal": re.compile(rb"(?:&?+#?+[0-9]{2,3}+(?:;|, ?+| |-)){3,}+[0-9]{0,3}"),
}
_HEX_TOKEN = re.compile(r"(?:0x|x|u00)?((?:[0-9a-f]{2})+)", re.IGNORECASE)
_CODE_TOKEN = re.compile(r"4[89]|5[0-7]|6[5-9]|[78]\d|90|9[7-9]|1[01]\d|12[0-2]")  # of a letter or a digit
_URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
_UNPRINTABLE = bytes([*range(9), *range(14, 32), *range(127, 256)])
_PRINTABLE_RUN = re.compile(rb"[ -~]{8,}")  # of bytes that mean nothing, few begin so
_SHORT_PRINTABLE_RUN = re.compile(rb"[ -~]{4,}")
_LEAST_PRINTABLE = 0.7  # of the characters of a text that was encoded; a plain word decoded looks like noise
_CUT = 6  # bytes of two characters of which a piece holds a part
_DEEPEST = 2  # encodings within each other that are undone
_REMEMBERED = 20_000  # stretches of at most so many characters:
_REMEMBERED_LENGTH = 64


def encoded_stretches(view: bytes) -> Iterator[tuple[int, int, str]]:
    """Stretches of a folded text that are codes of a text: start, end, that text.

    What is encoded twice is decoded twice. A stretch may begin anywhere: with letters before it, or in a window.
    """
    for encoding, expression in _EXPRESSIONS.items():
        for match in expression.finditer(view):
            stretch = match.group()
            start, end = match.start(), match.start() + len(stretch.rstrip(b" :,;-"))
            decode = _remembered_texts if len(stretch) <= _REMEMBERED_LENGTH else _texts_within
            for text in decode(encoding, stretch, 1):
                yield start, end, text


def base64_text(token: str) -> str:
    """The text that one token encodes in base64, of either alphabet; nothing where it encodes none."""
    return _readable_text(_decoded_base64(token.strip().encode()))


def hexadecimal_text(token: str) -> str:
    """The text that one token encodes as pairs of hexadecimal digits; nothing where it encodes none."""
    run = _HEX_TOKEN.fullmatch(token.strip())
    return _readable_text(bytes.fromhex(run[1])) if run else ""


def decimal_text(token: str) -> str:
    """The character whose code one token is, if that is a letter or a digit of ASCII."""
    code = token.strip()
    return chr(int(code)) if _CODE_TOKEN.fullmatch(code) else ""


def _texts_within(encoding: str, stretch: bytes, depth: int) -> tuple[str, ...]:
    """The texts that a stretch may be a code of, and those that stretches of these are codes of."""
    texts = tuple(_DECODE[encoding](stretch))
    if depth == _DEEPEST:
        return texts
    return texts + tuple(
        inner
        for text in texts
        for other, expression in _EXPRESSIONS.items()
        for match in expression.finditer(folded_view(text))
        for inner in _texts_within(other, match.group(), depth + 1)
    )


_remembered_texts = lru_cache(maxsize=_REMEMBERED)(_texts_within)  # most are words, and words come again


def _base64_texts(stretch: bytes) -> Iterator[str]:
    for skipped in range(4):
        content = _decoded_base64(stretch[skipped:])
        text = _readable_text(content)
        if text:
            yield text
        yield from (run.decode("ascii") for run in _SHORT_PRINTABLE_RUN.findall(content) if run.decode("ascii") != text)


def _decoded_base64(run: bytes) -> bytes:
    """The bytes of a run of any length; nothing where it holds another character."""
    plain = run.rstrip(b"=").translate(_URL_ALPHABET)
    plain = plain[: len(plain) - (len(plain) % 4 == 1)]
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return b""


def _hexadecimal_texts(stretch: bytes) -> Iterator[str]:
    digits = re.sub(rb"0x|\\x|\\u00|%|&#x|[ :,;-]", b"", stretch)
    for skipped in (0, 1):
        yield binascii.unhexlify(digits[skipped : skipped + (len(digits) - skipped) // 2 * 2]).decode("utf-8", "ignore")


def _decimal_texts(stretch: bytes) -> Iterator[str]:
    yield "".join(chr(number) for number in map(int, re.findall(rb"[0-9]+", stretch)) if number < 256)


def _readable_text(content: bytes) -> str:
    """The text that bytes are, or the longest in them; a character may be cut at either end, or some be damaged."""
    text = content.decode("utf-8", "ignore")
    if len(content.translate(None, _UNPRINTABLE)) >= _LEAST_PRINTABLE * len(content):
        return text
    left_out = len(content) - len(text.encode())
    if not content.isascii() and left_out <= (_CUT if len(content) > 2 * _CUT else 0):
        return text
    return max(_PRINTABLE_RUN.findall(content), key=len, default=b"").decode("ascii")


_DECODE: Mapping[str, Callable[[bytes], Iterator[str]]] = {
    "base64": _base64_texts,
    "hexadecimal": _hexadecimal_texts,
    "decimal": _decimal_texts,
}
