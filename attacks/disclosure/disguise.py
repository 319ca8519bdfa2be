"""What a disguise is: a form in which a value leaves, and how whoever asked for it reads it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Disguise:
    """A disguise is a form in which a value is said, in one turn or several, past what looks for its plain form.

    `encode` gives the turns; `decode` reads all answers, framing and redactions included, and gives one or more lines,
    in which the value stands unless it was taken out. `source` is where it was described.
    """

    request: str
    encode: Callable[[str], Sequence[str]]
    decode: Callable[[Sequence[str]], str]
    source: str

    @property
    def in_turns(self) -> bool:
        """Whether a value is said piece by piece, one a turn."""
        return len(self.encode("two words")) > 1
