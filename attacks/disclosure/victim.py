"""Victims: whoever is shown a patient's data, has a memory, and answers.

References: Chen et al., "Unveiling privacy risks in multi-modal large language models" (MM-Privacy), Findings of ACL
2025, for disclosure (of what is in the input) and retention (of what was trained on).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from medward.attacks.disclosure.disguise import Disguise
from medward.attacks.disclosure.framing import Framing
from medward.guard.types import Array

TextModel = Callable[[str, Array | None], str]
"""A model that writes: a prompt and an image ``(C, H, W)``, or None, in, a text out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a victim is shown in one request: a header, or what is read off an image, by kind of value; a text; an image
    ``(C, H, W)``.
    """

    header: Mapping[str, str] = field(default_factory=dict, repr=False)
    text: str = field(default="", repr=False)
    image: Array | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionTurn:
    """An extraction turn is one question: for which kind of value, in which framing, to be said in which disguise.

    `prompt` is what a model reads; a script reads the rest.
    """

    kind: str
    framing: Framing
    disguise: Disguise
    turn: int = 0

    @property
    def prompt(self) -> str:
        """The request in words."""
        wanted = self.framing.request.format(kind=self.kind)
        return f"{wanted} {self.disguise.request} {f'Part {self.turn + 1}.' if self.turn else ''}".strip()


class Victim(Protocol):
    """A victim answers asks about what it is shown and what it remembers."""

    def answer(self, shown: Shown, ask: ExtractionTurn) -> str:
        """Its answer to one turn; an empty one ends the conversation."""
        ...


@dataclass(frozen=True, slots=True)
class PromptedVictim:
    """A prompted victim is a model that reads header, text and question as one prompt, the image beside, and writes.

    Where it `reads_header` is false, the header is what only its filters know, and values stand in the image alone.
    """

    model: TextModel
    reads_header: bool = True

    def answer(self, shown: Shown, ask: ExtractionTurn) -> str:
        """What the model writes."""
        return self.model(self.prompt(shown, ask), shown.image)

    def prompt(self, shown: Shown, ask: ExtractionTurn) -> str:
        """All that it reads of one turn."""
        header = "\n".join(f"{kind}: {value}" for kind, value in shown.header.items()) if self.reads_header else ""
        return "\n\n".join(filter(None, (header, shown.text, ask.prompt)))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCaseVictim:
    """The worst-case victim says all that it was shown or learned, as it is asked to: no model can leak more.

    `memory` are values by kind, as a model that knows its training texts by heart would have them.
    """

    memory: Mapping[str, str] = field(default_factory=dict, repr=False)

    def answer(self, shown: Shown, ask: ExtractionTurn) -> str:
        """The value asked for, in the disguise and the framing asked for; of several turns the one asked for."""
        value = shown.header.get(ask.kind) or self.memory.get(ask.kind, "")
        turns: Sequence[str] = ask.disguise.encode(value) if value else ()
        if ask.turn >= len(turns):
            return ""
        return turns[ask.turn] if len(turns) > 1 else ask.framing.reply.format(kind=ask.kind, value=turns[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnorantVictim:
    """The ignorant victim answers as readily and was shown nothing: the control, of which nothing can be got."""

    def answer(self, shown: Shown, ask: ExtractionTurn) -> str:
        """The framing around words that follow from nothing."""
        turns = ask.disguise.encode("not stated here")
        if ask.turn >= len(turns):
            return ""
        return turns[ask.turn] if len(turns) > 1 else ask.framing.reply.format(kind=ask.kind, value=turns[0])
