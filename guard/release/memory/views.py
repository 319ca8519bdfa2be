"""Views: the ways in which an answer may be read, each of which gives back the letters of what it may disguise.

A text is cut into tokens from left to right, and every token is read by itself in every view; what a view reads of a
text is the run of what it reads of the tokens. So a text that comes in pieces reads the same as the whole text.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping

from medward.guard.release.memory.folding import folded_words, spoken_as_written

_LETTERS = r"A-Za-z0-9+/_\-\x80-\U0010ffff"
TOKEN_PATTERN = re.compile(
    r"[ \t\r\n\f\v]{0,8}+(?:"
    r'"[^"\n]{1,32}"[ ]{0,2}:|<[^<>\n]{1,32}>|\[[^\[\]\n]{1,32}\]|«[^«»\n]{1,32}»'  # keys of JSON, tags
    rf"|[{_LETTERS}]{{1,64}}={{0,2}}|[^{_LETTERS}])"
    r"|[ \t\r\n\f\v]{1,8}"
)
"""Cuts a text into tokens, each with the white space before it: a key, a tag, a word, one other character."""
TOKEN_LENGTH = 80
"""Characters from the start of a token after which nothing that follows can change it."""
_MARKUP = re.compile(r'\s*(?:"[^"]+" *:|<[^<>]+>|\[[^\[\]]+\]|«[^«»]+»)')
_HEX = re.compile(r"(?:0x|x|u00)?((?:[0-9a-f]{2})+)", re.IGNORECASE)
_LEET = str.maketrans("01345678@$!", "oieasgtbasi")
_CODE = re.compile(r"4[89]|5[0-7]|6[5-9]|[78]\d|90|9[7-9]|1[01]\d|12[0-2]")
_READABLE = re.compile(r"[ -~\t\r\n]*")


def written(token: str) -> bytes:
    """The letters and digits as they stand."""
    return spoken_as_written(folded_words(token))


def outside_markup(token: str) -> bytes:
    """The same without keys of JSON and tags in brackets."""
    return b"" if _MARKUP.fullmatch(token) else written(token)


def leetspeak(token: str) -> bytes:
    """The letters, with letters for digits and signs that look like them."""
    return written(token.translate(_LEET))


def initials(token: str) -> bytes:
    """The first letter of each word, as in an acrostic."""
    words = folded_words(token)
    return words[0][:1] if words else b""


def line_initials(token: str) -> bytes:
    """The first letter of each line."""
    return initials(token)[:1] if "\n" in token else b""


def from_base64(token: str) -> bytes:
    """The text that a token encodes in base64, of either alphabet; nothing where it encodes none."""
    run = token.strip().rstrip("=").translate(_URL_ALPHABET)
    run = run[: len(run) - (len(run) % 4 == 1)]
    try:
        return _readable(base64.b64decode(run + "=" * (-len(run) % 4), validate=True))
    except (binascii.Error, ValueError):
        return b""


def from_hex(token: str) -> bytes:
    """The text that a token encodes as pairs of hexadecimal digits; nothing where it encodes none."""
    run = _HEX.fullmatch(token.strip())
    return _readable(bytes.fromhex(run[1])) if run else b""


def from_decimal(token: str) -> bytes:
    """The character whose code a token is, if that is a letter or a digit of ASCII."""
    code = token.strip()
    return written(chr(int(code))) if _CODE.fullmatch(code) else b""


def _readable(content: bytes) -> bytes:
    """What printable text reads; nothing for bytes that are none, but for a character cut at either end."""
    text = content.decode("utf-8", "ignore")
    if content.isascii():
        return written(text) if _READABLE.fullmatch(text) else b""
    return written(text) if len(content) - len(text.encode()) <= _CUT and len(content) > 2 * _CUT else b""


_CUT = 6  # bytes of two characters of which a piece holds a part
_URL_ALPHABET = str.maketrans("-_", "+/")

VIEWS: Mapping[str, Callable[[str], bytes]] = {
    "written": written,
    "outside-markup": outside_markup,
    "leetspeak": leetspeak,
    "initials": initials,
    "line-initials": line_initials,
    "base64": from_base64,
    "hex": from_hex,
    "decimal": from_decimal,
}
"""Every view by name: what it reads of one token."""


class TokenReader(dict[str, tuple[bytes, ...]]):
    """A token reader maps a token to what each view reads of it, and remembers so many tokens and no more."""

    def __init__(self, most: int = 20_000) -> None:
        super().__init__()
        self.most = most

    def __missing__(self, token: str) -> tuple[bytes, ...]:
        if len(self) >= self.most:
            self.clear()
        found = self[token] = tuple(view(token) for view in VIEWS.values())
        return found
