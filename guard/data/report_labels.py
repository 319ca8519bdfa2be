"""Reports in the place of labels: the findings that they say, and what shows that they are no English prose.

The reader of reports knows English prose alone. A code ("pneumonia: 0") would be read as a finding that is there, a
denial in another language ("keine Pneumonie") too, and words that it does not know as nothing at all. So codes, and
another language, are refused where more than one text in ten has them; fewer are told. Where next to no text
mentions any finding that is told as well, and not refused: ordinary cases of a healthy population may read so. Of 3,927
reports of Indiana University none is taken for a code or another language, 12 % mention nothing that is known here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.tasks.multilabel import packed_findings
from medward.guard.tasks.report import WrittenReport
from medward.guard.tasks.report_reader import CHEST_TERMS, ReportReader, words_pattern
from medward.guard.types import Ints

MOST_CODED, MOST_FOREIGN, MOST_SILENT = 0.1, 0.1, 0.9
"""The shares of texts beyond which codes and another language are refused, and texts without a mention told."""
TABLE_REMEDY = "give the reports of radiologists in English, or a table of 0 and 1 with a column for each finding"
"""What to give instead, as labels."""
_log = logging.getLogger("medward.data")
_NO_TEXT = ("", "nan", "none", "null", "n/a", "na", "-", "?")  # what tables have for a report that is not there
_END = r"[\"']?\s*(?=$|[,;|/.)\]}\n]|[\"']?\w+[\"']?\s*[:=])(?!\.\d)"
_CODES_BEHIND = (  # what denies a finding behind its words, and is no English
    rf"(?:_\w+)?[\"']?\s*(?:[:=|(→]|=>)\s*[\"'(\[]?(?:0(?:\.0+)?|-1|-|false|unknown|n/?a|null|[nf]){_END}|"
    rf"[\"']\s*[:=]\s*[\"'](?:no|none|nil|neg(?:ative)?|absent|){_END}|"
    rf"_\w+\s*[:=]\s*(?:no|none|neg(?:ative)?|absent){_END}|"
    r"(?:\s*[,;]\s*|\s+|-)(?:(?:0|-1)\s*(?=$|[,;|\n]|\.(?:\s|$))(?!,\s*\d+\.\d)|-\s*$)"
)
_SCORE_BEHIND = r"[\"']?\s*[:=]\s*[01]?\.\d+(?!\d*\s*(?:[cm]m\b|x\b))"
_ENGLISH = re.compile(r"\b(?:the|of|is|are|was|were|and|with|without|there|has|which|this|or)\b")
_NEVER_ENGLISH = re.compile(
    r"\b(?:kein(?:e|en|er|es)?|ohne|nicht|sans|aucune?|pas d[e'’]|sin|ningún|ninguna?|senza|nessun[ao]?|sem|não|"
    r"geen|zonder|ingen|utan|uden|bez|ausente|assente|descartad[oa]|absence d[e'’]|"
    r"nein|(?:n[eé]gati|positi)(?:v|f|vo|va|v[oe]s|vas))\b"  # as an answer
)
_FOREIGN = tuple(
    re.compile(rf"\b(?:{words})\b")
    for words in (
        "und|der|das|mit|im",  # German
        "pas|les|une|avec|du|au",  # French
        "los|las|con|del|el",  # Spanish
        "della|del|il|con|di",  # Italian
        "dos|uma|da|em",  # Portuguese
        "het|een|niet|van",  # Dutch
        "inga|och|uten|ikke",  # Swedish, Danish, Norwegian
        "nie|yok|ve|ile|w",  # Polish, Turkish
    )
)
"""Words of other languages, of which two different ones of one language show it: English abbreviates to some."""
_CAPITALS = re.compile(r"\b[A-ZÀ-ÖØ-Þ]{2,}\b")  # abbreviations, unless all is in capitals
_OTHER_LETTERS = re.compile(r"[^\W\d_a-z\u00c0-\u024f\u0370-\u03ff]")  # neither Latin nor a Greek symbol


def reported_sets(texts: NDArray[np.str_], task: WrittenReport, what: str) -> Ints:
    """The findings ``(n,)``, as bits, that reports say are there or may be, each report read once.

    Raises `MedwardError` for what is no report, for codes, for another language, and where no text says any.
    """
    known, which = np.unique(texts, return_inverse=True)
    if empty := [str(each) for each in known if str(each).strip().lower() in _NO_TEXT]:
        raise MedwardError(f"{what}: {empty[0]!r} is no report; leave such rows out, or they would count as normal")
    check_prose(texts, task, what)
    sets = packed_findings(task.found(np.array([task.said_in(str(each)) for each in known])))
    if not sets.any():
        raise MedwardError(
            f"{what}: no text of {len(known)} says that any of {', '.join(task.findings)} is there or may be; "
            f"{TABLE_REMEDY}"
        )
    return sets[which.reshape(-1)]


def check_prose(
    texts: Sequence[str] | NDArray[np.str_], task: WrittenReport, what: str, remedy: str = TABLE_REMEDY
) -> None:
    """Refuse `texts` of which too many deny findings by codes, or are in another language."""
    said = [str(each) for each in texts]
    coded = [each for each in said if is_coded(each, task)]
    if len(coded) > MOST_CODED * len(said):
        raise MedwardError(
            f"{what}: {len(coded)} of {len(said)} texts deny findings by codes ({coded[0]!r:.60}), which would be read "
            f"as there; {remedy}"
        )
    foreign = [each for each in said if is_foreign(each)]
    if len(foreign) > MOST_FOREIGN * len(said):
        raise MedwardError(
            f"{what}: {len(foreign)} of {len(said)} texts are in another language than English ({foreign[0]!r:.60}), "
            f"of which neither words nor denials are known; {remedy}"
        )


def tell_odd_reports(texts: Sequence[str] | NDArray[np.str_], task: WrittenReport, what: str) -> None:
    """Warn of the few `texts` with codes or in another language, and where next to none mentions or denies a finding.

    Known are the words that the task has and those of the usual findings.
    """
    own = zip((f"named {each}" for each in task.findings), task.words, strict=True)
    reader = ReportReader({**dict(own), **CHEST_TERMS})
    if foreign := sum(is_foreign(str(each)) for each in texts):
        _log.warning(
            "%s: %d of %d texts are in another language than English and are misread; leave such rows out",
            what,
            foreign,
            len(texts),
        )
    if coded := sum(is_coded(str(each), task) for each in texts):
        _log.warning(
            "%s: %d of %d texts deny findings by codes and are read as if these were there; write them out "
            "(no effusion), or leave such rows out",
            what,
            coded,
            len(texts),
        )
    silent = sum(not reader.read(str(each)) for each in texts)
    if silent > MOST_SILENT * len(texts):
        _log.warning(
            "%s: %d of %d texts mention no finding that is known here, and so are read as normal; where they are not, "
            "say the words of each finding, WrittenReport(findings=..., words=...), or give a table of 0 and 1",
            what,
            silent,
            len(texts),
        )


def is_coded(text: str, task: WrittenReport) -> bool:
    """Whether a text denies a finding of `task` by a code, or gives scores to two or more of them."""
    small = text.lower()
    if any(words_pattern(words, f"(?:{_CODES_BEHIND})").search(small) for words in task.words):
        return True
    return sum(bool(words_pattern(words, _SCORE_BEHIND).search(small)) for words in task.words) > 1


def is_foreign(text: str) -> bool:
    """Whether a text is plainly not in English: in other letters, or in words of another language and none of it.

    One word is enough where no English report has it, else two of one language. Single words in capitals do not count.
    """
    letters = sum(map(str.isalpha, text))
    if letters and len(_OTHER_LETTERS.findall(text.lower())) > letters / 2:
        return True
    small = (text if text.isupper() else _CAPITALS.sub(" ", text)).lower()
    if _ENGLISH.search(text.lower()):
        return False
    return bool(_NEVER_ENGLISH.search(small)) or any(len(set(each.findall(small))) > 1 for each in _FOREIGN)
