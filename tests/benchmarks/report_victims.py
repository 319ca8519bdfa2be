"""Networks that write reports of radiographs: what they find for held-out patients, beside those without an image.

A victim and its baselines are trained here, on one core in minutes each, and kept under ``out/report_victims``: what
was stopped goes on, what is done is not done again. Test references are in phrases that no training saw. Labels are
read by `ReportReader`; "no finding" is one of them. Sentences of the Indiana University reports are not to be passed
on, so the samples are of a victim that learned our own phrases.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from claim import Claim

from medward.attacks.benchmarks.base import data_root
from medward.attacks.benchmarks.reports.mined_phrases import read_report_texts, report_sentences
from medward.attacks.benchmarks.reports.report_data import ReportData, load_nih_reports, load_pneumonia_reports
from medward.attacks.benchmarks.reports.report_networks import REPORTER_KINDS, ReporterKind, prompt_of, save_writer
from medward.attacks.benchmarks.reports.report_scores import (
    LabelScores,
    fact_labels,
    label_scores,
    report_labels,
    text_scores,
)
from medward.attacks.benchmarks.reports.report_training import ReporterTraining, Sight, train_reporter
from medward.attacks.intervals import Interval
from medward.attacks.whitebox.written_texts import write_texts
from medward.guard.models.huggingface_report import open_writer

SEED, LEAST, SAMPLES = 1, 0.6, 3  # settings were chosen at seed 0, of other splits, references and weights
OUT = Path(__file__).parents[2] / "out" / "report_victims"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A data set of images with reports, and how victims are trained on it."""

    load: Callable[..., ReportData]
    training: ReporterTraining


SUBJECTS: Mapping[str, Subject] = {
    "nih_cxr": Subject(load=load_nih_reports, training=ReporterTraining(seed=SEED)),
    "pneumoniamnist": Subject(load=load_pneumonia_reports, training=ReporterTraining(warm_up=4, epochs=4, seed=SEED)),
}
NAMES = {(data, kind): f"report_victim_{data}_{kind.replace('-', '_')}" for data in SUBJECTS for kind in REPORTER_KINDS}
CLAIMS = (*NAMES.values(), "report_victim_samples")


def measure() -> Iterator[Claim]:
    """One claim for each kind of network and data set, then the samples."""
    torch.set_num_threads(1)
    if not (data_root() / "nih_cxr").is_dir():
        print("report_victims: skipped, MEDWARD_DATA holds no nih_cxr", flush=True)
        return
    known = frozenset(report_sentences(read_report_texts()))
    for (name, kind), claim in NAMES.items():
        data = SUBJECTS[name].load(SEED)
        yield victim_claim(claim, name, data, kind, known)
    yield samples_claim(known)


def victim_claim(claim: str, name: str, data: ReportData, kind: ReporterKind, known: frozenset[str]) -> Claim:
    """A victim of mined phrases beside one that was trained on the images of others, and the usual report."""
    test = data.splits["test"]
    texts = {
        "victim": cell(name, data, kind),
        "other images": cell(name, data, kind, sight="shuffled"),
        "usual report": [Counter(data.splits["train"].reports).most_common(1)[0][0]] * len(test),
    }
    rows = {row: judged(data, each) for row, each in texts.items()}
    scores, blind = rows["victim"], max(scores.micro.high for row, scores in rows.items() if row != "victim")
    return Claim(
        claim=claim,
        value=scores.micro.value,
        interval=(scores.micro.low, scores.micro.high),
        target=f">= {LEAST} F1 over all labels, its lower end above the upper ends without image",
        met=scores.micro.value >= LEAST and scores.micro.low > blind,
        n=scores.micro.n,
        seed=SEED,
        details={
            "unit": "images" if test.patients is None else "patients",
            "images": len(test),
            "rows": {row: {**figures(rows[row]), **text_figures(test.reports, each)} for row, each in texts.items()},
            "distinct_reports": len(set(texts["victim"])),
            "sentences_of_the_source": share_known(texts["victim"], known),
            "training": asdict(SUBJECTS[name].training),
        },
    )


