"""Universal perturbation by hill climbing: no gradients, only the scores the target gives.

One direction at a time, drawn without replacement from the pixels or from the cosine waves of the image up to half
its highest frequency. It is kept, forwards or backwards, when the mean loss over one batch of craft rows
falls. A withheld row counts as the worst there is.

Reference: Koga, Takemoto, "Simple black-box universal adversarial attacks on deep neural networks for medical image
classification", Algorithms 2022, alg. 1; after Guo et al., "Simple black-box adversarial attacks", ICML 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.checks import always_abstains, not_alive, weaker_than_noise
from medward.attacks.evasion.asking import (
    AskedRows,
    BlackBoxSearch,
    asked_rows,
    black_box_answers,
    clean_rows,
    fooled_rows,
    known_answers,
)
from medward.attacks.evasion.fooled_share import counted_classes
from medward.attacks.evasion.perturbation import (
    Tried,
    Universal,
    apply_perturbation,
    chosen_per_row,
    envelope_curve,
    shared_attempt,
    strongest_attempt,
    strongest_noise,
    strongest_radius,
)
from medward.attacks.evasion.setup import NO_ROWS, balls_within
from medward.attacks.evasion.universal import UniversalAttack
from medward.attacks.target import Target
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import MARGIN_CLAMP
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy

Basis = Literal["waves", "pixels"]
LOWEST = 0.5  # the share of frequencies, along each side, that the waves are taken from
ENOUGH = 1.0  # a row beyond success by this much pulls no more
STEP = 0.5  # radii that a direction moves its strongest coordinate


@dataclass(frozen=True, slots=True, kw_only=True)
class HillClimb(UniversalAttack):
    """The attack: `queries` rows are asked in crafting for each radius, `batch` at a time; judging asks more.

    With `per_row` the attacker takes the radius row by row.
    """

    queries: int = 20_000
    batch: int = 50
    basis: Basis = "waves"
    per_row: bool = False

    @property
    def technique(self) -> str:
        """``hill-climb-uap``."""
        return "hill-climb-uap"

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may do."""
        words = self.known(f"black-box: {self.queries} questions to craft with at each size, answered with scores")
        return ThreatModel(access=Access.SCORES, epsilon=self.epsilon, accounts=None, knowledge=words, universal=True)

    def adaptive(self, policy: Policy) -> HillClimb:
        """The same attacker, who follows the guard's answers and knows for each row which radius passes it."""
        return replace(self, per_row=True)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Climb on `batch` craft rows within each of several radii, then judge on ``data.test``; `queries` counts both.

        `attempts` and the curves are those of every universal attack. Raises `MedwardError` for a class
        that is not there, for "worst" and "all", and for a batch below 1.
        """
        if isinstance(self.target_class, str):
            raise MedwardError(
                f"target_class: this attack is for one class or none, got {self.target_class}; run it once per class"
            )
        if self.batch < 1:
            raise MedwardError(f"batch: must be at least 1, got {self.batch}")
        (criterion,) = self.aims(target.spec)
        held = self.held(data)
        ball = Ball.of(target.spec, held.craft.inputs, self.epsilon, norm=self.norm, rules=self.rules).to(
            torch.device(self.device)
        )
        generator = torch.Generator().manual_seed(seed)
        ask = black_box_answers(target)
        nobody = AttackResult(outcome=np.zeros(0, np.bool_), queries=target.queries, flags=(NO_ROWS,))
        if not len(data.test):
            return nobody
        test = np.asarray(data.test.inputs, np.float32)
        clean = target.query(test)
        withheld = float((clean.labels < 0).mean())
        truth = None if data.test.labels is None else torch.as_tensor(data.test.labels, device=self.device)
        own_answers, _ = clean_rows(clean, criterion, self.device, known_answers(data, target.spec))
        rows = criterion.open(own_answers, truth)
        x, y = torch.as_tensor(test, device=self.device)[rows], own_answers[rows]
        if not len(x):
            return replace(nobody, queries=target.queries)
        drawn = torch.randperm(len(held.craft), generator=generator)[: self.batch].numpy()
        held_rows = held.craft.take(drawn)
        some = np.asarray(held_rows.inputs, np.float32)
        own, _ = clean_rows(target.query(some), criterion, self.device, held_rows.labels)
        craft = torch.as_tensor(some, device=self.device)[criterion.open(own)]
        own = own[criterion.open(own)]

        def asked(ball: Ball, delta: Tensor) -> AskedRows:
            return asked_rows(target, apply_perturbation(ball, x, delta), y, criterion)

        decided = criterion.decisions(y).cpu().numpy()
        labels = None if truth is None else truth[rows].cpu().numpy()
        classes, tries = counted_classes(target.spec.task, decided, labels), []
        before = None if clean.uncertified is None else clean.uncertified[rows.cpu().numpy()]
        for factor, smaller in balls_within(ball):
            search = BlackBoxSearch(ask, criterion, smaller, generator)
            climbed = hill_climb(search, craft, own, queries=self.queries, basis=self.basis)
            noise, noisy = strongest_noise(smaller, target.spec.shape, generator, partial(asked, smaller), classes)
            answered = asked(smaller, climbed.delta)
            attempt = shared_attempt(
                answered, noisy, before, radius=factor * self.epsilon, decided=decided, classes=classes
            )
            tries.append(Tried({criterion: climbed}, criterion, criterion, noise, attempt))
        full, best = tries[-1], strongest_radius(tries)
        attempts = chosen_per_row(tries) if self.per_row else tuple(each.attempt for each in tries)
        judged = strongest_attempt(attempts)
        flags = (
            not_alive(self.queries, full.crafted.delta),
            weaker_than_noise(float(full.attempt.fooled.mean()), float(full.attempt.noisy.mean()), len(x)),
            always_abstains(withheld),
        )
        start = float(fooled_rows(target, x, y, criterion).mean())
        return AttackResult(
            outcome=judged.fooled,
            baseline=judged.noisy,
            attempts=attempts,
            flags=tuple(flag for flag in flags if flag),
            curves={
                self.name: envelope_curve(tries, per_row=self.per_row, start=start),
                "random noise": envelope_curve(tries, noise=True, per_row=self.per_row, start=start),
            },
            images={"perturbation": best.crafted.delta[0].cpu().numpy()},
            queries=target.queries,
        )


def hill_climb(search: BlackBoxSearch, x: Tensor, y: Tensor, *, queries: int, basis: Basis) -> Universal:
    """Climb on rows `x (n, *shape)` answered with `y (n,)`, asking about at most `queries` rows."""
    nothing, ball = Universal.nothing(x), search.ball
    if not len(x) or ball.empty or queries < len(x):
        return nothing
    delta = nothing.delta
    history: list[float] = []
    value, won = _merit(search, x, y, delta)
    left = queries - len(x)
    for direction in _directions(tuple(x.shape[1:]), basis, search.generator):
        step = STEP * ball.radius * direction.to(x.device)
        if not bool((step != 0).any()):
            continue
        for move in (step, -step):
            if left < len(x):
                return Universal(delta, won, history, 0)
            left -= len(x)
            tried = ball.shrink(delta + move)
            better, fallen = _merit(search, x, y, tried)
            if better > value:
                delta, value, won = tried, better, fallen
                break
        history.append(won)
    return Universal(delta, won, history, 0)


def _merit(search: BlackBoxSearch, x: Tensor, y: Tensor, delta: Tensor) -> tuple[float, float]:
    """The mean of what the climb raises, the criterion's last shared loss, and the share of rows that win."""
    scores, decided = search.ask(apply_perturbation(search.ball, x, delta))
    shown = torch.isfinite(scores).flatten(1).all(dim=1) & (decided >= 0)
    scores = torch.where(shown.view(-1, *[1] * (scores.ndim - 1)), scores, 0.0)
    gain = search.criterion.shared_losses[-1](scores, y).clamp(-MARGIN_CLAMP, ENOUGH)
    won = search.criterion.answered(scores, decided, y) & shown
    return float(torch.where(shown, gain, -MARGIN_CLAMP).mean()), float(won.float().mean())


def _directions(shape: tuple[int, ...], basis: Basis, generator: torch.Generator) -> Iterator[Tensor]:
    """Directions ``(1, *shape)`` of largest coordinate 1, in random order, again and again.

    Tables and "pixels" take one coordinate at a time; "waves" a cosine wave in one channel.
    """
    spread = basis == "waves" and len(shape) == 3
    sides = [max(1, math.ceil(LOWEST * side)) for side in shape[1:]] if spread else list(shape[1:])
    count = shape[0] * math.prod(sides)
    while True:
        for index in torch.randperm(count, generator=generator).tolist():
            place = np.unravel_index(index, (shape[0], *sides))
            direction = torch.zeros((1, *shape))
            if spread:
                wave = torch.outer(*(_wave(int(k), side) for k, side in zip(place[1:], shape[1:], strict=True)))
                direction[0, int(place[0])] = wave / wave.abs().max()
            else:
                direction[(0, *map(int, place))] = 1.0
            yield direction


def _wave(k: int, side: int) -> Tensor:
    """The k-th cosine of the DCT-II, ``(side,)``."""
    return torch.cos(math.pi * k * (torch.arange(side) + 0.5) / side)
