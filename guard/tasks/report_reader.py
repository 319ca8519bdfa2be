"""Reading a chest report: which findings it says are there, may be there, or are not.

A report is cut into clauses, at the ends of sentences, between items and paragraphs and before words that turn a
sentence; a line that is merely broken goes on. In each the words of a finding are looked for, and cues around them say
how they are meant: "no", "without" and their like hold from where they stand to the end of the clause or to a word that
turns it, "has resolved" and "not seen" hold for what stands before, and so does an answer ("effusion: none", "mass?
No"). What is said twice counts as the stronger: there, then may be there, then not.

Reference: Chapman, Bridewell, Hanbury, Cooper, Buchanan, "A simple algorithm for identifying negated findings and
diseases in discharge summaries", Journal of Biomedical Informatics 2001 (scopes of negation); Irvin et al., "CheXpert",
AAAI 2019, sec. 3 (mention, then its classification, then the strongest over a report).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from medward.guard.errors import MedwardError


class Mention(IntEnum):
    """How a report means a finding that it mentions; the larger counts where it mentions it more than once."""

    ABSENT = 0
    UNCERTAIN = 1
    PRESENT = 2


CHEST_TERMS: Mapping[str, str] = {
    "atelectasis": r"atelecta\w+|(?:lobar|lung|lobe|segmental) collapse|collapsed lung|volume loss|loss of volume",
    "cardiomegaly": (
        r"cardiomegaly|cardiac (?:enlargement|silhouette enlargement)|(?:enlarged|enlargement of the|prominent) "
        r"(?:heart|cardiac|cardiomediastinal|cardiopericardial)\b|"
        r"(?:heart|cardiac|cardiomediastinal|cardiopericardial)(?: \w+){0,6}? (?:enlarged|enlargement|prominent)|"
        r"heart (?:size )?is (?:\w+ )?large|"
        r"(?:increase\w*|enlarge\w*) (?:in )?(?:the )?(?:size of the )?(?:heart|cardiac)"
    ),
    "consolidation": r"consolidat\w+",
    "edema": (
        r"o?edema|(?:vascular|venous|pulmonary|interstitial) (?:vascular )?congestion|(?:heart|cardiac) failure|chf|"
        r"(?:prominen\w+|engorge\w+) (?:of )?(?:the )?(?:\w+ )?(?:pulmonary )?(?:vasculature|vascularity)|"
        r"(?:vascular|venous) (?:prominence|engorgement|hypertension)"
    ),
    "effusion": (
        r"(?<!pericardial )effusions?|pleural fluid|hydrothorax|"
        r"blunt\w+ of (?:the |both )?(?:\w+ ){0,3}?(?:costophrenic|cp|sulc\w+)|"
        r"(?:costophrenic|cp) (?:angles?|sulc\w+)(?: \w+){0,3}? blunt\w+"
    ),
    "emphysema": r"emphysema\w*|copd|chronic obstructive|bullous disease|bullae?",
    "fibrosis": r"fibrosis|fibrotic|fibroses|interstitial lung disease",
    "fracture": r"fractur\w+",
    "granuloma": r"granuloma\w*",
    "hernia": r"hernias?",
    "infiltration": r"infiltrat\w+",
    "mass": r"mass(?:es)?(?! effect)",
    "nodule": r"nodul\w+",
    "opacity": r"opaci\w+|air ?space (?:disease|process)\w*|densit\w+|haz(?:e|y|iness)",
    "pleural thickening": r"(?:pleural|apical|pleuroparenchymal|biapical) (?:\w+ ){0,2}?(?:thickening|scarring|caps?)",
    "pneumonia": r"pneumoni\w+|bronchopneumonia",
    "pneumothorax": r"(?:hydro)?pneumothora\w+",
}
"""The usual findings of chest radiographs, and the words for each."""

_NOT_BEFORE = (
    r"no|not|without|w/o|negative for|free of|clear of|absence of|absent|denies|deny|neither|nor|never|rather than|"
    r"resolution of|resolved|exclude[ds]?|rules? out|ruled out|lack of|unremarkable for|interval clearing of|"
    r"removal of|(?:fails?|failed) to (?:show|demonstrate)|(?:evaluation|assessment) (?:for|of)"
)
_NOT_BEHIND = (
    r"(?:is|are|was|were|has been|have been|is no longer|are no longer)? ?(?:not|no longer) "
    r"(?:\w+ ){0,2}?(?:seen|identified|present|visuali[sz]ed|evident|appreciated|demonstrated|noted|detected|enlarged)|"
    r"(?:has|have|is|are|now) (?:\w+ )?(?:resolved|cleared|disappeared)|(?:is|are) (?:absent|excluded|ruled out)|"
    r"unlikely|(?:is|are) (?:normal|within normal limits|unremarkable)"
)
_MAYBE_BEFORE = (
    r"possib\w+|may|might|could|cannot|can not|can't|suspect\w*|suspicious|suggest\w*|question\w*|concern\w*|"
    r"probabl\w*|likely|versus|vs|potential\w*|presum\w+|equivocal|indeterminate|differential|consider\w*|worrisome|"
    r"consistent with|compatible with|borderline|upper limits?|in the (?:appropriate|proper) clinical|history of|"
    r"rule out|r/o|or"
)
_NOT_EXCLUDED = (
    r"(?:cannot|can not|can't|could not|couldn't|not|unable to|(?:difficult|hard|impossible) to) (?:\w+ )?"
    r"(?:exclude|rule out)"
)
_MAYBE_BEHIND = (
    r"(?:is|are) (?:possible|suspected|questionable|considered|likely|probable|difficult to exclude)|"
    r"(?:cannot|can not|could not|not) (?:be )?(?:\w+ )?excluded|versus|vs"
)
_TURNS = (
    r"but|however|although|though|except|aside from|apart from|other than|yet|which|with|while|whereas|"
    r"and there (?:is|are)"
)
_NOT_WITHIN = r"not|no longer|without"
_ANSWER_ALONE = (  # all that is said, or another question follows
    r"(?:none|nil|no|neg(?:ative)?|excluded|ruled[ -]out|no (?:evidence|signs?))"
    r"(?=[ \t]*(?:$|[.,;|/)\n]|\w+[ \t]?[:=?]))"
)
_ANSWER = (
    rf"(?:{_ANSWER_ALONE}|(?:absent|unlikely)\b|(?:none|not|no longer) (?:\w+ )?"
    r"(?:seen|identified|present|visuali[sz]ed|evident|appreciated|demonstrated|noted|detected)\b)"
)
_ANSWERED_ALONE = re.compile(rf"(?:[:=?(]|\s[-–—])\s*{_ANSWER_ALONE}")
_ANSWERED_BEHIND = re.compile(
    rf"(?: (?:left|right|bilateral)| ?(?:or|and|/) ?[\w ]{{1,30}})?"
    rf"(?: ?[:=?(] ?| [-–—] ?| (?=(?:absent|negative|ruled[ -]out|no|none)$)){_ANSWER}"
)
_CUT = re.compile(
    rf"(?<=[.;!])\s+|(?<=[:?])\s+(?!\s|{_ANSWER})|\n\s*\n|"
    r"\n(?=\s*(?:[-*•]|\d+[.)]|[a-z ]{3,30}:))|"
    r"(?<=\w),? (?=(?:but|however|although|though|except|while|whereas)\b)|, and (?=there\b)"
)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class ReportReader:
    """A report reader finds what `terms` (finding to the pattern of its words) a text mentions, and how it means them.

    Raises `MedwardError` for terms that are no pattern.
    """

    terms: Mapping[str, str]

    def __post_init__(self) -> None:
        for name, words in self.terms.items():
            try:
                re.compile(words)
                words_pattern(words)
            except re.error as error:
                raise MedwardError(
                    f"terms: the words of {name!r} are no pattern within a text in small letters: {error}; "
                    "leave flags such as (?i) out"
                ) from None

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings, in order."""
        return tuple(self.terms)

    def read(self, text: str) -> dict[str, Mention]:
        """The findings that `text` mentions, each as the strongest mention means it."""
        found: dict[str, Mention] = {}
        for clause in clauses(text):
            for name, words in self.terms.items():
                for match in words_pattern(words).finditer(clause):
                    meant = meant_in(clause, match.start(), match.end())
                    found[name] = max(meant, found.get(name, meant))
        return found

    def present(self, text: str) -> tuple[bool, ...]:
        """Of each finding, in order, whether `text` says that it is there or may be there."""
        found = self.read(text)
        return tuple(found.get(name, Mention.ABSENT) > Mention.ABSENT for name in self.terms)


