"""What text thieves share: the texts they learn from, the clone that comes of it, and which of a pool is asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.pool import POOL_KNOWLEDGE, PoolChooser
from medward.attacks.extraction.reports.enrichment import composed_text
from medward.attacks.extraction.reports.student import StudentMaker, TextStudent
from medward.attacks.extraction.reports.teaching import teach_texts
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints

ImageSource = Literal["pool", "in-domain", "noise"]
"""Where a text thief's images come from: natural images, the thief's own images of the same kind, uniform noise."""
_KNOWN: dict[ImageSource, str] = {
    "pool": POOL_KNOWLEDGE,
    "in-domain": "unlabelled public images of the same kind as the model's own data",
    "noise": "nothing but the shape and range of images",
}
_SURE = 8.0  # the logit of a finding that a text names


@dataclass(frozen=True, slots=True, eq=False)
class TextLessons:
    """Text lessons are `texts` about ``images (n, *shape)``, and which findings each has ``(n, K)``."""

    images: Array
    texts: list[str]
    found: NDArray[np.bool_]


class ReportClone(nn.Module):
    """A report clone maps images ``(n, *shape)`` to logits of findings ``(n, K)``, read in the reports that it writes.

    A finding that is there or may be has a positive one. So a clone that writes is judged as one that does not.
    """

    def __init__(self, student: TextStudent, task: WrittenReport) -> None:
        super().__init__()
        self.student, self.task = student, task

    def write(self, images: Array) -> list[str]:
        """The reports about ``(n, *shape)``, greedily decoded."""
        return self.student.write(images)

    def forward(self, x: Tensor) -> Tensor:
        """Write, and read what was written."""
        return torch.as_tensor(np.where(found_in(self.write(x.numpy()), self.task), _SURE, -_SURE))


class TextChooser(PoolChooser):
    """A text chooser asks about images of a source, each once, and learns to write as the answers do.

    Subclasses say how it learns. Raises `MedwardError` for a model that writes no reports, and without images.
    """

    def __init__(
        self, data: AttackData, spec: ModelSpec, seed: int, *, student: StudentMaker, source: ImageSource = "pool"
    ) -> None:
        super().__init__(replace(data, pool=source_images(source, data, spec, seed)), spec, seed)
        self.task, self.student = report_task(spec), student

    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        """At random."""
        return self.rng.permutation(free)[:count]

    def learn(self, loot: StolenAnswers, *, epochs: int, seed: int) -> nn.Module | None:
        """A clone that writes; None where neither texts nor findings left."""
        known = loot.known
        if len(known) == 0:
            return None
        texts = learned_texts(known, self.task)
        begun = self.student.begin(self.spec, known.inputs, texts, seed=seed)
        lessons = TextLessons(known.inputs, texts, found_in(texts, self.task))
        return ReportClone(self.taught(begun, lessons, epochs, seed), self.task)

    @abstractmethod
    def taught(self, student: TextStudent, lessons: TextLessons, epochs: int, seed: int) -> TextStudent:
        """`student` once it has learned `lessons`."""


class SupervisedChooser(TextChooser):
    """A supervised chooser learns by token cross-entropy alone."""

    def taught(self, student: TextStudent, lessons: TextLessons, epochs: int, seed: int) -> TextStudent:
        """By `teach_texts`."""
        return teach_texts(student, lessons.images, lessons.texts, lessons.found, epochs=epochs, seed=seed)


def report_task(spec: ModelSpec) -> WrittenReport:
    """The task of a model that writes reports. Raises `MedwardError` for any other."""
    if not isinstance(spec.task, WrittenReport):
        raise MedwardError(f"{spec.name}: {spec.rule}, and a text thief learns from reports; use knockoff or copycat")
    return spec.task


def learned_texts(known: StolenAnswers, task: WrittenReport) -> list[str]:
    """What there is to learn of answered rows: the text that left, else a text that names the findings that did."""
    texts = known.texts or (None,) * len(known)
    return [
        composed_text(task, target >= 0.5) if text is None else text
        for text, target in zip(texts, known.targets, strict=True)
    ]


def found_in(texts: Sequence[str], task: WrittenReport) -> NDArray[np.bool_]:
    """Which findings each text says are there or may be ``(n, K)``."""
    said = np.array([task.said_in(text) for text in texts]).reshape(len(texts), len(task.findings))
    return np.asarray(said > 0)


def source_images(source: ImageSource, data: AttackData, spec: ModelSpec, seed: int) -> Array | None:
    """The images ``(n, *shape)`` of a source; noise has as many as the pool, drawn evenly over the model's range.

    Raises `MedwardError` for another source, and for noise about a model without a range.
    """
    if source not in get_args(ImageSource):
        raise MedwardError(f"source: must be one of {', '.join(get_args(ImageSource))}, got {source!r}")
    if source == "in-domain":
        return np.asarray(data.craft.inputs, np.float32)
    if source == "pool" or data.pool is None:
        return data.pool
    if spec.low is None or spec.high is None:
        raise MedwardError(f"{spec.name}: noise needs a range, and it has low = {spec.low} and high = {spec.high}")
    drawn = np.random.default_rng(seed).uniform(spec.low, spec.high, data.pool.shape)
    return np.clip(drawn.astype(np.float32), np.float32(spec.low), np.float32(spec.high))


def source_knowledge(source: ImageSource) -> str:
    """What a thief with images of that source holds, in words."""
    return _KNOWN.get(source, "")
