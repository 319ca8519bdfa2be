"""What every method does around its loss: check the rows, copy the network, train, measure, certify."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from guard.data import Split
from guard.data import digest as data_digest
from guard.errors import MedwardError
from guard.harden import estimate
from guard.harden.base import Certificate, Hardened, versions
from guard.harden.inner import Ball
from guard.harden.subject import BATCH, Rows, Scoring, check_labels, digest, subject
from guard.harden.training import Objective, Training, fit

UNIVERSAL_SEED, REPORT_SEED = 101, 202  # added to the user's seed: choosing and reporting draw different changes


class Method(Protocol):
    """What a method's dataclass has in common with the others."""

    @property
    def name(self) -> str:
        """The method."""
        ...

    @property
    def epsilon(self) -> float:
        """The radius asked for."""
        ...

    @property
    def training(self) -> Training:
        """Settings of the loop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a method builds its objective from.

    `weight (K,)` balances the classes; `teacher` is the network as it came, frozen; `ball` has the full radius.
    """

    rows: Rows
    classes: int
    weight: Tensor
    teacher: Scoring
    ball: Ball
    training: Training
    generator: torch.Generator


def run(
    method: Method,
    objective: Callable[[Lesson], Objective],
    network: nn.Module,
    train: Split,
    selection: Split,
    *,
    low: float | None,
    high: float | None,
    seed: int,
    chosen_by: Literal["universal", "per_input"],
    note: str = "",
) -> Hardened:
    """Harden a copy of `network` by the loss that `objective` makes; `chosen_by` is what the epoch is chosen by.

    Random numbers of the caller's process are left as they were.
    """
    if not 0 < method.epsilon < math.inf:
        raise MedwardError(f"epsilon: must be a finite number above 0, got {method.epsilon:g}")
    if low is not None and high is not None and not low < high:
        raise MedwardError(f"low: must be below high, got low = {low:g} and high = {high:g}")
    method.training.check()
    rows, held = Rows.of(train, "train", low, high), Rows.of(selection, "selection", low, high)
    if rows.x.shape[1:] != held.x.shape[1:]:
        raise MedwardError(
            f"selection: shape {tuple(held.x.shape[1:])} is not that of train, {tuple(rows.x.shape[1:])}"
        )
    student = subject(network, rows.x[:BATCH], method.training.device)
    teacher = subject(network, rows.x[:BATCH], method.training.device).eval().requires_grad_(False)
    classes = _width(teacher, rows)
    for each, what in ((rows, "train"), (held, "selection")):
        check_labels(each, classes, what)
    ball = Ball.around(rows.x, method.epsilon, low, high)
    ball = dataclasses.replace(ball, radius=ball.radius.to(method.training.device))
    bounds = (float(rows.x.min()) if low is None else low, float(rows.x.max()) if high is None else high)

    def merit(candidate: nn.Module) -> tuple[float, float]:
        if chosen_by == "universal":
            robust = estimate.universal(candidate, rows, held, ball, seed=seed + UNIVERSAL_SEED)
        else:
            robust = estimate.per_input(candidate, held, ball, seed=seed + UNIVERSAL_SEED)
        return robust, estimate.clean(candidate, held, ball)

    cuda = [torch.cuda.current_device()] if ball.radius.is_cuda else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)  # dropout draws from the global generator
        generator = torch.Generator().manual_seed(seed)
        lesson = Lesson(
            rows=rows,
            classes=classes,
            weight=len(rows) / (classes * torch.bincount(rows.y, minlength=classes).float().to(ball.radius.device)),
            teacher=teacher,
            ball=ball,
            training=method.training,
            generator=generator,
        )
        trained = fit(student, rows, objective(lesson), merit, method.training, bounds=bounds, generator=generator)
    assert isinstance(trained.network, Scoring)  # it is a copy of what was handed in
    net = trained.network.net.eval().requires_grad_(False)
    certificate = Certificate(
        method=method.name,
        note=note,
        settings=settings(method),
        epsilon=method.epsilon,
        unit="input units" if rows.x.ndim == 4 else "standard deviations of each feature",
        low=low,
        high=high,
        seed=seed,
        classes=classes,
        rows={"train": len(rows), "selection": len(held)},
        data=data_digest(train, selection),
        original=digest(teacher.net),
        hardened=digest(net),
        before=estimate.accuracy(teacher, rows, held, ball, seed=seed + REPORT_SEED),
        after=estimate.accuracy(trained.network, rows, held, ball, seed=seed + REPORT_SEED),
        epochs=trained.epochs,
        best_epoch=trained.best_epoch,
        versions=versions(),
    )
    return Hardened(net, certificate)


def settings(method: Method) -> dict[str, JsonValue]:
    """A method's settings as plain data; a function is named by where it can be imported from."""
    return {field.name: _plain(getattr(method, field.name)) for field in dataclasses.fields(method)}  # type: ignore[arg-type]  # a dataclass


def _plain(value: object) -> JsonValue:
    if isinstance(value, Training):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if callable(value):
        return f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value if isinstance(value, bool | int | float | str | None) else str(value)


@torch.no_grad()
def _width(network: Scoring, rows: Rows) -> int:
    """How many classes the network scores."""
    device = next(network.parameters()).device
    return int(network(rows.x[:2].to(device)).shape[1])
