"""Whose images trained a report model: every score beside a reference that cannot have seen a candidate, and controls.

Victims are trained as those of `report_victims` are, on members whom chance alone told from others; a reference learned
a third part of the same images. Which attack counts is chosen on PneumoniaMNIST (by one seed before NIH was looked at,
by two more since): the score of the highest AUC there, of those that need logits and of those that need the text alone.
Every training is kept under ``out/report_membership``, every scoring is a cell there, so what was stopped goes on.
Figures alone leave this machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from claim import Claim
from report_candidates import (
    OUT,
    OVER_TRAINED,
    SUBJECTS,
    Candidates,
    kept_victim,
    over_trained,
    reference,
    report_losses,
    victim,
)

from medward.attacks.benchmarks.base import data_root
from medward.attacks.benchmarks.reports.phrases import CHEST_READER
from medward.attacks.benchmarks.reports.report_networks import REPORTER_KINDS, ReporterKind
from medward.attacks.candidates.evaluation import MembershipEvaluation, evaluate_scores
from medward.attacks.intervals import auc_interval
from medward.attacks.membership.multimodal.audit import VisionLanguageScores, score_vision_language_model
from medward.attacks.membership.multimodal.generative_writer import GenerativeWriter
from medward.attacks.membership.multimodal.pairs import blind_pair_scores
from medward.attacks.validation.journal import Journal, code_version
from medward.guard.data.quality import auc

CLAIMS = ("report_membership_scores", "report_membership_controls")
SEEDS = (0, 1, 2)
FEW = 400  # others beside members learned by heart
CHOSEN_ON, HEADLINE = "pneumoniamnist", "nih_cxr"
LABEL_ONLY = ("caption-bleu", "caption-rouge", "caption-longest", "findings-right", "findings-robust")
SHOWN = (
    "loss-description",
    "min-k-description",
    "max-renyi-10-2-image",
    "max-renyi-10-2-description",
    "modified-renyi-0.5-description",
    "augmented-kl-image",
    "augmented-kl-description",
    "reference-description",
    *LABEL_ONLY,
)
"""What tables show, fixed beforehand; of MaxRenyi one order and share of twelve. The AUC of every score is kept."""
RATIO = "reference-description"
CONTROLS = ("reference", "shuffled", "stranger")
SETS = ("temperature-target-only", "temperature-image-only")
TOLD = 0.9


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table is one kind of victim on one data set, of so many seeds."""

    data: str
    kind: ReporterKind
    seeds: tuple[int, ...] = SEEDS
    kept: bool = False

    @property
    def name(self) -> str:
        """As it is told and kept."""
        return f"{self.data}/{self.kind}" + ("/report victim" if self.kept else "")


ROWS = (
    Row(data=CHOSEN_ON, kind="encoder-decoder"),
    Row(data=HEADLINE, kind="encoder-decoder"),
    Row(data=HEADLINE, kind="llava", seeds=(1,), kept=True),
)


def measure() -> Iterator[Claim]:
    """The scores, then what must be told and what must not."""
    torch.set_num_threads(1)
    if not (data_root() / "nih_cxr").is_dir():
        print("report_membership: skipped, MEDWARD_DATA holds no nih_cxr", flush=True)
        return
    found = {row.name: [judged(row, seed) for seed in row.seeds] for row in ROWS}
    gray, label = (chosen(found[ROWS[0].name], wanted) for wanted in (False, True))
    yield scores_claim(found, gray, label)
    yield controls_claim(found, gray)


def scores_claim(found: Mapping[str, Sequence[Mapping[str, Any]]], gray: str, label: str) -> Claim:
    """The chosen attack on NIH; met where its members and others cannot be told without the model."""
    cells = found[f"{HEADLINE}/encoder-decoder"]
    intervals = [cell["scores"][gray]["auc"] for cell in cells]
    shifted = [name for name, each in found.items() if any(cell["blind"]["low"] > 0.5 for cell in each)]
    return Claim(
        claim=CLAIMS[0],
        value=fmean(each["value"] for each in intervals),
        interval=(min(each["low"] for each in intervals), max(each["high"] for each in intervals)),
        target="reported: AUC on NIH of the score that was the best with logits on PneumoniaMNIST",
        met=f"{HEADLINE}/encoder-decoder" not in shifted,
        n=max(int(each["n"]) for each in intervals),
        seed=SEEDS[0],
        details={
            "interval_is": "least lower and largest upper 95 % end over seeds, by patient",
            "chosen": {"gray-box": gray, "label-only": label},
            "shifted": shifted,
            "rows": found,
        },
    )


