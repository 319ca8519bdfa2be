"""Unsupervised adversarial fine-tuning of what sees in a network that writes about images.

The part that sees is trained so that under any small change of an image it sees what it saw in the image before
training; the text decoder is left as it is, and reads the same features as ever. So images are all that is needed: no
label, no report. Weighed against it is how far unchanged images may be seen otherwise.

Reference: Schlarmann, Singh, Croce, Hein, "Robust CLIP: unsupervised adversarial fine-tuning of vision embeddings for
robust large vision-language models", ICML 2024, eq. 3 and 4 (FARE). Theirs is of one vector an image and has no term
of unchanged images; here it is of every place that the decoder reads, and relative to how much images differ there.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.harden.network import Rows
from medward.guard.harden.robust.inner import TrainingBall, frozen_statistics, inner_ascent
from medward.guard.harden.robust.training import Objective, Training, train_network
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.models.torch_front import fronted
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

_FEWEST = 20  # images of a part
_AT_ONCE = 64
_ASCENT = 10  # steps of the change that a shift is stated under
_STEP = 0.25  # of the radius
_MEASURE = "features kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureShift:
    """A feature shift says how far features move from the original ones, `clean` and `attacked`, on average.

    It is the squared distance over that between images of the original features: 0 is not at all, and at 1 a feature
    tells no more of its image than of any other. `attacked` is a search's, so no bound.
    """

    clean: float
    attacked: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HardenedTower:
    """A hardened tower is a copy of a `writer` whose tower was trained, and the shifts `before` and `after`.

    `epoch` of `epochs` is the one that was kept.
    """

    writer: PretrainedWriter
    before: FeatureShift
    after: FeatureShift
    epoch: int
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerTraining:
    """Tower training: `steps` signed steps of `step` radii up the distance from the original features within `epsilon`.

    `clean` weighs the distance of unchanged images. `epsilon` is in input units.
    """

    epsilon: float = 8 / 255
    steps: int = 5
    step: float = 0.35
    clean: float = 1.0
    training: Training = field(default_factory=lambda: Training(epochs=20, rate=1e-3, weight_decay=1e-4))

    def harden(
        self, writer: PretrainedWriter, spec: ModelSpec, train: Array, selection: Array, *, seed: int
    ) -> HardenedTower:
        """A copy of `writer`, which writes as `spec` says, trained on images ``train (n, *shape)`` alone.

        `selection` are images of others, on which the epoch is chosen and shifts are stated. The same seed gives the
        same weights on the same machine. Raises `MedwardError` for a radius that is none, images of another shape and
        fewer than `_FEWEST` of them.
        """
        if not 0 < self.epsilon < math.inf:
            raise MedwardError(f"epsilon: must be a finite number above 0, got {self.epsilon:g}")
        self.training.check()
        rows, held = (_images(images, what, spec) for images, what in ((train, "train"), (selection, "selection")))
        device = torch.device(self.training.device)
        ball = TrainingBall.around(rows.x, self.epsilon, spec.low, spec.high)
        ball = replace(ball, radius=ball.radius.to(device))
        teacher, student = (_Sight(writer, spec).to(device) for _ in range(2))
        teacher.requires_grad_(False)
        spread = _spread(teacher, rows.x.to(device))

        def shift(sight: nn.Module, number: int) -> FeatureShift:
            return measure_shift(sight, teacher, held.x.to(device), ball, spread=spread, seed=seed + number)

        def merit(candidate: nn.Module) -> tuple[float, float]:
            found = shift(candidate, 1)
            return 1 / (1 + found.attacked), 1 / (1 + found.clean)

        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            trained = train_network(
                student,
                rows,
                self._objective(teacher, ball, spread, generator),
                merit,
                self.training,
                bounds=(float(rows.x.min()) if spec.low is None else spec.low, _top(rows.x, spec)),
                generator=generator,
                measure=_MEASURE,
            )
        before, after = (shift(each, 2) for each in (teacher, trained.network))
        network = trained.network.network
        network.requires_grad_(False)
        made = PretrainedWriter(network=network.to(writer.network.device), tokenizer=writer.tokenizer)
        return HardenedTower(writer=made, before=before, after=after, epoch=trained.best_epoch, epochs=trained.epochs)

    def _objective(
        self, teacher: nn.Module, full: TrainingBall, spread: Tensor, generator: torch.Generator
    ) -> Objective:
        def loss(network: nn.Module, x: Tensor, _: Tensor, progress: float) -> Tensor:
            ball = full.scaled(self.training.grown(progress))
            with torch.no_grad():
                wanted = teacher(x)
            start = ball.random(tuple(x.shape), generator)
            worst = inner_ascent(
                network,
                x,
                start,
                ball,
                lambda seen: feature_distances(seen, wanted, spread).sum(),
                steps=self.steps,
                step=self.step,
            )
            clean, moved = network(torch.cat([x, worst])).chunk(2)
            away = feature_distances(moved, wanted, spread) + self.clean * feature_distances(clean, wanted, spread)
            return away.mean()

        return loss


def feature_distances(seen: Tensor, wanted: Tensor, spread: Tensor) -> Tensor:
    """The squared distance ``(n,)`` of features ``(n, places, d)``, over the mean one between images, `spread`."""
    return (seen - wanted).square().flatten(1).sum(dim=1) / spread


def measure_shift(
    sight: nn.Module, teacher: nn.Module, x: Tensor, ball: TrainingBall, *, spread: Tensor, seed: int
) -> FeatureShift:
    """How far off `teacher` does `sight` see images ``x (n, *shape)``, as they are and changed for the worst."""
    generator, clean, attacked = torch.Generator().manual_seed(seed), [], []
    for rows in torch.split(x, _AT_ONCE):
        with torch.no_grad():
            wanted = teacher(rows)

        def summed(seen: Tensor, wanted: Tensor = wanted) -> Tensor:
            return feature_distances(seen, wanted, spread).sum()

        start = ball.random(tuple(rows.shape), generator)
        worst = inner_ascent(sight, rows, start, ball, summed, steps=_ASCENT, step=_STEP)
        with frozen_statistics(sight), torch.no_grad():
            clean.append(feature_distances(sight(rows), wanted, spread))
            attacked.append(feature_distances(sight(worst), wanted, spread))
    return FeatureShift(clean=float(torch.cat(clean).mean()), attacked=float(torch.cat(attacked).mean()))


class _Sight(nn.Module):
    """Images to what a copy of a writer's network sees at every place; of its weights the tower's alone are trained."""

    def __init__(self, writer: PretrainedWriter, spec: ModelSpec) -> None:
        super().__init__()
        self.front, self.network = fronted(nn.Identity(), spec), copy.deepcopy(writer.network)
        self.writer = PretrainedWriter(network=self.network, tokenizer=writer.tokenizer)
        self.network.requires_grad_(False)
        self.writer.tower.requires_grad_(True)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(n, *shape)`` to features ``(n, places, d)``."""
        return self.writer.vision_states(self.front(x))


def _spread(sight: nn.Module, x: Tensor) -> Tensor:
    """The mean squared distance of an image's features from those of all images."""
    with torch.no_grad():
        seen = torch.cat([sight(rows) for rows in torch.split(x, _AT_ONCE)])
    return (seen - seen.mean(dim=0)).square().flatten(1).sum(dim=1).mean().clamp_min(1e-12)


def _images(images: Array, what: str, spec: ModelSpec) -> Rows:
    """Images as rows of no label."""
    x = torch.as_tensor(np.asarray(spec.check(np.asarray(images, np.float32))))
    if len(x) < _FEWEST:
        raise MedwardError(f"{what}: needs at least {_FEWEST} images, got {len(x)}")
    return Rows(x=x, y=torch.zeros(len(x)))


def _top(x: Tensor, spec: ModelSpec) -> float:
    return float(x.max()) if spec.high is None else spec.high
