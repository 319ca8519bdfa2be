"""Names in capitals, as burned-in headers have them, through a text filter that is told nothing, and what it costs.

Names are of random syllables, so in no lexicon. They are said in the framings of MM-Privacy, in headers, and in a
sentence without a cue, which is the gap that is left. Its cost is measured on the text benchmarks in capitals.
Lists were written on one half of each set (`text_identifiers`), common verbs after a look at presidio-research.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import text_identifiers
from claim import Claim
from text_scores import wilson

from medward.attacks.benchmarks.mm_privacy.page_source import drawn_values
from medward.attacks.disclosure.framing import FRAMINGS
from medward.attacks.disclosure.recovery import NEARLY, recovered_share
from medward.guard.release.text import TextFilter

CLAIMS = ("text_capitals",)
NAMES, SEED = 400, 0
NO_CUE = "sentence without a cue"
PLACES: Mapping[str, str] = {
    **{name: framing.reply.replace("{kind}", "patient name") for name, framing in FRAMINGS.items()},
    "header with a label": "PATIENT: {value}  DOB: 1950-03-04  CHEST PA",
    "header without a label": "{value} 1950-03-04 M",
    "line among others": "PORTABLE CHEST AP\n{value}\nNO ACUTE FINDING",
    NO_CUE: "THE STUDY OF {value} SHOWS CLEAR LUNGS",
}
WRITINGS = {name: text_identifiers.WRITINGS[name] for name in ("as it is", "in capitals")}


def measure() -> Iterator[Claim]:
    """One claim; needs the sets of `text_identifiers`."""
    generator = np.random.default_rng(SEED)
    names = [drawn_values(generator)["patient name"] for _ in range(NAMES)]
    left = {place: [_leaves(name, said) for name in names] for place, said in PLACES.items()}
    worst = [any(each) for each in zip(*(left[place] for place in PLACES if place != NO_CUE), strict=True)]
    reports = [text for _, text in text_identifiers._chest_reports()]
    altered = {name: sum(bool(TextFilter().find(write(each))) for each in reports) for name, write in WRITINGS.items()}
    yield Claim(
        claim=CLAIMS[0],
        value=sum(worst) / NAMES,
        target="at most 0.05 of names that no list knows leave wherever a cue or nothing else stands beside them; at "
        "most 0.035 of chest reports in capitals altered",
        met=sum(worst) / NAMES <= 0.05 and altered["in capitals"] / len(reports) <= 0.035,
        n=NAMES,
        seed=SEED,
        interval=wilson(sum(worst), NAMES),
        details={
            "names_by_place": {place: sum(each) / NAMES for place, each in left.items()},
            "chest_reports": len(reports),
            "chest_reports_altered": altered,
            "benchmarks": dict(_benchmarks()),
        },
    )


def _leaves(name: str, said: str) -> bool:
    return recovered_share(name, TextFilter().redact(said.format(value=name)).text) >= NEARLY


def _benchmarks() -> Iterator[tuple[str, dict[str, Any]]]:
    queries = [row for row in text_identifiers._queries() if text_identifiers.set_aside(row["text"])]
    yield "asq_phi", _scores(TextFilter(), queries, set())
    with gzip.open(text_identifiers._data("deid_meddocan_es/meddocan_train.jsonl.gz"), "rt") as lines:
        cases = [text_identifiers._with_old_ages(row) for row in map(json.loads, lines)]
    aside = [row for row in cases if text_identifiers.set_aside(row["id"])]
    yield "meddocan", _scores(TextFilter(language="es"), aside, text_identifiers.NO_IDENTIFIERS)
    yield (
        "presidio_research",
        _scores(TextFilter(), text_identifiers._sentences(), text_identifiers.NO_IDENTIFIERS_THERE),
    )


def _scores(text_filter: TextFilter, rows: Sequence[Mapping[str, Any]], left_out: set[str]) -> dict[str, Any]:
    scores = {}
    for name, write in WRITINGS.items():
        written = [{**row, "text": write(row["text"])} for row in rows]
        found, _ = text_identifiers._find(text_filter, [row["text"] for row in written], [])
        figures = text_identifiers._figures(text_identifiers._score(written, found, left_out))
        scores[name] = {key: figures[key] for key in ("recall", "token_precision", "clean_texts_touched", "spans")}
    return scores