def controls_claim(found: Mapping[str, Sequence[Mapping[str, Any]]], gray: str) -> Claim:
    """Members learned by heart must be told; by a network that never saw a candidate, and as strangers, nobody."""
    heart = {data: judged_by_heart(data, SEEDS[0]) for data in SUBJECTS}
    least = min(cell[gray]["value"] for cell in heart.values())
    names = [row.name for row in ROWS if not row.kept]
    scores = [(name, cell["scores"][gray]) for name in names for cell in found[name]]
    asked = [(name, what, score[what]) for name, score in scores for what in CONTROLS if what in score]
    wrong = [f"{name}, {what}: {each}" for name, what, each in asked if not each["low"] <= 0.5 <= each["high"]]
    return Claim(
        claim=CLAIMS[1],
        value=least,
        target=f">= {TOLD}: the lesser AUC, by the chosen score, of {OVER_TRAINED} members learned by heart; and 95 % "
        "intervals of networks that saw no candidate, or either side alike, and of sides dealt anew, cover 0.5, but "
        "for 1 in 20",
        met=least >= TOLD and len(wrong) <= math.ceil(len(asked) / 20),
        n=OVER_TRAINED + FEW,
        seed=SEEDS[0],
        details={"by_heart": heart, "controls": len(asked), "not_covered": wrong},
    )


def chosen(cells: Sequence[Mapping[str, Any]], label_only: bool) -> str:
    """The score of the highest mean AUC, of those that need the text alone or of those that need logits."""
    names = [name for name in cells[0]["scores"] if name not in SETS and (name in LABEL_ONLY) == label_only]
    return max(names, key=lambda name: fmean(cell["scores"][name]["auc"]["value"] for cell in cells))


def judged(row: Row, seed: int) -> dict[str, Any]:
    """What scores tell of the candidates of one victim, and what is told without it."""
    kept = scored(row, seed)
    owners = None if kept["patients"] is None else np.array(kept["patients"])
    truth, blind = np.array(kept["included"], bool), np.array(kept["blind"])
    strangers = _shuffled(truth, owners, seed)
    alone = kept["pairs"][1] if len(kept["pairs"]) > 1 else {}
    scores, columns = {}, kept["pairs"][0]
    for name in (each for each in SHOWN if each in columns):
        values = np.array(columns[name])
        known = None if name not in alone else np.array(alone[name])
        found = evaluate_scores(values, truth, groups=owners, seed=seed, without_target=known)
        scores[name] = {
            **figures(found),
            "shuffled": interval(auc_interval(values, strangers, groups=owners, seed=seed)),
            "other_words": _other_words(kept["other_words"], name, truth),
        }
    if RATIO in scores and (stranger := _stranger(row, seed)):
        scores[RATIO]["stranger"] = stranger
    sides = np.array([truth[rows].all() for rows in kept["divided"]])
    for name in SETS if kept["divided"] else ():
        known = np.array(kept["sets"][1][name]) if len(kept["sets"]) > 1 else None
        scores[name] = figures(evaluate_scores(np.array(kept["sets"][0][name]), sides, seed=seed, without_target=known))
    return {
        "members": int(truth.sum()),
        "others": int((~truth).sum()),
        "blind": interval(auc_interval(blind, truth, groups=owners, seed=seed)),
        "scores": scores,
        "every_auc": {name: auc(np.array(each), truth) for name, each in columns.items()},
    }


def scored(row: Row, seed: int) -> dict[str, Any]:
    """The columns of a victim and its reference, scored once; likelihoods also of reports in words of others."""

    def run() -> dict[str, Any]:
        if row.kept:
            asked, known, found = kept_victim(row.data, row.kind, seed), None, Candidates.kept(row.data, seed)
        else:
            found = Candidates.dealt(row.data, seed)
            asked, known = (make(row.data, row.kind, found.data, seed) for make in (victim, reference))
        scores = score_vision_language_model(asked, found.pairs, reference=known, read=CHEST_READER.read, seed=seed)
        return {**_columns(scores), **_facts(found, seed), "other_words": _in_other_words(asked, known, found)}

    return _once({"row": row.name, "seed": seed}, run)


