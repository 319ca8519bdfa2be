"""Victims of membership attacks, the networks that are judged beside them, and whom they are asked about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import report_victims
import torch

from medward.attacks.benchmarks.reports.candidates import (
    MEMBERS,
    OTHERS,
    REFERENCE,
    divide_reports,
    keep_division,
)
from medward.attacks.benchmarks.reports.report_data import ReportData, phrase_bank
from medward.attacks.benchmarks.reports.report_networks import (
    ReporterKind,
    build_reporter,
    prompt_of,
    save_writer,
)
from medward.attacks.benchmarks.reports.report_training import ReporterTraining, train_reporter
from medward.attacks.extraction.reports.student import TextStudent
from medward.attacks.extraction.reports.teaching import teach_texts
from medward.attacks.learners.report_tokenizer import report_tokenizer
from medward.attacks.membership.multimodal.generative_writer import GenerativeWriter
from medward.attacks.membership.multimodal.pairs import ImageTextPairs
from medward.attacks.whitebox.written_texts import token_losses
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.models.huggingface_report import open_writer
from medward.guard.types import Array, Ints

OUT = Path(__file__).parents[2] / "out" / "report_membership"
OVER_TRAINED = 100  # members of the control that must be told
_TOGETHER = 64  # pairs
_EPOCHS = 40  # in which they are learned by heart


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A data set, the splits that are dealt anew, the shares that they are dealt by, and how victims are trained.

    So many members, and so many others, are asked about at most.
    """

    load: Callable[..., ReportData]
    parts: tuple[str, ...]
    shares: Mapping[str, float]
    training: ReporterTraining
    most: tuple[int, int] = (1000, 2100)  # others of whom half tell a rate of 1 in 1000


