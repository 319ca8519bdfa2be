"""Whose images a report network was fine-tuned on, with differential privacy and without.

The base learned few images of others, and is the reference that cannot have seen a candidate. Of a thousand images each
is fine-tuned on by a fair coin; the audit guesses at these coins, and what it refutes must not exceed what was claimed.
How many passes and which rates was tried by hand on the coins of seed 0 before; the seeds that count are others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from claim import Claim
from numpy.typing import NDArray
from report_candidates import OUT, Candidates, as_asked, report_losses, trained_once
from report_membership import figures, interval

from medward.attacks.audit.guesses import detectable_bound, fixed_bound
from medward.attacks.audit.one_run import one_run_bound
from medward.attacks.audit.one_run_tradeoff import one_run_tradeoff_bound
from medward.attacks.benchmarks.base import data_root
from medward.attacks.benchmarks.reports.candidates import MEMBERS, OTHERS, REFERENCE
from medward.attacks.benchmarks.reports.fine_tuning import fine_tune_plainly, fine_tune_privately
from medward.attacks.benchmarks.reports.report_data import ReportSplit
from medward.attacks.benchmarks.reports.report_networks import ReporterKind
from medward.attacks.benchmarks.reports.report_scores import fact_labels, label_scores, report_labels
from medward.attacks.benchmarks.reports.report_training import ReporterTraining, train_reporter
from medward.attacks.candidates.evaluation import evaluate_scores
from medward.attacks.extraction.reports.student import TextStudent
from medward.attacks.extraction.reports.teaching import teach_texts
from medward.attacks.membership.multimodal.caption_overlap import caption_longest
from medward.attacks.membership.multimodal.generative_writer import GenerativeWriter
from medward.attacks.membership.multimodal.pairs import ImageTextPairs
from medward.attacks.validation.journal import Journal, code_version
from medward.attacks.whitebox.written_texts import write_texts
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.statistics.privacy_accounting import true_positive_ceiling

CLAIMS = ("report_membership_private",)
SEEDS = (1, 2)
DATA: str = "pneumoniamnist"
KIND: ReporterKind = "encoder-decoder"
COINS, BASE = 1000, 150  # images that a coin is flipped for, and those that the base learned
EPSILON, RISK, RATE = 8.0, 0.05, 0.01
PLAIN: Mapping[str, Any] = {"epochs": 60, "rate": 1e-2}
PRIVATE: Mapping[str, Any] = {"epochs": 20.0, "rate": 0.05}
BOUNDS = {"one run": one_run_bound, "one run, trade-off": one_run_tradeoff_bound}
TRAININGS = ("base", "without privacy", "with privacy")
WHOLE, WHOLE_EPOCHS = "all weights, without privacy", 30


def measure() -> Iterator[Claim]:
    """One claim: what is told of the coins with privacy and without, and what each network is worth."""
    torch.set_num_threads(1)
    if not (data_root() / DATA).is_dir():
        print(f"report_membership_private: skipped, MEDWARD_DATA holds no {DATA}", flush=True)
        return
    cells = [judged(seed) for seed in SEEDS]
    for cell in cells:
        cell[WHOLE] = judged_whole(cell["seed"], cell["delta"])
    refuted = max(bound for cell in cells for bound in cell["with privacy"]["audit"].values())
    above = [
        f"{score}: {each['rates'][str(RATE)]}"
        for cell in cells
        for score, each in cell["with privacy"]["scores"].items()
        if each["rates"][str(RATE)]["low"] > cell["ceiling"]
    ]
    leaks = [cell[WHOLE]["scores"]["reference"]["auc"] for cell in cells]
    yield Claim(
        claim=CLAIMS[0],
        value=refuted,
        target=f"<= {EPSILON:g}: the largest epsilon that any audit refutes with privacy (95 %), no score above the "
        "ceiling of the f-DP curve; and of all weights without privacy the whole interval of the AUC above 0.5, for "
        "every seed",
        met=refuted <= EPSILON and not above and all(each["low"] > 0.5 for each in leaks),
        n=COINS * len(SEEDS),
        seed=SEEDS[0],
        details={"cells": cells, "above": above},
    )


@dataclass(frozen=True, kw_only=True)
class Coins:
    """Images of which a fair coin chose those `included`, a base that saw none of them, and images for label F1."""

    base: GenerativeWriter
    rows: ReportSplit
    included: NDArray[np.bool_]
    unseen: ReportSplit
    findings: tuple[str, ...]

    @classmethod
    def flip(cls, seed: int) -> Coins:
        """Of the images that are nobody's training in `report_candidates`; the base learned few of the reference's."""
        data = Candidates.dealt(DATA, seed).data
        pool = data.splits[OTHERS]
        few = replace(data, splits={**data.splits, MEMBERS: data.splits[REFERENCE].take(np.arange(BASE))})
        training = ReporterTraining(warm_up=15, epochs=20, seed=seed)
        return cls(
            base=trained_once(f"{DATA}-{KIND}-{seed}-base", KIND, few, training, train_reporter),
            rows=pool.take(np.arange(COINS)),
            included=np.random.default_rng([seed, 6]).random(COINS) < 0.5,
            unseen=pool.take(np.arange(COINS, len(pool))),
            findings=data.findings,
        )

    @property
    def own(self) -> ReportSplit:
        """What is fine-tuned on."""
        return self.rows.take(np.flatnonzero(self.included))

    def told(self, asked: GenerativeWriter, seed: int, delta: float) -> dict[str, Any]:
        """What a network tells of the coins, and what it is worth."""
        found = _told(asked, self.base, self.rows, self.included, seed, delta)
        return {**found, "label_f1": _label_f1(asked, self.unseen, self.findings, seed)}


def judged(seed: int) -> dict[str, Any]:
    """Low-rank additions with privacy and without, and the base; done once."""

    def run() -> dict[str, Any]:
        coins = Coins.flip(seed)
        own, base = coins.own, coins.base
        plain = fine_tune_plainly(base.writer, own.images, own.reports, seed=seed, **PLAIN)
        settings = PrivateSettings(target_epsilon=EPSILON, **PRIVATE)
        private, spent = fine_tune_privately(base.writer, own.images, own.reports, settings)
        networks = dict(zip(TRAININGS, (base, as_asked(plain, KIND), as_asked(private, KIND)), strict=True))
        delta = spent.plan.delta
        return {
            **{name: coins.told(each, seed, delta) for name, each in networks.items()},
            "seed": seed,
            "trained_on": len(own),
            "epsilon": spent.epsilon,
            "delta": delta,
            "ceiling": true_positive_ceiling(spent.plan.mechanism, RATE),
            "detectable": {
                name: detectable_bound(bound, COINS, risk=RISK, delta=delta) for name, bound in BOUNDS.items()
            },
        }

    found, recalled = Journal(OUT).once({"private": seed, "code": code_version()}, run)
    if not recalled:
        print(f"report_membership_private: {seed} done", flush=True)
    return dict(found)


def judged_whole(seed: int, delta: float) -> dict[str, Any]:
    """All weights of the base fine-tuned without privacy, as a site would that fears nothing; done once."""

    def run() -> dict[str, Any]:
        coins = Coins.flip(seed)
        begun = TextStudent(writer=coins.base.writer, mean=0.0, spread=1.0, longest=coins.base.longest)
        own = coins.own
        taught = teach_texts(begun, own.images, list(own.reports), epochs=WHOLE_EPOCHS, seed=seed)
        return coins.told(as_asked(taught.writer, KIND), seed, delta)

    found, recalled = Journal(OUT).once({"whole": seed, "code": code_version()}, run)
    if not recalled:
        print(f"report_membership_private: {seed}, all weights, done", flush=True)
    return dict(found)


def _told(
    asked: GenerativeWriter, base: GenerativeWriter, rows: ReportSplit, included: Any, seed: int, delta: float
) -> dict[str, Any]:
    """Scores of the coins, and the epsilons that guesses by the likelihood ratio refute."""
    pairs = ImageTextPairs(images=rows.images, texts=list(rows.reports), included=included)
    likely, usual = (-report_losses(each, pairs) for each in (asked, base))
    written = write_texts(asked.writer, torch.from_numpy(rows.images), asked.prompt, asked.longest)
    overlap = np.array([caption_longest(*each) for each in zip(written, rows.reports, strict=True)])
    columns = {"loss": (likely, usual), "reference": (likely - usual, -usual), "caption-longest": (overlap, None)}
    return {
        "scores": {
            name: figures(evaluate_scores(mine, included, seed=seed, without_target=other))
            for name, (mine, other) in columns.items()
        },
        "audit": {
            name: fixed_bound(bound, columns["reference"][0], included, risk=RISK, delta=delta)
            for name, bound in BOUNDS.items()
        },
    }


def _label_f1(asked: GenerativeWriter, rows: ReportSplit, findings: tuple[str, ...], seed: int) -> dict[str, float]:
    texts = write_texts(asked.writer, torch.from_numpy(rows.images), asked.prompt, asked.longest)
    truth, said = fact_labels(rows.facts, findings), report_labels(texts, findings)
    return interval(label_scores(truth, said, findings, seed=seed).micro)