def samples_claim(known: frozenset[str]) -> Claim:
    """Reports of a victim of our own phrases, about the first images with no finding, with one, and with two."""
    name, kind = "nih_cxr", REPORTER_KINDS[0]
    data = SUBJECTS[name].load(SEED, mined=False)
    test, texts = data.splits["test"], cell(name, data, kind, bank="own")
    scores = judged(data, texts)
    places = [next(at for at, each in enumerate(test.facts) if len(each.present) == count) for count in range(SAMPLES)]
    return Claim(
        claim=CLAIMS[-1],
        value=scores.micro.value,
        interval=(scores.micro.low, scores.micro.high),
        target=f">= {LEAST} F1 over all labels, of a victim whose reports may be shown",
        met=scores.micro.value >= LEAST,
        n=scores.micro.n,
        seed=SEED,
        details={
            "samples": [{"reference": test.reports[at], "written": texts[at]} for at in places],
            "rows": {"victim": {**figures(scores), **text_figures(test.reports, texts)}},
            "sentences_of_the_source": share_known(texts, known),
        },
    )


def cell(name: str, data: ReportData, kind: ReporterKind, *, sight: Sight = "images", bank: str = "mined") -> list[str]:
    """What a network that was so trained writes about the test images, trained and asked once."""
    folder = trained_folder(name, data, kind, sight=sight, bank=bank)
    kept = folder / "texts.json"
    if not kept.is_file():
        writer = open_writer(folder / "model")  # as any user's folder is
        images, longest = torch.from_numpy(data.splits["test"].images), writer.network.generation_config.max_new_tokens
        kept.write_text(json.dumps(write_texts(writer, images, prompt_of(kind), longest)))
        print(f"{folder.name}: done", flush=True)
    texts: list[str] = json.loads(kept.read_text())
    return texts


def trained_folder(
    name: str, data: ReportData, kind: ReporterKind, *, sight: Sight = "images", bank: str = "mined"
) -> Path:
    """The folder with the "model" of a network that was so trained, once."""
    folder = victim_folder(name, data, kind, sight=sight, bank=bank)
    if not (folder / "model" / "tokenizer.json").is_file():
        training = victim_training(name, sight)
        save_writer(train_reporter(data, kind, training, checkpoint=folder / "checkpoint.pt"), folder / "model")
    return folder


def victim_training(name: str, sight: Sight = "images") -> ReporterTraining:
    """How a network is trained on the data set `name`, or on the images of others."""
    training = replace(SUBJECTS[name].training, sight=sight)
    if sight == "images":
        return training
    # Facts of other images are nothing to warm up on, and the usual report is soon learned.
    return replace(training, warm_up=0, epochs=max(1, training.epochs // 2))


def victim_folder(
    name: str, data: ReportData, kind: ReporterKind, *, sight: Sight = "images", bank: str = "mined"
) -> Path:
    """Where a network that was so trained is kept; the name holds all that it depends on."""
    trained = repr((victim_training(name, sight), data.splits["train"].reports))
    return OUT / f"{name}-{kind}-{sight}-{bank}-{hashlib.sha256(trained.encode()).hexdigest()[:12]}"


def judged(data: ReportData, texts: Sequence[str]) -> LabelScores:
    """Label scores of texts about the test images."""
    test = data.splits["test"]
    truth, said = fact_labels(test.facts, data.findings), report_labels(texts, data.findings)
    return label_scores(truth, said, data.findings, patients=test.patients, seed=SEED)


def figures(scores: LabelScores) -> dict[str, Any]:
    """Label scores as they are committed."""
    parts = {"micro": scores.micro, "findings_micro": scores.findings_micro, "macro": scores.macro}
    return {
        **{name: _figure(each) for name, each in parts.items()},
        "labels": {name: _figure(each) for name, each in scores.labels.items()},
        "references": dict(scores.references),
    }


def text_figures(references: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """BLEU, ROUGE-L and METEOR."""
    return asdict(text_scores(references, texts))


def share_known(texts: Sequence[str], known: frozenset[str]) -> float:
    """The share of sentences that stand word for word in the source."""
    sentences = list(report_sentences(texts))
    return sum(each in known for each in sentences) / len(sentences)


def _figure(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}
