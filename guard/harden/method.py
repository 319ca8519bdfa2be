"""What every method does around its loss: check the rows, copy the network, train, measure, certify."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from medward.guard.data.split import Split
from medward.guard.data.split import split_digest as data_digest
from medward.guard.errors import MedwardError
from medward.guard.harden.certificate import Accuracy, Certificate, Hardened, hardening_versions
from medward.guard.harden.network import ROWS_PER_BATCH, Rows, Scoring, check_labels, state_digest, trainable_copy
from medward.guard.harden.robust import estimate
from medward.guard.harden.robust.inner import TrainingBall
from medward.guard.harden.robust.training import Objective, Training, fit_network

PerturbationKind = Literal["universal", "per_input"]
"""What a method defends against, as a field of `Accuracy`."""
PERTURBATION_WORDS: dict[PerturbationKind, str] = {
    "universal": "one change for all rows",
    "per_input": "a change per row",
}
CHANCE, GAIN = 0.1, 0.02  # above chance, and above what it was: less is not told from nothing
UNIVERSAL_SEED, REPORT_SEED = 101, 202  # added to the user's seed: choosing and reporting draw different changes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext:
    """What a method builds its objective from.

    `weight (K,)` balances the classes; `teacher` is the network as it came, frozen; `ball` has the full radius.
    """

    rows: Rows
    classes: int
    weight: Tensor
    teacher: Scoring
    ball: TrainingBall
    training: Training
    generator: torch.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class HardeningMethod(ABC):
    """What every method is: a radius, settings of the loop, and the objective that it brings.

    `chosen_by` is the kind of change that the epoch is chosen under; `notes` go into every certificate.
    """

    name: ClassVar[str]
    chosen_by: ClassVar[PerturbationKind]
    notes: ClassVar[tuple[str, ...]] = ()

    epsilon: float = 10 / 255
    training: Training = field(default_factory=Training)

    @abstractmethod
    def objective(self, lesson: TrainingContext) -> Objective:
        """The loss that this method trains on."""

    def harden(
        self,
        network: nn.Module,
        train: Split,
        selection: Split,
        *,
        low: float | None,
        high: float | None,
        seed: int,
        threshold: float | None = None,
    ) -> Hardened:
        """See `guard.harden.certificate.Hardener`. Random numbers of the caller's process are left as they were."""
        if not 0 < self.epsilon < math.inf:
            raise MedwardError(f"epsilon: must be a finite number above 0, got {self.epsilon:g}")
        if low is not None and high is not None and not low < high:
            raise MedwardError(f"low: must be below high, got low = {low:g} and high = {high:g}")
        self.training.check()
        rows, held = Rows.of(train, "train", low, high), Rows.of(selection, "selection", low, high)
        if rows.x.shape[1:] != held.x.shape[1:]:
            raise MedwardError(
                f"selection: shape {tuple(held.x.shape[1:])} is not that of train, {tuple(rows.x.shape[1:])}"
            )
        student = trainable_copy(network, rows.x[:ROWS_PER_BATCH], self.training.device, threshold)
        teacher = (
            trainable_copy(network, rows.x[:ROWS_PER_BATCH], self.training.device, threshold)
            .eval()
            .requires_grad_(False)
        )
        classes = _width(teacher, rows)
        for each, what in ((rows, "train"), (held, "selection")):
            check_labels(each, classes, what)
        ball = TrainingBall.around(rows.x, self.epsilon, low, high)
        ball = dataclasses.replace(ball, radius=ball.radius.to(self.training.device))
        bounds = (float(rows.x.min()) if low is None else low, float(rows.x.max()) if high is None else high)

        def merit(candidate: nn.Module) -> tuple[float, float]:
            if self.chosen_by == "universal":
                robust = estimate.universal_accuracy(candidate, rows, held, ball, seed=seed + UNIVERSAL_SEED)
            else:
                robust = estimate.per_input(candidate, held, ball, seed=seed + UNIVERSAL_SEED)
            return robust, estimate.clean_accuracy(candidate, held, ball)

        cuda = [torch.cuda.current_device()] if ball.radius.is_cuda else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)  # dropout draws from the global generator
            generator = torch.Generator().manual_seed(seed)
            lesson = TrainingContext(
                rows=rows,
                classes=classes,
                weight=len(rows) / (classes * torch.bincount(rows.y, minlength=classes).float().to(ball.radius.device)),
                teacher=teacher,
                ball=ball,
                training=self.training,
                generator=generator,
            )
            trained = fit_network(
                student, rows, self.objective(lesson), merit, self.training, bounds=bounds, generator=generator
            )
        assert isinstance(trained.network, Scoring)  # it is a copy of what was handed in
        net = trained.network.net.eval().requires_grad_(False)
        before = estimate.estimate_accuracies(teacher, rows, held, ball, seed=seed + REPORT_SEED)
        after = estimate.estimate_accuracies(trained.network, rows, held, ball, seed=seed + REPORT_SEED)
        certificate = Certificate(
            method=self.name,
            notes=(*self.notes, *certificate_doubts(before, after, classes, self.chosen_by)),
            settings=method_settings(self),
            epsilon=self.epsilon,
            unit="input units" if rows.x.ndim == 4 else "standard deviations of each feature",
            low=low,
            high=high,
            threshold=threshold,
            seed=seed,
            classes=classes,
            rows={"train": len(rows), "selection": len(held)},
            data=data_digest(train, selection),
            original=state_digest(teacher.net),
            hardened=state_digest(net),
            before=before,
            after=after,
            epochs=trained.epochs,
            best_epoch=trained.best_epoch,
            versions=hardening_versions(),
        )
        return Hardened(net, certificate)


def certificate_doubts(before: Accuracy, after: Accuracy, classes: int, kind: PerturbationKind) -> tuple[str, ...]:
    """What a reader of these estimates must be told, a sentence each; nothing where the method did what it is for."""
    told = []
    if before.clean <= 1 / classes + CHANCE:
        told.append(
            f"the original is hardly better than chance on the selection rows (balanced accuracy {before.clean:.3f} of "
            f"{classes} classes): give a trained model, and labels in the order of its scores"
        )
    was, became = getattr(before, kind), getattr(after, kind)
    if became <= was + GAIN:
        told.append(
            f"hardening achieved nothing: balanced accuracy under "
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


@torch.no_grad()
def _width(network: Scoring, rows: Rows) -> int:
    """How many classes the network scores."""
    device = next(network.parameters()).device
    return int(network(rows.x[:2].to(device)).shape[1])