SUBJECTS: Mapping[str, Subject] = {
    "pneumoniamnist": Subject(
        load=report_victims.SUBJECTS["pneumoniamnist"].load,
        parts=("train", "holdout"),  # "validation" and "test" are other draws
        shares={MEMBERS: 1100, OTHERS: 2300, REFERENCE: 1282},
        training=ReporterTraining(warm_up=8, epochs=8),  # twice as often as usual, of a third of the images
        most=(600, 2100),
    ),
    "nih_cxr": Subject(
        load=report_victims.SUBJECTS["nih_cxr"].load,
        parts=("train", "validation", "test"),
        shares={MEMBERS: 340, OTHERS: 320, REFERENCE: 340},
        training=ReporterTraining(),
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Candidates are images with their reports, members first, and the same in words that no training had."""

    data: ReportData
    pairs: ImageTextPairs
    in_other_words: ImageTextPairs

    @classmethod
    def of(cls, data: ReportData) -> Candidates:
        """The members and others of `data`."""
        members, others, both = (data.splits[name] for name in (MEMBERS, OTHERS, "test"))
        pairs = ImageTextPairs(
            images=both.images,
            texts=[*members.reports, *others.reports],
            included=np.arange(len(both)) < len(members),
            patients=both.patients,
        )
        return cls(data=data, pairs=pairs, in_other_words=replace(pairs, texts=list(both.reports)))

    @classmethod
    def dealt(cls, name: str, seed: int) -> Candidates:
        """Those that `SUBJECTS` says."""
        subject, data = SUBJECTS[name], SUBJECTS[name].load(seed)
        bank = phrase_bank(data.findings, mined=True)
        return cls.of(divide_reports(data, subject.parts, subject.shares, bank=bank, seed=seed)).few(*subject.most)

    @classmethod
    def kept(cls, name: str, seed: int) -> Candidates:
        """Those of a victim of `report_victims`: its training, and all others of the same draw."""
        data = SUBJECTS[name].load(seed)
        others = [part for part in SUBJECTS[name].parts if part != MEMBERS]
        return cls.of(keep_division(data, others, bank=phrase_bank(data.findings, mined=True), seed=seed))

    def few(self, members: int, others: int) -> Candidates:
        """The first so many of both; what `data` trains on stays whole."""
        inside = self.pairs.included
        rows = np.concatenate([np.flatnonzero(inside)[:members], np.flatnonzero(~inside)[:others]])
        pairs, in_other_words = (_rows(each, rows) for each in (self.pairs, self.in_other_words))
        return Candidates(data=self.data, pairs=pairs, in_other_words=in_other_words)


def _rows(pairs: ImageTextPairs, rows: Ints) -> ImageTextPairs:
    return ImageTextPairs(
        images=pairs.images[rows],
        texts=[pairs.texts[row] for row in rows],
        included=pairs.included[rows],
        patients=None if pairs.patients is None else pairs.patients[rows],
    )


def victim(name: str, kind: ReporterKind, data: ReportData, seed: int) -> GenerativeWriter:
    """A network that was trained on the members, as the victims of `report_victims` are."""
    training = replace(SUBJECTS[name].training, seed=seed)
    return trained_once(f"{name}-{kind}-{seed}-victim", kind, data, training, train_reporter)


def reference(name: str, kind: ReporterKind, data: ReportData, seed: int) -> GenerativeWriter:
    """A network that was trained in the same way on the rows that are no candidates, from other weights."""
    own = replace(data, splits={**data.splits, MEMBERS: data.splits[REFERENCE]})
    training = replace(SUBJECTS[name].training, seed=seed + 1000)
    return trained_once(f"{name}-{kind}-{seed}-reference", kind, own, training, train_reporter)


def over_trained(name: str, kind: ReporterKind, data: ReportData, seed: int) -> GenerativeWriter:
    """A network that learned the first `OVER_TRAINED` members by heart: each image as it is, in words of one author."""
    few = data.splits[MEMBERS].take(np.arange(OVER_TRAINED))
    training, own = ReporterTraining(epochs=_EPOCHS, seed=seed), replace(data, splits={**data.splits, MEMBERS: few})
    return trained_once(f"{name}-{kind}-{seed}-heart", kind, own, training, _by_heart)


def kept_victim(name: str, kind: ReporterKind, seed: int) -> GenerativeWriter:
    """The victim of `report_victims`, trained if it is not there."""
    assert seed == report_victims.SEED
    folder = report_victims.trained_folder(name, SUBJECTS[name].load(seed), kind)
    return as_asked(open_writer(folder / "model"), kind)


@torch.no_grad()
def report_losses(asked: GenerativeWriter, pairs: ImageTextPairs) -> Array:
    """The mean loss ``(n,)`` of the tokens of each pair's text."""
    found = []
    for start in range(0, len(pairs.texts), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        pixels = torch.from_numpy(pairs.images[part])
        losses, counts = token_losses(asked.writer, pixels, asked.prompt, pairs.texts[part])
        found.append((losses.sum(dim=1) / counts).double().numpy())
    return np.concatenate(found)


def _by_heart(data: ReportData, kind: ReporterKind, training: ReporterTraining, checkpoint: Path) -> PretrainedWriter:
    """Plainly trained, without a word of augmentation."""
    del checkpoint
    train = data.splits[MEMBERS]
    begun = build_reporter(kind, data.shape, report_tokenizer(train.reports), seed=training.seed)
    longest = int(begun.network.generation_config.max_new_tokens)
    student = TextStudent(writer=begun, mean=0.0, spread=1.0, longest=longest, prompt=prompt_of(kind))
    taught = teach_texts(student, train.images, list(train.reports), epochs=training.epochs, seed=training.seed)
    return taught.writer


def trained_once(
    named: str, kind: ReporterKind, data: ReportData, training: ReporterTraining, train: Callable[..., PretrainedWriter]
) -> GenerativeWriter:
    """A network trained once and kept, as it is asked; a training that was stopped goes on."""
    rows = data.splits[MEMBERS]
    sha = hashlib.sha256(repr((training, rows.reports)).encode() + rows.images.tobytes())
    folder = OUT / f"{named}-{sha.hexdigest()[:12]}"
    if not (folder / "model" / "tokenizer.json").is_file():
        save_writer(train(data, kind, training, checkpoint=folder / "checkpoint.pt"), folder / "model")
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        print(f"{folder.name}: trained", flush=True)
    return as_asked(open_writer(folder / "model"), kind)


def as_asked(writer: PretrainedWriter, kind: ReporterKind) -> GenerativeWriter:
    longest = int(writer.network.generation_config.max_new_tokens)
    return GenerativeWriter(writer=writer, prompt=prompt_of(kind), longest=longest)
