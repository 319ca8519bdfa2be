"""Interval-bound training: the loss at the worst scores that a bound over the whole ball allows.

What is trained is the network as it will be deployed: dropout does nothing and batch normalisation stands still. The
loss is a share of the task's on the rows as they are, and the rest of it at the worst scores within the bounds. The
share falls from 1 to `clean` while the radius grows from nothing to `margin` radii.

Reference: Gowal, Dvijotham, Stanforth, Bunel, Qin, Uesato, Arandjelovic, Mann, Kohli, "Scalable verified training for
provably robust image classification", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from medward.guard.certificate import PER_ANSWER, Guarantee
from medward.guard.errors import MedwardError
from medward.guard.harden.certified.architecture import WIDTHS, ArchitectureName, known_architecture
from medward.guard.harden.certified.bounds import check_bounds, check_width, score_bounds
from medward.guard.harden.certified.propagation import traced_network
from medward.guard.harden.certified.start import fresh_weights, our_network
from medward.guard.harden.method import GivenModel, HardeningMethod, PerturbationKind, Pupil, TrainingContext
from medward.guard.harden.network import Scoring
from medward.guard.harden.robust.augment import shift_images
from medward.guard.harden.robust.inner import frozen_statistics
from medward.guard.harden.robust.training import Objective, Training

_OURS = (
    "a network of Medward's, {}, was trained in the place of the one given: weights.pt is of "
    "guard.harden.certified.architecture.certified_network"
)
_FRESH = "weights were drawn anew: those given were not gone on from"
_CHOSEN = Training(ramp=0.6, rate=3e-3, augment=shift_images)  # of images the last epoch is kept instead
_TRIED = 16  # rows that the bounds of a network are tried on before it is trained


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedTraining(HardeningMethod):
    """The method: `epsilon` is the radius that answers are to be certified at, and it trains at `margin` times that.

    `clean` is the share of the loss that rows as they are keep. `start` says whether the user's weights are gone on
    from or drawn anew; `architecture` other than "own" trains a network of ours in the place of the user's, which is
    always fresh. Of images the last epoch is kept, where most is certified: the best by few rows was one of the first.
    """

    name: ClassVar = "certified"
    chosen_by: ClassVar[PerturbationKind] = "certified"
    guarantee: ClassVar[Guarantee] = PER_ANSWER
    table_settings: ClassVar[Mapping[str, Any]] = {"epsilon": 0.25, "margin": 1.5, "training": _CHOSEN}

    epsilon: float = 4 / 255
    margin: float = 2.5
    clean: float = 0.3
    start: Literal["trained", "fresh"] = "trained"
    architecture: ArchitectureName = "own"
    training: Training = field(default_factory=lambda: replace(_CHOSEN, keep_last=True, stretch=1.5))

    def pupil(self, given: GivenModel) -> Pupil:
        """The network as it came, with weights drawn anew, or ours."""
        if known_architecture(self.architecture) != "own":
            return Pupil(our_network(given, width=WIDTHS[self.architecture]), (_OURS.format(self.architecture),))
        return Pupil(fresh_weights(given.network), (_FRESH,)) if self.start == "fresh" else Pupil(given.network)

    def objective(self, lesson: TrainingContext) -> Objective:
        """The task's weighted loss, clean and at the worst scores within the bounds.

        Raises `MedwardError` for a network without bounds, and for one whose bounds training cannot narrow.
        """
        if not 0 <= self.clean < 1:
            raise MedwardError(f"clean: must be a share from 0 to below 1, got {self.clean:g}")
        if not self.margin > 0:
            raise MedwardError(f"margin: must be a number above 0, got {self.margin:g}")
        ball, losses = lesson.ball.scaled(self.margin), lesson.losses
        assert isinstance(lesson.student, Scoring)
        tried = lesson.rows.x[:_TRIED].to(ball.radius.device)
        check_bounds(lesson.student, tried, ball, lesson.generator)
        check_width(lesson.student, tried, lesson.ball)
        graph = traced_network(lesson.student.net)

        def loss(network: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
            assert isinstance(network, Scoring)
            grown = lesson.training.grown(progress)
            share = 1 - (1 - self.clean) * grown
            with frozen_statistics(network):
                scores, bounds = network(x), score_bounds(network, graph, x, ball.scaled(grown))
            return share * losses.loss(scores, y) + (1 - share) * losses.loss(losses.worst_scores(bounds, y), y)

        return loss
