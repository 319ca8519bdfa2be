"""Images whose brighter half says what is there, with reports in our own words: learned in seconds."""

from __future__ import annotations

import numpy as np

from medward.attacks.benchmarks.reports.facts import ImageFacts, normal_parts, stated_findings
from medward.attacks.benchmarks.reports.own_phrases import own_phrase_bank
from medward.attacks.benchmarks.reports.report_data import with_reports
from medward.attacks.benchmarks.reports.report_networks import ReporterSize

FINDINGS = ("pneumonia", "effusion")
SIZE = ReporterSize(width=32, tower_layers=1, text_layers=1, heads=2, stages=(16, 32, 32), context=80)


def toy_report_data(n=48, seed=0):
    draws = np.random.default_rng(seed)
    images = draws.random((n, 1, 32, 32)).astype(np.float32) * 0.3
    facts = []
    for row in range(n):
        present = frozenset(name for name in FINDINGS if draws.random() < 0.5)
        images[row, 0, :, :16] += 0.6 * ("pneumonia" in present)
        images[row, 0, 16:, :] *= 0.2 if "effusion" in present else 1.0
        facts.append(
            ImageFacts(findings=stated_findings(present, FINDINGS, draws), normal=normal_parts(present, FINDINGS))
        )
    rows = np.arange(n)
    index = {"train": rows[: n // 2], "validation": rows[n // 2 : 3 * n // 4], "test": rows[3 * n // 4 :]}
    return with_reports("toy", FINDINGS, images, facts, index, bank=own_phrase_bank(FINDINGS), seed=seed)
