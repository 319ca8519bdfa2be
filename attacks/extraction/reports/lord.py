"""LoRD-like theft: a text thief that also learns from how its own texts compare, and not from the victim's alone.

After a supervised start the thief draws two texts about each image. The one whose likelihood grew more in its last
period is taken for the better, y+, the other is y-; where neither is likely and the better one hardly grew, y+ is the
victim's text. The loss, least when y- is the less likely beside both others, is

    clip(log p(y-) - log p(y_victim)) + clip(log p(y-) - log p(y+)).

That is the loss of the authors' code (``train_pod2.py`` of github.com/liangzid/LoRD-MEA), where likelihoods are means
over tokens, too. Here `clip` bounds each term from below only, where nothing is left to gain; the victim's text is
learned by cross-entropy beside; the start, thresholds and rates are ours. So this is like LoRD and not LoRD.

Reference: Liang et al., "Alignment-aware model extraction attacks on large language models" (LoRD), arXiv 2409.02718.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medward.attacks.base import AttackData
from medward.attacks.extraction.reports.clone import ImageSource, TextChooser, TextLessons, source_knowledge
from medward.attacks.extraction.reports.distillation import SOURCE_NAMES
from medward.attacks.extraction.reports.student import SmallStudent, StudentMaker, TextStudent
from medward.attacks.extraction.reports.teaching import teach_texts
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

_BATCH = 16
_SLOWER = 0.1  # of the student's own rate, as its weights are trained by then


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparingTheft:
    """A comparing theft learns by supervision for the epochs that it is given, then for `periods` by comparison.

    A text of its own may be the better one if either of the two has a mean log-likelihood of a token of `likely`, or if
    its own has `grown` by so much; `clip` is how far apart two texts' log-likelihoods still pull.
    """

    source: ImageSource = "pool"
    step: int | None = None
    periods: int = 2
    likely: float = math.log(0.5)
    grown: float = 0.1
    clip: float = 1.0
    student: StudentMaker = field(default_factory=SmallStudent)

    def __post_init__(self) -> None:
        if self.periods < 1 or not self.clip > 0:
            raise MedwardError(f"periods, clip: must be at least 1 and above 0, got {self.periods} and {self.clip}")

    @property
    def name(self) -> str:
        """``lord-like``, and the source where it is not the pool."""
        return "lord-like" if self.source == "pool" else f"lord-like-{SOURCE_NAMES.get(self.source, self.source)}"

    @property
    def knowledge(self) -> str:
        """The images it holds."""
        return source_knowledge(self.source)

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> ComparingChooser:
        """Begin a theft; see `Strategy`."""
        return ComparingChooser(self, data, spec, seed)


class ComparingChooser(TextChooser):
    """A comparing chooser asks at random and learns by supervision and by comparison."""

    def __init__(self, settings: ComparingTheft, data: AttackData, spec: ModelSpec, seed: int) -> None:
        super().__init__(data, spec, seed, student=settings.student, source=settings.source)
        self._settings = settings

    def taught(self, student: TextStudent, lessons: TextLessons, epochs: int, seed: int) -> TextStudent:
        """First by `teach_texts`; the half-way model is what likelihoods are seen to grow from."""
        images, texts = lessons.images, lessons.texts
        before, current = (
            teach_texts(student, images, texts, lessons.found, epochs=many, seed=seed)
            for many in (max(1, epochs // 2), epochs)
        )
        generator = torch.Generator().manual_seed(seed)
        for period in range(self._settings.periods):
            after = compared_texts(current, before, images, texts, self._settings, generator, seed=seed + period)
            before, current = current, after
        return current


def preference_loss(better: Tensor, worse: Tensor, victim: Tensor, clip: float) -> Tensor:
    """The loss ``(n,)`` of log-likelihoods ``(n,)`` of the better, the worse and the victim's text.

    Each term falls as the worse text becomes less likely beside the other, down to -`clip`.
    """
    return (worse - victim).clamp(min=-clip) + (worse - better).clamp(min=-clip)


def better_texts(
    drawn: tuple[list[str], list[str]], texts: list[str], now: Array, before: Array, settings: ComparingTheft
) -> tuple[list[str], list[str]]:
    """Of two texts `drawn` for each row the better and the worse, by mean log-likelihoods ``(2, n)`` now and before.

    The victim's `texts` take the better one's place where neither is `likely` and it has not `grown`.
    """
    grown, rows = now - before, range(len(texts))
    best = grown.argmax(axis=0)
    sure = (now.max(axis=0) >= settings.likely) | (grown[best, rows] >= settings.grown)
    better = [drawn[best[row]][row] if sure[row] else texts[row] for row in rows]
    return better, [drawn[1 - best[row]][row] for row in rows]


def compared_texts(
    student: TextStudent,
    before: TextStudent,
    images: Array,
    texts: list[str],
    settings: ComparingTheft,
    generator: torch.Generator,
    *,
    seed: int,
) -> TextStudent:
    """A copy of `student` after one period of comparison: each row is drawn for twice, compared and learned once."""
    x = torch.as_tensor(np.array(images, np.float32))
    drawn = student.write(images, generator=generator), student.write(images, generator=generator)
    now, then = (_chances(each, x, drawn) for each in (student, before))
    better, worse = better_texts(drawn, texts, now, then, settings)
    taught = copy.deepcopy(student)
    network: Any = taught.writer.network
    network.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=_SLOWER * student.rate, weight_decay=1e-3)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout's
        for rows in torch.split(order, _BATCH):
            good, bad, own = (
                -taught.text_losses(x[rows], [kind[row] for row in rows]) for kind in (better, worse, texts)
            )
            loss = (preference_loss(good, bad, own, settings.clip) - own).mean()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
    network.eval().requires_grad_(False)
    return taught


@torch.no_grad()
def _chances(student: TextStudent, x: Tensor, drawn: tuple[list[str], list[str]]) -> Array:
    """Mean log-likelihoods ``(2, n)`` of two texts for each image."""
    return np.stack(
        [
            np.concatenate(
                [
                    -student.text_losses(x[at : at + _BATCH], kind[at : at + _BATCH]).numpy()
                    for at in range(0, len(x), _BATCH)
                ]
            )
            for kind in drawn
        ]
    )
