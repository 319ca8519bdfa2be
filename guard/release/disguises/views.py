"""Views: the ways in which a text may be read token by token, each of which gives back the letters it may disguise.

A text is cut into tokens from left to right, and every token is read by itself in every view; what a view reads of a
text is the run of what it reads of the tokens. So a text that comes in pieces reads the same as the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from medward.guard.release.disguises.ciphers import LEETSPEAK
from medward.guard.release.disguises.encodings import base64_text, decimal_text, hexadecimal_text
from medward.guard.release.disguises.folded_words import folded_characters, folded_words, without_zeros, words_of
from medward.guard.release.disguises.letters import UndisguisedLetters
from medward.guard.release.disguises.spoken import spoken_as_written

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


def written(token: str) -> bytes:
    """The letters and digits as they stand."""
    return spoken_as_written(folded_words(token))


def outside_markup(token: str) -> bytes:
    """The same without keys of JSON and tags in brackets."""
    return b"" if _MARKUP.fullmatch(token) else written(token)


def leetspeak(token: str) -> bytes:
    """The letters, with letters for digits and signs that look like them."""
    return spoken_as_written(words_of(folded_characters(token).translate(LEETSPEAK)))


def initials(token: str) -> bytes:
    """The first letter of each word, as in an acrostic."""
    words = folded_words(token)
    return words[0][:1] if words else b""


def line_initials(token: str) -> bytes:
    """The first letter of each line."""
    return initials(token)[:1] if "\n" in token else b""


def numbers(token: str) -> bytes:
    """The digits of a token that has no letter, whatever words stand between two of them."""
    letters = written(token)
    return letters if letters.isdigit() else b""


def from_base64(token: str) -> bytes:
    """The letters of the text that a token encodes in base64."""
    return written(base64_text(token))


def from_hexadecimal(token: str) -> bytes:
    """The letters of the text that a token encodes as pairs of hexadecimal digits."""
    return written(hexadecimal_text(token))


def from_decimal(token: str) -> bytes:
    """The letter or digit whose code a token is."""
    return written(decimal_text(token))


VIEWS: Mapping[str, Callable[[str], bytes]] = {
    "written": written,
    "outside-markup": outside_markup,
    "leetspeak": leetspeak,
    "initials": initials,
    "line-initials": line_initials,
    "base64": from_base64,
    "hex": from_hexadecimal,
    "decimal": from_decimal,
}
"""Every view by name: what it reads of one token."""


MORE_VIEWS: Mapping[str, Callable[[str], bytes]] = {**VIEWS, "numbers": numbers}
"""Besides, those in which only a known value can be looked for: they run together what is far apart in a text."""


class TokenReader(dict[str, tuple[bytes, ...]]):
    """A token reader maps a token to what each of some `views` reads of it, and remembers so many tokens and no more.

    Zeros are left out unless they are `kept`, so that numbers read alike as digits and as words; printing it shows
    no token.
    """

    def __init__(self, views: Iterable[str] = VIEWS, *, zeros_kept: bool = False, most: int = 20_000) -> None:
        super().__init__()
        self.most = most
        self._views = [MORE_VIEWS[name] for name in views]
        self._finish = bytes if zeros_kept else without_zeros

    def __missing__(self, token: str) -> tuple[bytes, ...]:
        if len(self) >= self.most:
            self.clear()
        found = self[token] = tuple(self._finish(view(token)) for view in self._views)
        return found

    def __repr__(self) -> str:
        """How many tokens there are, never which."""
        return f"TokenReader({len(self)} tokens)"


class TokenViews:
    """Token views hold what each view of a reader reads of a whole text, and where in the text its letters are from."""

    def __init__(self, text: str, reader: TokenReader) -> None:
        self._tokens = TOKEN_PATTERN.findall(text)
        keys = ["\n" + self._tokens[0].lstrip(), *self._tokens[1:]] if self._tokens else []
        self._columns = list(zip(*map(reader.__getitem__, keys), strict=True))
        self.runs = [b"".join(column) for column in self._columns]
        """What each view reads, in the reader's order."""

    def letters(self, view: int) -> UndisguisedLetters:
        """What one view reads; each letter begins and ends where its token does, without white space before that."""
        sizes = [len(each) for each in self._columns[view]]
        ends = np.cumsum([len(token) for token in self._tokens])
        starts = ends - [len(token.lstrip()) for token in self._tokens]
        return UndisguisedLetters(self.runs[view], np.repeat(starts, sizes), np.repeat(ends, sizes))
