"""Phrases that reports are put together from: for each thing that can be said, the ways in which it is said.

A statement is what a phrase says: a finding and how it is meant, a view, an age group, or that a part looks normal. A
radiologist has habits, so an `Author` says each in one way of his own, and a report is in one author's words. Banks for
training and for test share no phrase, whatever the author: a report that only repeats training's words scores low there
by BLEU, though it may find all that is there.

A phrase is in small letters and without a full stop. It may have one slot for a place: ``{place}`` before a noun, as
"left lower ", or ``{where}`` behind it, as " in the left lower lung zone"; both are empty where no place is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medward.attacks.benchmarks.reports.facts import AgeGroup, ImageFacts, NormalPart, Place, View
from medward.guard.errors import MedwardError
from medward.guard.tasks.report_reader import CHEST_TERMS, Mention, ReportReader

CHEST_READER = ReportReader(CHEST_TERMS)


@dataclass(frozen=True, slots=True)
class FindingStatement:
    """A statement about a finding says that it is there, may be there, or is not."""

    finding: str
    meant: Mention


Statement = FindingStatement | View | AgeGroup | NormalPart
"""What a phrase says."""


@dataclass(frozen=True, slots=True)
class PhraseBank:
    """A phrase bank holds for each statement its phrases, each once and in a fixed order."""

    phrases: Mapping[Statement, tuple[str, ...]]

    def check(self) -> None:
        """Refuse phrases that do not read back as their statement, with a place or without, and statements without."""
        for statement, phrases in self.phrases.items():
            if not phrases:
                raise MedwardError(f"phrases: none says {statement}; give at least one")
            for phrase in phrases:
                if not reads_back(phrase, statement):
                    raise MedwardError(f"phrases: {phrase!r} does not read as {statement}; leave it out")

    def halves(self, seed: int, share: float = 2 / 3) -> tuple[PhraseBank, PhraseBank]:
        """The bank cut by chance into two that share no phrase, the first with about `share` of each statement's."""
        first: dict[Statement, tuple[str, ...]] = {}
        second: dict[Statement, tuple[str, ...]] = {}
        for place, (statement, phrases) in enumerate(self.phrases.items()):
            if len(phrases) < 2:
                raise MedwardError(f"phrases: one says {statement}, and two banks need one each; give another")
            order = np.random.default_rng([seed, place]).permutation(len(phrases))
            cut = min(max(1, round(share * len(phrases))), len(phrases) - 1)
            first[statement] = tuple(phrases[at] for at in sorted(order[:cut]))
            second[statement] = tuple(phrases[at] for at in sorted(order[cut:]))
        return PhraseBank(first), PhraseBank(second)

    def authors(self, count: int, seed: int) -> tuple[Author, ...]:
        """Authors, each with one phrase for every statement, which are dealt round, so that few authors share one."""
        draws = np.random.default_rng(seed)
        dealt = {statement: draws.permutation(len(phrases)) for statement, phrases in self.phrases.items()}
        return tuple(
            Author({key: phrases[dealt[key][at % len(phrases)]] for key, phrases in self.phrases.items()})
            for at in range(count)
        )


@dataclass(frozen=True, slots=True)
class Author:
    """An author says every statement in one phrase."""

    phrases: Mapping[Statement, str]

    def report(self, facts: ImageFacts) -> str:
        """The report of an image, in sentences: view and age, findings in their order, and what looks normal.

        Reading it gives the facts' findings and nothing else. Raises `MedwardError` for what has no phrase, and where
        the reader finds anything but the facts.
        """
        said = [self._sentence(each) for each in (facts.view, facts.age) if each is not None]
        for name, meant in facts.findings.items():
            said.append(self._sentence(FindingStatement(name, meant), facts.places.get(name)))
        said += [self._sentence(each) for each in facts.normal]
        text = " ".join(said)
        if (read := CHEST_READER.read(text)) != dict(facts.findings):
            raise MedwardError(f"report: reads as {read} and was to say {dict(facts.findings)}: {text!r}")
        return text

    def _sentence(self, statement: Statement, place: Place | None = None) -> str:
        if statement not in self.phrases:
            raise MedwardError(f"report: the author has no phrase for {statement}; add it to the bank")
        return written_phrase(self.phrases[statement], place)


def written_phrase(phrase: str, place: Place | None) -> str:
    """A phrase as a sentence, with its slot for a place filled, or closed where none is known."""
    said = phrase.format(place=_before(place), where=_behind(place)).strip()
    return f"{said[0].upper()}{said[1:]}."


def reads_back(phrase: str, statement: Statement) -> bool:
    """Whether a phrase reads as its finding and as nothing else, wherever the place, or, of no finding, as none."""
    wanted = {statement.finding: statement.meant} if isinstance(statement, FindingStatement) else {}
    places = (None, Place("left", "lower"), Place("bilateral")) if "{" in phrase else (None,)
    return all(CHEST_READER.read(written_phrase(phrase, place)) == wanted for place in places)


def unlike_phrases(phrases: Sequence[str]) -> tuple[str, ...]:
    """Phrases that differ by more than articles, punctuation and a place; the first of those that do not."""
    found: dict[str, str] = {}
    for phrase in phrases:
        found.setdefault(_PLAIN.sub(" ", phrase).strip(), phrase)
    return tuple(found.values())


_PLAIN = re.compile(r"(?:\{\w+\}|\b(?:the|a|an)\b|[^a-z{}])+")


def _before(place: Place | None) -> str:
    if place is None:
        return ""
    return f"{place.side} {place.zone} " if place.zone else f"{place.side} "


def _behind(place: Place | None) -> str:
    if place is None:
        return ""
    if place.side == "bilateral":
        return f" in both {place.zone} lung zones" if place.zone else " in both lungs"
    return f" in the {place.side} {place.zone} lung zone" if place.zone else f" in the {place.side} lung"
