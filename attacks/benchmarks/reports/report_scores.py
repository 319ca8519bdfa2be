"""How good written reports are: what they find, by label F1, and how alike their words are to references.

Labels are the findings that `ReportReader` reads, there or doubtful, and "no finding", which a report has that none of
them is in: so a model that always says normal scores there and nowhere else. Of words alone nothing clinical follows:
a report full of usual sentences is like most references, whatever is in the image.

References: Smit et al., "CheXbert", EMNLP 2020 (labels of reports, "no finding" among them, and their F1); Papineni et
al., "BLEU", ACL 2002, by sacrebleu; Lin, "ROUGE", 2004, by rouge-score; Banerjee and Lavie, "METEOR", 2005, by NLTK,
whose stages of equal words and of equal stems are used: that of synonyms needs a download, and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from medward.attacks.benchmarks.reports.facts import ImageFacts
from medward.attacks.benchmarks.reports.phrases import CHEST_READER
from medward.attacks.intervals import LEVEL, RESAMPLES, Interval
from medward.guard.errors import MedwardError
from medward.guard.models.base import require_extra
from medward.guard.tasks.report_reader import Mention
from medward.guard.types import Ints

NORMAL_LABEL = "no finding"
FEWEST_REFERENCES = 10
"""References that a label needs for an F1 of its own: of fewer it is chance."""

LabelRows = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScores:
    """Label scores are F1 of each label, of all together, and their mean, with 95 % intervals over patients.

    `micro` counts all labels of all reports as one, `findings_micro` all but "no finding". `labels` has those of
    `FEWEST_REFERENCES` or more, "no finding" among them, and `macro` is their mean; `references` counts those of all.
    """

    labels: Mapping[str, Interval]
    references: Mapping[str, int]
    micro: Interval
    findings_micro: Interval
    macro: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScores:
    """Text scores say how alike texts are to references, from 0 to 1: BLEU of all, means of ROUGE-L and METEOR."""

    bleu: float
    rouge_l: float
    meteor: float


def fact_labels(facts: Sequence[ImageFacts], findings: Sequence[str]) -> LabelRows:
    """The labels ``(n, K + 1)`` of images: each of `findings`, then "no finding"."""
    return _with_none([[name in each.present for name in findings] for each in facts], len(findings))


def report_labels(texts: Sequence[str], findings: Sequence[str]) -> LabelRows:
    """The labels ``(n, K + 1)`` that texts are read to have: each of `findings`, there or doubtful, then "no finding".

    A text that names a finding beside those of `findings` as there has neither them nor "no finding".
    """
    rows, none = [], []
    for text in texts:
        found = {name for name, meant in CHEST_READER.read(text).items() if meant > Mention.ABSENT}
        rows.append([name in found for name in findings])
        none.append(not found)
    return np.column_stack([np.array(rows, bool).reshape(len(texts), len(findings)), np.array(none, bool)])


def label_scores(
    truth: LabelRows, said: LabelRows, findings: Sequence[str], *, patients: Ints | None = None, seed: int = 0
) -> LabelScores:
    """Scores of labels `said` against the `truth`, both ``(n, K + 1)`` as `fact_labels` and `report_labels` give them.

    Intervals are percentiles of a bootstrap that draws patients with all their rows, or rows where patients are not
    known. Raises `MedwardError` for tables that are not alike.
    """
    if truth.shape != said.shape or truth.shape[1] != len(findings) + 1:
        raise MedwardError(
            f"labels: need (n, {len(findings) + 1}) of both, got {truth.shape} and {said.shape}; read the same rows"
        )
    weights = np.concatenate([np.ones((1, len(truth))), _patient_weights(len(truth), patients, seed)])
    both, either = weights @ (truth & said), weights @ truth + weights @ said  # (1 + resamples, K + 1)
    each = f1_score(both, either)
    counted = truth.sum(axis=0) >= FEWEST_REFERENCES
    if not counted.any():
        raise MedwardError(f"labels: none has {FEWEST_REFERENCES} references; judge more rows")
    n, names = len(truth) if patients is None else len(np.unique(patients)), (*findings, NORMAL_LABEL)
    return LabelScores(
        labels={names[at]: _interval(each[:, at], n) for at in np.flatnonzero(counted)},
        references=dict(zip(names, truth.sum(axis=0).tolist(), strict=True)),
        micro=_interval(f1_score(both.sum(axis=1), either.sum(axis=1)), n),
        findings_micro=_interval(f1_score(both[:, :-1].sum(axis=1), either[:, :-1].sum(axis=1)), n),
        macro=_interval(each[:, counted].mean(axis=1), n),
    )


def f1_score(both: NDArray[np.float64], either: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of counts of what is said and true, and of what is said plus what is true; 1 where there is nothing to say."""
    return np.divide(2 * both, either, out=np.ones_like(either, np.float64), where=either > 0)


def text_scores(references: Sequence[str], texts: Sequence[str]) -> TextScores:
    """BLEU, ROUGE-L and METEOR of `texts`, each against its reference, by their libraries and in small letters.

    Raises `MedwardError` where the libraries are missing, and for other than as many texts as references.
    """
    if len(references) != len(texts) or not texts:
        raise MedwardError(f"texts: need one for each reference, got {len(texts)} for {len(references)}")
    bleu = require_extra("sacrebleu", "reports").corpus_bleu(list(texts), [list(references)], lowercase=True)
    rouge = require_extra("rouge_score.rouge_scorer", "reports").RougeScorer(["rougeL"])
    meteor = require_extra("nltk.translate.meteor_score", "reports").single_meteor_score
    stemmer = require_extra("nltk.stem.porter", "reports").PorterStemmer()
    pairs = list(zip(references, texts, strict=True))
    return TextScores(
        bleu=bleu.score / 100,
        rouge_l=fmean(rouge.score(reference, text)["rougeL"].fmeasure for reference, text in pairs),
        meteor=fmean(meteor(_words(one), _words(two), stemmer=stemmer, wordnet=_NoSynonyms()) for one, two in pairs),
    )


class _NoSynonyms:
    """A WordNet without words: METEOR's third stage finds nothing in it."""

    def synsets(self, word: str) -> list[str]:
        del word
        return []


def _words(text: str) -> list[str]:
    return text.lower().replace(".", " ").replace(",", " ").split()


def _with_none(rows: Sequence[Sequence[bool]], width: int) -> LabelRows:
    table = np.array(rows, bool).reshape(len(rows), width)
    return np.column_stack([table, ~table.any(axis=1)])


def _patient_weights(n: int, patients: Ints | None, seed: int) -> NDArray[np.float64]:
    """How often each row is drawn ``(resamples, n)``, with all rows of its patient."""
    groups, place = np.unique(np.arange(n) if patients is None else patients, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=RESAMPLES)
    return np.asarray(drawn[:, place], np.float64)


def _interval(values: NDArray[np.float64], n: int) -> Interval:
    """The first value, with percentiles of the others."""
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values[0]), float(min(low, values[0])), float(max(high, values[0])), n)
