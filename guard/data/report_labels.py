"""Reports in the place of labels: the findings that they say, and what shows that they are no English prose.

The reader of reports knows English prose alone. A code ("pneumonia: 0") would be read as a finding that is there, a
denial in another language ("keine Pneumonie") too, and words that it does not know as nothing at all. So such codes
are refused, and another language where more than one text in ten is in it; fewer are told. Where next to no text
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
from medward.guard.tasks.report_reader import CHEST_TERMS, ReportReader
from medward.guard.types import Ints

MOST_FOREIGN, MOST_SILENT = 0.1, 0.9
"""The share of texts in another language beyond which they are refused, and of those without a mention that is told."""
TABLE_REMEDY = "give the reports of radiologists in English, or a table of 0 and 1 with a column for each finding"
"""What to give instead, as labels."""
_log = logging.getLogger("medward.data")
_NO_TEXT = ("", "nan", "none", "null", "n/a", "na", "-", "?")  # what tables have for a report that is not there
_DENIED = (  # behind the words of a finding
    r"[\"']?\s*[:=]\s*[\"']?(?:0(?:\.\d+)?|-1|no|none|nil|false|neg(?:ative)?|absent|unknown|[nf])[\"']?"
    r"\s*(?=$|[,;|.}\n])"
)
_ENGLISH = re.compile(r"\b(?:the|of|is|are|was|were|and|with|without|there|has|which|this|or)\b")
_FOREIGN = re.compile(
    r"\b(?:kein(?:e|en|er|es)?|ohne|und|nicht|der|das|mit|"  # German
    r"pas|sans|aucune?|les|une|avec|"  # French
    r"sin|los|las|ningún|con|"  # Spanish
    r"senza|nessuna?|della|il|"  # Italian
    r"sem|não|dos|uma|"  # Portuguese
    r"geen|zonder|het|een|"  # Dutch
    r"ingen|inga|utan|uden|uten|och|"  # Swedish, Danish, Norwegian
    r"bez|nie|yok|ve|ile)\b"  # Polish, Czech, Turkish
)
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
    """Refuse `texts` in which findings are denied by codes, and those of which too many are in another language."""
    said = [str(each) for each in texts]
    words = re.compile(rf"\b(?:{'|'.join([*task.words, *CHEST_TERMS.values()])}){_DENIED}")
    if coded := [each for each in said if words.search(each.lower())]:
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
    """Warn of the few `texts` in another language, and where next to none mentions, or denies, any finding.

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
    silent = sum(not reader.read(str(each)) for each in texts)
    if silent > MOST_SILENT * len(texts):
        _log.warning(
            "%s: %d of %d texts mention no finding that is known here, and so are read as normal; where they are not, "
            "say the words of each finding, WrittenReport(findings=..., words=...), or give a table of 0 and 1",
            what,
            silent,
            len(texts),
        )


def is_foreign(text: str) -> bool:
    """Whether a text is plainly not in English: in other letters, or with words of other languages and none of it."""
    small = text.lower()
    letters = sum(map(str.isalpha, small))
    if letters and len(_OTHER_LETTERS.findall(small)) > letters / 2:
        return True
    return bool(_FOREIGN.search(small)) and not _ENGLISH.search(small)
