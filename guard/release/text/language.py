"""Languages: what identifiers look like in one of them, read from a data file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from medward.guard.errors import MedwardError
from medward.guard.release.text.fold import FoldedText
from medward.guard.release.text.patterns import IdentifierPattern, PatternSet
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan

_FOLDER = files(__package__) / "languages"


class Language:
    """A language finds the identifiers that nobody had to know beforehand: by patterns and by lexicons."""

    def __init__(self, name: str) -> None:
        data = tomllib.loads((_FOLDER / f"{name}.toml").read_text())
        words = data["words"]
        self._patterns = PatternSet(
            [
                IdentifierPattern(
                    kind=IdentifierKind(each["kind"]),
                    expression=_filled(each["expression"], words),
                    check=each.get("check", ""),
                )
                for each in data["pattern"]
            ]
        )

    def find(self, folded: FoldedText) -> Iterator[IdentifierSpan]:
        """Every identifier of the window."""
        yield from self._patterns.find(folded)


def _filled(expression: str, words: dict[str, str]) -> str:
    """The expression with each ``<word>`` replaced by what stands for it."""
    for name, value in words.items():
        expression = expression.replace(f"<{name}>", f"(?:{value})")
    return expression


def language_names() -> list[str]:
    """Languages that there is a data file for."""
    return sorted(each.name.removesuffix(".toml") for each in _FOLDER.iterdir() if each.name.endswith(".toml"))


@cache
def load_language(name: str) -> Language:
    """The language called `name`, read once."""
    if name not in language_names():
        raise MedwardError(f"language {name!r}: no data file; there are: {', '.join(language_names())}")
    return Language(name)
