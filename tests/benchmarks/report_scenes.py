"""Report models to be stolen, with what their thieves hold: the networks that `report_victims` trained and kept.

All rows here are of patients that the network was not trained on: those that clones are judged on, with true labels,
the thieves' own radiographs, and what a guard is calibrated on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from report_victims import SEED, SUBJECTS, victim_folder

from medward.attacks.base import AttackData
from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.attacks.benchmarks.reports.report_data import ReportData
from medward.attacks.benchmarks.reports.report_networks import ReporterKind, prompt_of
from medward.attacks.benchmarks.reports.report_scores import fact_labels
from medward.attacks.extraction.judge import label_f1
from medward.attacks.target import Oracle, Response
from medward.attacks.whitebox.written_texts import write_texts
from medward.guard.data.split import Split
from medward.guard.models import wrap
from medward.guard.models.base import Model
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.models.huggingface_report import open_writer
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import packed_findings, unpacked_findings
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportScene:
    """A victim with what its thieves hold. `digest` names it for kept runs.

    `labels` are the true ones ``(n, K + 1)`` of the rows that clones are judged on, "no finding" the last. `others` are
    rows that neither the victim nor its thieves have, for a guard to be calibrated on.
    """

    name: str
    digest: str
    model: Model
    oracle: Oracle
    data: AttackData
    labels: NDArray[np.bool_]
    others: Split

    @property
    def spec(self) -> ModelSpec:
        """What the victim takes and gives."""
        return self.model.spec

    @property
    def victim_f1(self) -> float:
        """The label F1 of the victim's own reports."""
        assert self.data.reference is not None
        return label_f1(with_none(unpacked_findings(self.data.reference, self.labels.shape[1] - 1)), self.labels)

    @property
    def constant_f1(self) -> float:
        """The label F1 of the best constant answer that names one label: what a thief has without a victim."""
        width = self.labels.shape[1]
        constant = np.broadcast_to(np.eye(width, dtype=bool)[:, None], (width, *self.labels.shape))
        return max(label_f1(each, self.labels) for each in constant)

    def read(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """The labels ``(n, K + 1)`` that texts say."""
        assert isinstance(self.spec.task, WrittenReport)
        said = np.array([self.spec.task.said_in(text) for text in texts]).reshape(len(texts), -1)
        return with_none(said > 0)

    def f1(self, texts: Sequence[str]) -> float:
        """The label F1 of texts about the rows that clones are judged on."""
        return label_f1(self.read(texts), self.labels)


@cache
def report_data(name: str) -> ReportData:
    """The images and facts that the victims of a data set were trained on, and those kept from them."""
    return SUBJECTS[name].load(SEED)


def trained_scene(name: str, kind: ReporterKind, photographs: int, *, seed: int) -> ReportScene | None:
    """The trained victim of a data set; None where none was kept.

    The thieves' radiographs are those of "validation", the others "holdout", or "test" where there is none.
    """
    data = report_data(name)
    folder = victim_folder(name, data, kind)
    if not (folder / "model" / "tokenizer.json").is_file():
        return None
    writer = open_writer(folder / "model")
    spec = ModelSpec(
        name=name,
        modality="image",
        shape=data.shape,
        task=WrittenReport(
            findings=data.findings,
            length=int(writer.network.generation_config.max_new_tokens),
            vocabulary=writer.vocabulary,
            prompt=prompt_of(kind),
        ),
        low=0.0,
        high=1.0,
    )
    oracle, test = batched_oracle(spec, writer), data.splits["test"]
    others = unseen_rows(data, "holdout" if "holdout" in data.splits else "test")
    labels = fact_labels(test.facts, data.findings)
    return ReportScene(
        name=f"{name}-{kind}",
        digest=folder.name,
        model=wrap(writer, spec=spec, sample=others.inputs[:4]),
        oracle=oracle,
        data=AttackData(
            craft=unseen_rows(data, "validation"),
            test=Split(test.images, packed_findings(labels[:, :-1]), test.patients),
            pool=natural_images(photographs, data.shape, seed=seed),
            reference=oracle(test.images).labels,
        ),
        labels=labels,
        others=others,
    )


def with_none(sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Sets of findings ``(n, K)`` with "no finding" as one more label."""
    return np.column_stack([sets, ~sets.any(axis=1)])


def unseen_rows(data: ReportData, *names: str) -> Split:
    """The images of some splits with their patients, where these are known."""
    parts = [data.splits[each] for each in names]
    patients = [each.patients for each in parts if each.patients is not None]
    images = np.concatenate([each.images for each in parts])
    return Split(images, patients=np.concatenate(patients) if patients else None)


def batched_oracle(spec: ModelSpec, writer: PretrainedWriter) -> Oracle:
    """A victim that writes about many images at once, which is quicker than row by row; everything leaves."""
    assert isinstance(spec.task, WrittenReport)
    task = spec.task

    def ask(inputs: Array) -> Response:
        pixels = torch.from_numpy(np.array(spec.check(inputs)))
        texts = write_texts(writer, pixels, task.prompt, task.length)
        scores = task.read(texts, spec.name)
        return Response(spec.decide(scores), scores, spec.output, texts=tuple(texts))

    return ask
