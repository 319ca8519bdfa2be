"""What every method does around its loss: check the rows, copy the network, train, measure, certify."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import JsonValue
from torch import nn

from medward.guard.certificate import EMPIRICAL, Accuracy, Guarantee, RobustnessCertificate
from medward.guard.data.split import Split
from medward.guard.data.split import split_digest as data_digest
from medward.guard.errors import MedwardError
from medward.guard.harden.certificate import Hardened, hardening_versions
from medward.guard.harden.certified.bounds import certified_accuracy, certified_shares, share_doubts
from medward.guard.harden.losses.base import TaskLosses
from medward.guard.harden.losses.table import losses_of
from medward.guard.harden.network import ROWS_PER_BATCH, Rows, Scoring, state_digest, trainable_copy
from medward.guard.harden.robust import estimate
from medward.guard.harden.robust.inner import TrainingBall
from medward.guard.harden.robust.training import Objective, Training, train_network
from medward.guard.harden.task import plain_classification
from medward.guard.models.torch_front import own_module
from medward.guard.spec import AnyTask

PerturbationKind = Literal["universal", "per_input", "certified"]
"""What a method defends against, as a field of `Accuracy`."""
PERTURBATION_WORDS: dict[PerturbationKind, str] = {
    "universal": "one change for all rows",
    "per_input": "a change per row",
    "certified": "any change, by bounds",
}
RANDOM_CHANGE_WORDS: dict[PerturbationKind, str] = {
    **PERTURBATION_WORDS,
    "universal": "the worst random change",
    "per_input": "all random changes",
}
"""The same where the changes were drawn at random, and not searched for."""
CHANCE, GAIN = 0.1, 0.02  # above chance, and above what it was: less is not told from nothing
UNIVERSAL_SEED, REPORT_SEED = 101, 202  # added to the user's seed: choosing and reporting draw different changes

COLLAPSED = "its training collapsed"
"""What a note of a certificate says where the hardened model is hardly better than chance, and the original was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenModel:
    """A given model is the user's own network, the rows it is to be trained on, and what it answers."""

    network: nn.Module
    rows: Rows
    task: AnyTask
    losses: TaskLosses


