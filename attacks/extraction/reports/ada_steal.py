"""ADA-STEAL: a medical report model is stolen with photographs that are moved towards reports it rarely writes.

In rounds: ask about images, train a report model of one's own on the texts, have an oracle enrich them with other
findings, and find noise under which one's own model writes the enriched report; those images are asked next.

What is known is the abstract: black-box access to text, natural images, an oracle's enrichment, adversarial domain
alignment, and that the ablations of both help. Radius, steps, rounds, budget, models and prompts of the paper are not
known to us: every number here is our choice. So are these:

- Each round moves images that were not asked before, so that thieves with and without noise see equally many
  photographs, and no image is asked twice.
- The model that images are moved on is trained anew in each round, for `epochs`, and up to four times as long on fewer
  than `MANY_ANSWERS`, since noise for a model that sees little moves no victim; the last clone is `Theft`'s.
- Enriched reports are aims and not answers: the clone learns what the victim wrote and nothing else.
- "enrich" without noise asks, for each enriched report, the likeliest of `considered` photographs as it is.
- "align" without enrichment moves images towards reports that the victim wrote about other images.
- A report that the oracle did not change is no aim: its image is asked as it is.

Reference: Shen, Zhuang, Yuan, Nicolae, Navab, Padoy and Fritz, "Medical multimodal model stealing attacks via
adversarial domain alignment", AAAI 2025, arXiv 2502.02438.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.pool import POOL_KNOWLEDGE
from medward.attacks.extraction.reports.clone import ReportClone, SupervisedChooser, learned_texts
from medward.attacks.extraction.reports.enrichment import Recombination, ReportOracle
from medward.attacks.extraction.reports.student import SmallStudent, StudentMaker, TextStudent
from medward.attacks.extraction.reports.text_alignment import align_images, image_losses
from medward.attacks.whitebox.ball import Ball
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

StealingParts = Literal["plain", "enrich", "align", "both"]
"""Which of enrichment and alignment a thief has; plain is Knockoff with texts, asked in rounds."""
MANY_ANSWERS = 800
"""Answers from which a model is trained no longer than it is said."""
EPSILON = 16 / 255
"""The radius of the noise where nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaSteal:
    """ADA-STEAL asks `step` images a round, after the first moved within `epsilon` by `steps` steps.

    `epsilon` is an L-infinity radius as a share of the model's range of values, in input units where it has none; the
    range is kept to. So a budget of n rows is n / `step` rounds. `parts` are the ablations.
    """

    knowledge: str = POOL_KNOWLEDGE
    step: int | None = 250
    parts: StealingParts = "both"
    epsilon: float = EPSILON
    steps: int = 10
    epochs: int = 10
    considered: int = 8
    oracle: ReportOracle = field(default_factory=Recombination)
    student: StudentMaker = field(default_factory=SmallStudent)

    def __post_init__(self) -> None:
        if self.parts not in get_args(StealingParts):
            raise MedwardError(f"parts: must be one of {', '.join(get_args(StealingParts))}, got {self.parts!r}")
        for key in ("steps", "epochs", "considered"):
            if getattr(self, key) < 1:
                raise MedwardError(f"{key}: must be at least 1, got {getattr(self, key)}")

    @property
    def name(self) -> str:
        """``ada-steal``, then the ablation, and the radius in grey levels of 255 where it is another than `EPSILON`."""
        faint = self.parts in ("align", "both") and self.epsilon != EPSILON
        parts = ["ada-steal", *([] if self.parts == "both" else [self.parts])]
        return "-".join([*parts, *([f"{255 * self.epsilon:g}"] if faint else [])])

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> AlignedChooser:
        """Begin a theft; see `Strategy`."""
        return AlignedChooser(self, data, spec, seed)


@dataclass(frozen=True, slots=True)
class TextAims:
    """Text aims are what the next images shall yield: a text each, which of them ``(n,)`` are aims, and a model."""

    texts: list[str]
    open: NDArray[np.bool_]
    student: TextStudent | None


class AlignedChooser(SupervisedChooser):
    """An aligned chooser asks what its own model, trained on the answers so far, finds likeliest for its aims."""

    def __init__(self, settings: AdaSteal, data: AttackData, spec: ModelSpec, seed: int) -> None:
        super().__init__(data, spec, seed, student=settings.student)
        scale = 1.0 if spec.low is None or spec.high is None else spec.high - spec.low
        self._settings, self._seed = settings, seed
        self._ball = Ball.of(spec, self.pool, settings.epsilon * scale)
        self._draws = np.random.default_rng(seed + 1)  # so that what is drawn of the pool rests on no aim

    def ask(self, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Array:
        """Images of the pool, moved towards their aims once there are any."""
        images = super().ask(count, loot, clone)
        if self._settings.parts not in ("align", "both"):
            return images
        aims = self._aims(len(images), loot)
        if aims.student is None:
            return images
        texts = [text for text, wanted in zip(aims.texts, aims.open, strict=True) if wanted]
        moved = align_images(aims.student, images[aims.open], texts, self._ball, steps=self._settings.steps)
        images[aims.open] = moved
        return images

    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        """At random; with enrichment alone the likeliest of a few for each aim."""
        shuffled = self.rng.permutation(free)
        if self._settings.parts != "enrich":
            return shuffled[:count]
        aims = self._aims(count, loot)
        few = max(1, min(self._settings.considered, len(free) // max(1, count)))
        if aims.student is None or few == 1:
            return shuffled[:count]
        among = shuffled[: count * few].reshape(count, few)
        losses = image_losses(aims.student, self.pool[among.ravel()], [text for text in aims.texts for _ in range(few)])
        best = np.where(aims.open, losses.reshape(count, few).argmin(axis=1), 0)
        return np.asarray(among[np.arange(count), best])

    def _aims(self, count: int, loot: StolenAnswers) -> TextAims:
        """What the next `count` images shall yield, from the texts that left so far."""
        known = loot.known
        if count == 0 or len(known) == 0:
            return TextAims([], np.zeros(count, bool), None)
        seen = learned_texts(known, self.task)
        drawn = [seen[at] for at in self._draws.integers(len(seen), size=count)]
        if self._settings.parts == "align":
            texts, wanted = drawn, np.ones(count, bool)
        else:
            oracle, seed = self._settings.oracle, int(self._draws.integers(2**31))
            texts = oracle.enrich(drawn, seen, self.task, seed=seed)
            wanted = np.array([new != old for new, old in zip(texts, drawn, strict=True)])
        return TextAims(texts, wanted, self._current(loot) if wanted.any() else None)

    def _current(self, loot: StolenAnswers) -> TextStudent | None:
        """The thief's model of this round."""
        longer = min(4.0, max(1.0, MANY_ANSWERS / len(loot.known)))
        learned = self.learn(loot, epochs=round(self._settings.epochs * longer), seed=self._seed)
        return learned.student if isinstance(learned, ReportClone) else None
