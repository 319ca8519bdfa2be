"""Phrases of real chest reports: sentences that say one thing, their place taken out, so that any image may have them.

Read at run time from the Indiana University reports, whose licence (CC BY-NC-ND 4.0) lets nobody pass on what is made
of them: no phrase of theirs stands in this repository, and what is mined stays on the machine that mined it.

A sentence is taken if `ReportReader` finds exactly one finding in it, or none and words for a normal part; if it names
nothing that one image cannot show (earlier studies, other views, devices, numbers, who to ask), and nothing that its
statement does not say: how large, how sure besides, what else. Where a sentence says at which place, a slot is left.

Reference: Demner-Fushman et al., "Preparing a collection of radiology examinations for distribution and retrieval",
Journal of the American Medical Informatics Association 2016 (the reports).
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

from medward.attacks.benchmarks.base import data_root
from medward.attacks.benchmarks.reports.facts import NormalPart
from medward.attacks.benchmarks.reports.phrases import (
    CHEST_READER,
    FindingStatement,
    PhraseBank,
    Statement,
    reads_back,
    unlike_phrases,
)
from medward.guard.errors import MedwardError

REPORTS_FILE = "iu_xray_reports/NLMCXR_reports.tgz"
REPORTS_DIGEST = "8fb6de7eec73d8c3665067ad4bb003ccd57f971ae316d2642e1627ac7268667a"
REPORTS_REMEDY = (
    "NLMCXR_reports.tgz is to be had from Open-i of the National Library of Medicine, openi.nlm.nih.gov/faq"
)
FEWEST = 4
"""Phrases that a statement needs for banks for training and for test; where fewer are mined, our own are added."""
_MOST = 24  # phrases of one statement: "no pleural effusion" has hundreds
_WORDS = (2, 14)  # of a sentence

_ELSEWHERE = re.compile(
    r"xxxx|[\d{}?/()\"]|unchanged|stable|compar|prior|previous|interval|again|since|\bnew|improv|increas|decreas|"
    r"worsen|lateral view|lateral film|views?\b|tubes?\b|\bline\b|lines\b|catheter|clip|surg|pacemaker|device|"
    r"sternotomy|resol|chang|remain|exam|study|radiograph|film|continu|persist|residual|\bold\b|chronic|correlat|recommend|clinical|"
    r"differential|possibility|consider|\bct\b|follow|\bif\b|would|better|sensitiv|limited|patient|history|"
    r"develop|addition|however|specifically|this|these|overall|otherwise|status post|due to|secondary|related|"
    r"given|metasta|\balso\b|\bnow\b|infecti|pancreat|cancer|another|before|worrisome|\bnumber|preoperative|\b[cm]m\b|"
    r"\bsized?\b(?! is| no| w)|\bexclude\b|\bknee|fissure|\b(\w+) \1\b"
)
_BESIDE = re.compile(
    r"scar|adenopath|degenerat|calcif|tortuous|ectatic|hyper|hypo|volumes?\b|hemidiaphragm|crowding|atherosc|spine|"
    r"spinal|thoracic|scoli|osteo|vascular|hil(?:um|ar)|aort|mediastin|bon[ey]|osseous|skelet|soft tissue|"
    r"air collection|dislocat|cavit|\bnormal|\bclear\b|unremarkable|subcutaneous|axillary|splenic|top normal"
)
_DEGREE = re.compile(
    r"\b(?:an?|some|very)? ?(?:small|large|tiny|mild(?:ly)?|moderate(?:ly)?|severe(?:ly)?|minimal(?:ly)?|slight(?:ly)?|"
    r"extensive|prominent|patchy|trace|subtle|significant(?:ly)?)(?: amounts?(?: of)?)? "
)
_SIDE = r"(?:left|right|bilateral|both|bibasilar|bibasal|biapical)"
_PART = (
    r"(?:upper|middle|mid|lower|basilar|basal|base|bases|apical|apex|apices|lobes?|lungs?|zones?|midlung|lingular?|"
    r"hemithorax|sided|retrocardiac|perihilar|posterior|anterior|medial|lateral|central)"
)
_WHERE = re.compile(
    rf",? (?:in|within|at|over|involving|on|of) (?:the )?(?:{_SIDE}|{_PART})(?:[ -](?:{_SIDE}|{_PART}))*\b"
)
_PLACE = re.compile(rf"\b(?:{_SIDE}|{_PART})(?:[ -](?:{_SIDE}|{_PART}))* ")
_LEFT_OVER = re.compile(
    rf"\b(?:{_SIDE}|bilaterally|upper|lower|lobe|base|bases|apex|lingula|retrocardiac|biapical|\w*basilar)\b|"
    r"\b(?:in|to|the|this) \{place\}|\{place\}(?:are|is|lung|chest|atrial)\b|\{where\} \w|  "
)
_NORMAL: Mapping[NormalPart, re.Pattern[str]] = {
    "lungs normal": re.compile(
        r"(?=.*\blungs?\b)(?=.*\b(?:clear|normal|unremarkable)\b)(?!.*(?:heart|card|pleura|left|right|not))"
    ),
    "heart normal": re.compile(
        r"(?=.*\b(?:heart|cardiac)\b)(?=.*\b(?:normal|unremarkable)\b)(?!.*(?:lung|pulmon|pleura|mediast|top|upper))"
    ),
    "nothing acute": re.compile(
        r"no (?:evidence of )?(?:acute|active) (?:\w+ ){0,2}(?:disease|process|abnormalit|finding)"
    ),
}
_NUMBERED = re.compile(r"^(?:\d+\.?\s*)+")


def mined_phrase_bank(bank: PhraseBank, root: Path | None = None) -> PhraseBank:
    """Phrases of the Indiana University reports for every finding and normal part of `bank`.

    Where fewer than `FEWEST` are found, and for views and ages, of which those reports do not speak, `bank`'s are
    added. Raises `MedwardError` where the reports are missing or are not those that are known.
    """
    mined: dict[Statement, list[str]] = {statement: [] for statement in bank.phrases}
    for statement, phrase in _phrases_of(data_root(root)):
        if statement in mined:
            mined[statement].append(phrase)
    found = {statement: unlike_phrases(phrases)[:_MOST] for statement, phrases in mined.items()}
    both = {
        statement: phrases if len(phrases) >= FEWEST else unlike_phrases([*phrases, *bank.phrases[statement]])
        for statement, phrases in found.items()
    }
    made = PhraseBank(both)
    made.check()
    return made


def report_sentences(texts: Iterable[str]) -> Iterator[str]:
    """The sentences of reports in small letters, without numbers of items and full stops."""
    for text in texts:
        for part in re.split(r"(?<=[.;])\s+", " ".join(text.split())):
            if sentence := _NUMBERED.sub("", part).strip(" .;:,").lower():
                yield sentence


def read_report_texts(root: Path | None = None) -> list[str]:
    """Findings and impression of every Indiana University report, one text a patient, by the names of their files."""
    archive = data_root(root) / REPORTS_FILE
    if not archive.is_file():
        raise MedwardError(f"{archive} is missing: {REPORTS_REMEDY} (the folder is set by MEDWARD_DATA)")
    content = archive.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != REPORTS_DIGEST:
        raise MedwardError(f"{archive} has SHA-256 {found}, expected {REPORTS_DIGEST}; {REPORTS_REMEDY}")
    texts = []
    with tarfile.open(fileobj=io.BytesIO(content)) as files:
        for member in sorted(files.getmembers(), key=lambda each: each.name):
            if member.name.endswith(".xml") and (file := files.extractfile(member)) is not None:
                report = ElementTree.parse(file)  # noqa: S314 - the archive is the one that is known
                parts = {each.get("Label"): each.text for each in report.iter("AbstractText")}
                texts.append(" ".join(filter(None, (parts.get("FINDINGS"), parts.get("IMPRESSION")))))
    return texts


@lru_cache(1)
def _phrases_of(root: Path) -> tuple[tuple[Statement, str], ...]:
    """All phrases of the reports under `root` that read back, with what they say, in the order of the reports."""
    said = chain.from_iterable(map(_phrase_of, report_sentences(read_report_texts(root))))
    return tuple((statement, phrase) for statement, phrase in dict.fromkeys(said) if reads_back(phrase, statement))


def _phrase_of(sentence: str) -> Iterator[tuple[Statement, str]]:
    """The statement that a sentence makes and its phrase, if it makes exactly one and nothing besides."""
    if _ELSEWHERE.search(sentence) or not _WORDS[0] <= len(sentence.split()) <= _WORDS[1]:
        return
    read = CHEST_READER.read(sentence)
    if not read:
        parts = [part for part, words in _NORMAL.items() if words.match(sentence)]
        if len(parts) == 1 and not _BESIDE.search(re.sub(r"\b(?:normal|clear|unremarkable)\b", "", sentence)):
            yield parts[0], sentence
    elif len(read) == 1 and not _BESIDE.search(sentence):
        ((finding, meant),) = read.items()
        plain = " ".join(_DEGREE.sub(" ", f" {sentence}").split())
        phrase = _PLACE.sub("{place}", _WHERE.sub("{where}", plain, count=1), count=0 if "{where}" in plain else 1)
        if phrase.count("{") <= 1 and not _LEFT_OVER.search(phrase):
            yield FindingStatement(finding, meant), phrase