@dataclass(frozen=True, slots=True)
class Pupil:
    """A pupil is the network whose copy is trained, and what the certificate must note of where it is from."""

    network: nn.Module
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext:
    """A training context is what a method builds its objective from.

    `losses` are those of the task, balanced for the training rows; `teacher` is the network as it came, frozen;
    `student` is the one that is trained; `ball` has the full radius.
    """

    rows: Rows
    losses: TaskLosses
    teacher: Scoring
    student: Scoring
    ball: TrainingBall
    training: Training
    generator: torch.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class HardeningMethod(ABC):
    """What every method is: a radius, settings of the loop, and the objective that it brings.

    `chosen_by` is the kind of change that the epoch is chosen under; `notes` go into every certificate, as does the
    `guarantee`. Settings are by default those of images from 0 to 1; `table_settings` are others for tables, by name.
    """

    name: ClassVar[str]
    chosen_by: ClassVar[PerturbationKind]
    notes: ClassVar[tuple[str, ...]] = ()
    guarantee: ClassVar[Guarantee] = EMPIRICAL
    table_settings: ClassVar[Mapping[str, Any]] = {"epsilon": 1.0}

    epsilon: float = 10 / 255
    training: Training = field(default_factory=Training)

    def for_tables(self) -> Self:
        """The method with its usual settings of tables."""
        return dataclasses.replace(self, **self.table_settings)

    @abstractmethod
    def objective(self, lesson: TrainingContext) -> Objective:
        """The loss that this method trains on."""

    def pupil(self, given: GivenModel) -> Pupil:
        """What is trained: the user's network as it came, unless a method was told to start from another."""
        return Pupil(given.network)

    def harden(
        self,
        network: nn.Module,
        train: Split,
        selection: Split,
        *,
        low: float | None,
        high: float | None,
        seed: int,
        task: AnyTask | None = None,
    ) -> Hardened:
        """See `guard.harden.certificate.Hardener`. Random numbers of the caller's process are left as they were."""
        if not 0 < self.epsilon < math.inf:
            raise MedwardError(f"epsilon: must be a finite number above 0, got {self.epsilon:g}")
        if low is not None and high is not None and not low < high:
            raise MedwardError(f"low: must be below high, got low = {low:g} and high = {high:g}")
        self.training.check()
        losses = None if task is None else losses_of(task)
        rows, held = (
            Rows.of(split, what, low, high, losses) for split, what in ((train, "train"), (selection, "selection"))
        )
        if rows.x.shape[1:] != held.x.shape[1:]:
            raise MedwardError(
                f"selection: shape {tuple(held.x.shape[1:])} is not that of train, {tuple(rows.x.shape[1:])}"
            )
        sample, device = rows.x[:ROWS_PER_BATCH], self.training.device
        task = task or plain_classification(network, sample, device)
        losses = losses_of(task)
        teacher = trainable_copy(network, sample, device, losses).eval().requires_grad_(False)
        losses.check(rows.y, "train", trained=True)
        losses.check(held.y, "selection", trained=False)
        ball = TrainingBall.around(rows.x, self.epsilon, low, high)
        ball = dataclasses.replace(ball, radius=ball.radius.to(self.training.device))
        bounds = (float(rows.x.min()) if low is None else low, float(rows.x.max()) if high is None else high)

        def merit(candidate: nn.Module) -> tuple[float, float]:
            assert isinstance(candidate, Scoring)  # it is a copy of `student`
            if self.chosen_by == "universal":
                robust = estimate.universal_accuracy(candidate, rows, held, ball, seed=seed + UNIVERSAL_SEED)
            elif self.chosen_by == "certified":
                robust = certified_accuracy(candidate, held, ball)
            else:
                robust = estimate.per_input(candidate, held, ball, seed=seed + UNIVERSAL_SEED)
            return robust, estimate.clean_accuracy(candidate, held, ball)

        cuda = [torch.cuda.current_device()] if ball.radius.is_cuda else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)  # dropout draws from the global generator
            generator = torch.Generator().manual_seed(seed)
            pupil = self.pupil(GivenModel(network=network, rows=rows, task=task, losses=losses))
            student = trainable_copy(pupil.network, sample, device, losses)
            lesson = TrainingContext(
                rows=rows,
                losses=losses.balanced(rows.y.to(ball.radius.device)),
                teacher=teacher,
                student=student,
                ball=ball,
                training=self.training,
                generator=generator,
            )
            trained = train_network(
                student,
                rows,
                self.objective(lesson),
                merit,
                self.training,
                bounds=bounds,
                generator=generator,
                measure=losses.measure,
            )
        assert isinstance(trained.network, Scoring)  # it is a copy of what was handed in
        net = trained.network.net.eval().requires_grad_(False)
        bounded = self.chosen_by == "certified"
        before, after = (
            estimate.estimate_accuracies(each, rows, held, ball, seed=seed + REPORT_SEED, bounded=bounded)
            for each in (teacher, trained.network)
        )
        shares = certified_shares(teacher, trained.network, held, ball, self.epsilon) if bounded else ()
        certificate = RobustnessCertificate(
            method=self.name,
            guarantee=self.guarantee,
            certified_shares=shares,
            notes=(
                *self.notes,
                *pupil.notes,
                *share_doubts(shares),
                *certificate_doubts(before, after, losses.measure, losses.chance(held.y), self.chosen_by),
            ),
            settings=method_settings(self),
            epsilon=self.epsilon,
            unit="input units" if rows.x.ndim == 4 else "standard deviations of each feature",
            low=low,
            high=high,
            task=task,
            measure=losses.measure,
            seed=seed,
            rows={"train": len(rows), "selection": len(held)},
            data=data_digest(train, selection),
            original=state_digest(own_module(teacher.net)),
            hardened=state_digest(own_module(net)),
            before=before,
            after=after,
            epochs=trained.epochs,
            best_epoch=trained.best_epoch,
            versions=hardening_versions(),
        )
        return Hardened(net, certificate)


def certificate_doubts(
    before: Accuracy, after: Accuracy, measure: str, chance: float, kind: PerturbationKind
) -> tuple[str, ...]:
    """What a reader of these estimates must be told, a sentence each; nothing where the method did what it is for."""
    told = []
    if before.clean <= chance + CHANCE:
        told.append(
            f"the original is hardly better than chance on the selection rows ({measure} {before.clean:.3f}, of chance "
            f"{chance:.3f}): give a trained model, and labels in the order and the unit of its scores"
        )
    elif after.clean <= chance + CHANCE:
        told.append(
            f"the hardened model is hardly better than chance on the selection rows ({measure} {after.clean:.3f}, of "
            f"chance {chance:.3f}): {COLLAPSED}, and what is certified of it says nothing; give it more "
            "--epochs, or a smaller --epsilon"
        )
    was, became = getattr(before, kind) or 0.0, getattr(after, kind)
    if became <= was + GAIN:
        told.append(
            f"hardening achieved nothing: {measure} under "
            f"{PERTURBATION_WORDS[kind]} was {was:.3f} and is {became:.3f}; "
            "try more --epochs, another --method, or another --epsilon"
        )
    return tuple(told)


def method_settings(method: HardeningMethod) -> dict[str, JsonValue]:
    """A method's settings as plain data; a function is named by where it can be imported from."""
    return {each.name: _plain(getattr(method, each.name)) for each in dataclasses.fields(method)}


def _plain(value: object) -> JsonValue:
    if isinstance(value, Training):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if callable(value):
        return f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value if isinstance(value, bool | int | float | str | None) else str(value)
