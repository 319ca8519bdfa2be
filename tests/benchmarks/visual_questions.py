"""Short answers about held-out reports: conversations in which a site asks for one finding after the other.

Made out of the reports themselves, in their order and in their words, so that answers one after the other read as
much like a report as honest ones can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import numpy as np

from medward.guard.release.fragments import FRAGMENT

PATIENTS = 5
"""Patients, one report each, about whom one conversation is."""
TEMPLATE = (
    ("Heart normal.", "Heart large."),
    ("Lungs clear.", "Lungs low."),
    ("No effusion.", "Effusion."),
    ("Bones intact.", "Old fracture."),
    ("No mass.", "Small nodule."),
    *[("Negative.", "Positive.")] * 5,
)
"""Lines with which every report of a made-up site begins: as nearly all patients have them, and as some do."""
ABNORMAL = 0.1
"""The share of lines of the template that say the other."""
_FINDING = re.compile(
    r"pneumothora|effusion|consolidation|opaci|edema|cardiomegaly|infiltrate|pneumonia|atelecta|nodul|mass\b|fracture"
    r"|emphysema|hernia|granuloma|scoliosis|degenerative|scar|congestion"
)
_NEGATED = re.compile(r"\b(?:no|not|without|negative for|free of)\b")
_WORD = re.compile(
    r"\b(?:normal|clear|unremarkable|stable|unchanged|intact|enlarged|tortuous|midline|low|mild|moderate|severe|small"
    r"|large|right|left|bilateral|calcified|degenerative|hyperinflated|negative)\b"
)
_ITEM = re.compile(r",\s*(?:or|and)?\s+|\s+(?:or|and)\s+")


def yes_or_no(sentence: str) -> list[str]:
    """Is it there? For each finding that a sentence names."""
    lower = sentence.lower()
    return ["No." if _NEGATED.search(lower[: found.start()]) else "Yes." for found in _FINDING.finditer(lower)]


def one_word(sentence: str) -> list[str]:
    """How is it? The first word of a sentence that says so, or None."""
    found = _WORD.search(sentence.lower())
    if found:
        return [f"{found[0].capitalize()}."]
    return ["None."] if _NEGATED.search(sentence.lower()) else []


def short_phrases(sentence: str) -> list[str]:
    """What is there? A short sentence as it stands, each item that another one denies, or what it says of a thing."""
    if _letters(sentence) <= FRAGMENT:
        return [sentence]
    if sentence.lower().startswith("no "):
        items = [f"No {item}." for item in _ITEM.split(sentence[3:].rstrip("."))]
    else:
        items = [f"{said.strip().capitalize()}." for said in re.split(r"\b(?:is|are)\b", sentence.rstrip("."))[1:2]]
    return [item for item in items if 0 < _letters(item) <= FRAGMENT]


STYLES: Mapping[str, Callable[[str], list[str]]] = {
    "yes or no": yes_or_no,
    "one word": one_word,
    "short phrases": short_phrases,
}
"""What a site asks, by name: what is answered to it of one sentence."""


def short_conversations(reports: Sequence[str], *, seed: int) -> dict[str, list[list[str]]]:
    """Conversations by style, each about so many reports, sentence by sentence; `mixed` draws a style for each."""
    rng = np.random.default_rng(seed)
    names = list(STYLES)
    found: dict[str, list[list[str]]] = {name: [] for name in (*names, "mixed")}
    for start in range(0, len(reports) - PATIENTS + 1, PATIENTS):
        sentences = [each for report in reports[start : start + PATIENTS] for each in _sentences(report)]
        for name in names:
            found[name].append(list(chain.from_iterable(map(STYLES[name], sentences))))
        drawn = [STYLES[names[place]] for place in rng.integers(len(names), size=len(sentences))]
        found["mixed"].append([answer for ask, each in zip(drawn, sentences, strict=True) for answer in ask(each)])
    return found


def template_lines(patients: int, *, seed: int) -> list[list[str]]:
    """The lines of the template for each patient, each a short answer, drawn by chance."""
    drawn = np.random.default_rng(seed).random((patients, len(TEMPLATE))) < ABNORMAL
    return [[both[int(other)] for both, other in zip(TEMPLATE, row, strict=True)] for row in drawn]


def _sentences(report: str) -> list[str]:
    parts = (re.sub(r"^(?:\d\.?\s+)+", "", each.strip()) for each in re.split(r"(?<=[.;])\s+", report))
    return [each for each in parts if re.search(r"[A-Za-z]{2}", each)]


def _letters(text: str) -> int:
    return len(re.sub(r"[\W_]", "", text))
