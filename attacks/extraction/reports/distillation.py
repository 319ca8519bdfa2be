"""Text distillation: ask about images, train a report model of one's own on the texts that come back.

About natural images this is Knockoff with texts; about images of the same kind, or noise, it is what else a thief could
hold. No image is changed.

References: Orekondy, Schiele and Fritz, "Knockoff Nets", CVPR 2019, random strategy; Kim and Rush, "Sequence-level
knowledge distillation", EMNLP 2016 (learning from a teacher's texts alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medward.attacks.base import AttackData
from medward.attacks.extraction.reports.clone import ImageSource, SupervisedChooser, source_knowledge
from medward.attacks.extraction.reports.student import SmallStudent, StudentMaker
from medward.guard.spec import ModelSpec

SOURCE_NAMES: Mapping[ImageSource, str] = {"pool": "knockoff", "in-domain": "in-domain", "noise": "noise"}
"""What a text thief is called by where its images come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDistillation:
    """Text distillation asks about random images of a `source`, each once, and learns their texts as they are."""

    source: ImageSource = "pool"
    step: int | None = None
    student: StudentMaker = field(default_factory=SmallStudent)

    @property
    def name(self) -> str:
        """``knockoff``, or the source."""
        return SOURCE_NAMES.get(self.source, self.source)

    @property
    def knowledge(self) -> str:
        """The images it holds."""
        return source_knowledge(self.source)

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> SupervisedChooser:
        """Begin a theft; see `Strategy`."""
        return SupervisedChooser(data, spec, seed, student=self.student, source=self.source)