def words_pattern(words: str, behind: str = r"(?!\w)") -> re.Pattern[str]:
    """The `words` of a finding as a whole, with what must stand `behind` them; each pattern is compiled alone.

    Capitals in `words` stand for small letters, too, as texts are read in these.
    """
    return re.compile(rf"\b(?:{words}){behind}", re.IGNORECASE)


def clauses(text: str) -> Iterator[str]:
    """The clauses of a text, in small letters and with single spaces: negation does not reach out of one."""
    for part in _CUT.split(_ANSWERED_ALONE.sub(r"\g<0>\n\n", text.lower())):
        if clause := _SPACE.sub(" ", part).strip(" .;:,"):
            yield clause


def meant_in(clause: str, start: int, end: int) -> Mention:
    """How the words from `start` to `end` of a clause are meant, by the cues before, within and behind them."""
    before, behind = clause[:start], clause[end:]
    if re.search(rf"\b(?:{_NOT_WITHIN})\b", clause[start:end]):
        return Mention.ABSENT
    turned = [each.end() for each in re.finditer(rf"\b(?:{_TURNS})\b", before)]
    near = before[turned[-1] :] if turned else before
    if re.search(rf"\b(?:{_MAYBE_BEHIND})\b", behind) or re.search(rf"\b(?:{_NOT_EXCLUDED})\b", near):
        return Mention.UNCERTAIN
    if _ANSWERED_BEHIND.match(behind):
        return Mention.ABSENT
    if re.search(rf"(?:^|\b)(?:{_NOT_BEFORE})\b", near) or re.match(rf"[^,]{{0,40}}?\b(?:{_NOT_BEHIND})\b", behind):
        return Mention.ABSENT
    return Mention.UNCERTAIN if re.search(rf"\b(?:{_MAYBE_BEFORE})\b", before) else Mention.PRESENT
