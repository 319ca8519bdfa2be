"""Report enrichment: from reports that a victim wrote, others that say more, for a thief to ask towards.

A victim says much the same of all natural images. What it could say besides is known to anybody who knows the field:
other findings, in the victim's own words. ADA-STEAL has a language model rewrite reports with other findings and
anatomy; which model, and how it is prompted, we do not know. By default here a rule does it, which needs no weights and
gives the same for the same seed; `causal_oracle` has language models.

Reference: Shen et al., "Medical multimodal model stealing attacks via adversarial domain alignment" (ADA-STEAL),
AAAI 2025, arXiv 2502.02438 (the idea); the rules are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medward.guard.tasks.report import WrittenReport

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_OPENING = r"^(?:there (?:is|are) )?"
_NEGATION = re.compile(rf"{_OPENING}(?:no|without) (?:evidence of |sign of )?(?:a |an )?", re.IGNORECASE)
_STATEMENT = re.compile(rf"{_OPENING}(?:a |an )?", re.IGNORECASE)


class ReportOracle(Protocol):
    """A report oracle rewrites reports so that they say other things. Settings only: a frozen dataclass, with a field
    that tells it from all others, for kept runs.

    A text that it gives back as it was is not asked towards, so one that changes nothing makes a thief a plain one.
    """

    def enrich(self, reports: Sequence[str], seen: Sequence[str], task: WrittenReport, *, seed: int) -> list[str]:
        """A text for each of `reports`, which the victim wrote; `seen` are all that it wrote so far."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SameReports:
    """An oracle that changes nothing; the control of enrichment."""

    def enrich(self, reports: Sequence[str], seen: Sequence[str], task: WrittenReport, *, seed: int) -> list[str]:
        """`reports` as they are."""
        return list(reports)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recombination:
    """Recombination rewrites one to `most` findings of a report to say the opposite, chosen evenly over all findings.

    A finding that the report has is denied, and one that it denies or does not mention is brought in. The words are
    those of a sentence that the victim itself wrote, where it ever wrote one that says this and nothing else; else a
    negation is taken off or put on, or the finding's name is stated. A rewriting that does not read back as meant
    (`WrittenReport.said_in`) is dropped, so the text always says what was chosen, or what it said before.
    """

    most: int = 2

    def enrich(self, reports: Sequence[str], seen: Sequence[str], task: WrittenReport, *, seed: int) -> list[str]:
        """One rewriting of each report."""
        rng = np.random.default_rng(seed)
        phrases = single_sentences(seen, task)
        return [self._rewritten(report, phrases, task, rng) for report in reports]

    def _rewritten(
        self, report: str, phrases: dict[tuple[int, bool], list[str]], task: WrittenReport, rng: np.random.Generator
    ) -> str:
        text = report
        for place in rng.permutation(len(task.findings))[: rng.integers(1, self.most + 1)]:
            wanted = task.said_in(text)[place] == 0
            text = with_finding(text, int(place), wanted, phrases.get((int(place), wanted), []), task, rng)
        return text


def sentences_of(text: str) -> list[str]:
    """The sentences of a report, as they are."""
    return [each for each in _SENTENCE.split(text.strip()) if each]


def single_sentences(seen: Sequence[str], task: WrittenReport) -> dict[tuple[int, bool], list[str]]:
    """Of each finding, by its place and whether it is there or may be, the different sentences that speak of it alone.

    In the order of their first appearance.
    """
    found: dict[tuple[int, bool], list[str]] = {}
    for sentence in dict.fromkeys(each for text in seen for each in sentences_of(text)):
        if len(places := mentioned_places(sentence, task)) == 1:
            found.setdefault((places[0], task.said_in(sentence)[places[0]] > 0), []).append(sentence)
    return found


def mentioned_places(text: str, task: WrittenReport) -> list[int]:
    """The places of the findings whose words are in `text`, however it means them."""
    return [
        place
        for place, words in enumerate(task.words)
        if re.search(rf"\b(?:{words})(?!\w)", text, re.IGNORECASE) is not None
    ]


def with_finding(
    text: str, place: int, wanted: bool, phrases: Sequence[str], task: WrittenReport, rng: np.random.Generator
) -> str:
    """`text` with the finding at `place` said (`wanted`) or denied and all else as it was; `text` where no words do.

    Sentences about this finding alone are replaced by one of `phrases`, by what a negation taken off or put on makes of
    them, or by its name; where there is none, one is put behind the text.
    """
    sentences = sentences_of(text)
    alone = [at for at, each in enumerate(sentences) if mentioned_places(each, task) == [place]]
    others = [each for at, each in enumerate(sentences) if at not in alone]
    turned = [turned_sentence(sentences[at], wanted) for at in alone]
    chosen = [str(phrases[at]) for at in rng.permutation(len(phrases))]
    aim = np.array(task.said_in(text)) > 0
    aim[place] = wanted
    for sentence in filter(None, (*chosen, *turned, stated_finding(task.findings[place], wanted))):
        at = alone[0] if alone else len(others)
        made = " ".join([*others[:at], sentence, *others[at:]])
        if ((np.array(task.said_in(made)) > 0) == aim).all():
            return made
    return text


def turned_sentence(sentence: str, wanted: bool) -> str:
    """A sentence with its negation taken off where the finding is `wanted`, else with one put on; empty where there is
    no place for one.
    """
    bare = (_NEGATION if wanted else _STATEMENT).sub("", sentence)
    if wanted:
        return bare[:1].upper() + bare[1:]
    return "" if bare.lower().startswith("the ") else f"No {bare[:1].lower()}{bare[1:]}"


def stated_finding(finding: str, wanted: bool) -> str:
    """A plain sentence that a finding is there, or is not."""
    return f"There is {finding}." if wanted else f"No {finding}."


def composed_text(task: WrittenReport, found: NDArray[np.bool_]) -> str:
    """A plain report that says of each finding whether it is there ``(K,)``: what a thief writes who got no text."""
    return " ".join(stated_finding(name, bool(there)) for name, there in zip(task.findings, found, strict=True))