def _stranger(row: Row, seed: int) -> dict[str, float] | None:
    """The likelihood ratio of a victim of another seed, which saw as many of either side: nothing is to be told."""
    if row.kept or len(row.seeds) == 1:
        return None
    other = row.seeds[(row.seeds.index(seed) + 1) % len(row.seeds)]

    def run() -> dict[str, Any]:
        found = Candidates.dealt(row.data, seed)
        asked = victim(row.data, row.kind, Candidates.dealt(row.data, other).data, other)
        known = reference(row.data, row.kind, found.data, seed)
        ratio = report_losses(known, found.pairs) - report_losses(asked, found.pairs)
        return interval(auc_interval(ratio, found.pairs.included, groups=found.pairs.patients, seed=seed))

    return _once({"stranger": row.name, "seed": seed, "other": other}, run)


def judged_by_heart(data: str, seed: int) -> dict[str, Any]:
    """AUC of the first members, learned by heart, against all others, by every score that logits give."""

    def run() -> dict[str, Any]:
        found = Candidates.dealt(data, seed).few(OVER_TRAINED, FEW)
        kind = REPORTER_KINDS[0]
        asked, known = (make(data, kind, found.data, seed) for make in (over_trained, reference))
        scores = score_vision_language_model(asked, found.pairs, reference=known, temperatures=(), seed=seed)
        truth, owners = found.pairs.included, found.pairs.patients
        return {
            name: interval(auc_interval(each, truth, groups=owners, seed=seed))
            for name, each in scores.pairs[0].items()
            if name in SHOWN
        }

    return _once({"by heart": data, "seed": seed}, run)


def figures(found: MembershipEvaluation) -> dict[str, Any]:
    """An evaluation as it is committed."""
    rates = {str(rate): None if each is None else interval(each) for rate, each in found.true_positive_rates.items()}
    return {
        "auc": interval(found.auc),
        "rates": rates,
        "detectable": found.detectable,
        **({} if found.without_target is None else {"reference": interval(found.without_target)}),
        **({} if found.gain is None else {"gain": interval(found.gain)}),
    }


def interval(found: Any) -> dict[str, float]:
    """An interval as it is committed."""
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _other_words(columns: Mapping[str, Sequence[float]], name: str, truth: Any) -> float | None:
    return auc(np.array(columns[name]), truth) if name in columns else None


def _shuffled(truth: Any, owners: Any, seed: int) -> Any:
    """The sides of candidates dealt to other patients by chance."""
    groups, place = np.unique(np.arange(len(truth)) if owners is None else owners, return_inverse=True)
    sides = np.zeros(len(groups), bool)
    sides[place] = truth
    return np.random.default_rng([seed, 5]).permutation(sides)[place]


def _columns(scores: VisionLanguageScores) -> dict[str, Any]:
    return {
        "pairs": [{name: each.tolist() for name, each in columns.items()} for columns in scores.pairs],
        "sets": [{name: each.tolist() for name, each in columns.items()} for columns in scores.sets],
        "divided": [rows.tolist() for rows in scores.divided],
    }


def _in_other_words(asked: GenerativeWriter, known: GenerativeWriter | None, found: Candidates) -> dict[str, Any]:
    """What an attacker scores who has the facts of an image, and writes its report himself."""
    likely = -report_losses(asked, found.in_other_words)
    columns = {"loss-description": likely.tolist()}
    if known is not None:
        columns["reference-description"] = (likely + report_losses(known, found.in_other_words)).tolist()
    return columns


def _facts(found: Candidates, seed: int) -> dict[str, Any]:
    pairs = found.pairs
    return {
        "included": np.asarray(pairs.included).tolist(),
        "patients": None if pairs.patients is None else np.asarray(pairs.patients).tolist(),
        "blind": blind_pair_scores(pairs, seed=seed).tolist(),
    }


def _once(settings: Mapping[str, Any], run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    found, recalled = Journal(OUT).once({**settings, "code": code_version()}, run)
    if not recalled:
        print(f"report_membership: {settings} done", flush=True)
    return dict(found)
