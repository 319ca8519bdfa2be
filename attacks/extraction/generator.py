"""Thieves without data: a generator draws what they ask, and is taught where a clone has most to learn."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import Distiller, StolenAnswers
from medward.attacks.whitebox.surrogate import answered_rows, fit_classifier
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

DATA_FREE_KNOWLEDGE = "the shape and range of an input, no data"
LATENT = 64
WIDTH = 32
REACH = 3.0  # spreads around the mean in which rows of unbounded features lie
_RATE = 1e-3
REPLAYED = 64  # earlier answers in each step of an online clone


class Generator(nn.Module):
    """From latent ``(n, LATENT)`` to values before `squash`, which bounds them, ``(n, *shape)``."""

    def __init__(self, shape: tuple[int, ...], low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        if len(shape) == 1:
            self.net = nn.Sequential(
                *[nn.Linear(LATENT, 2 * WIDTH), nn.BatchNorm1d(2 * WIDTH), nn.ReLU()],
                *[nn.Linear(2 * WIDTH, shape[0]), nn.BatchNorm1d(shape[0], affine=False)],
            )
            return
        small = (-(-shape[1] // 4), -(-shape[2] // 4))
        self.net = nn.Sequential(
            *[nn.Linear(LATENT, WIDTH * small[0] * small[1]), nn.Unflatten(1, (WIDTH, *small)), nn.BatchNorm2d(WIDTH)],
            *[nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()],
            *[nn.Upsample(size=shape[1:]), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()],
            *[nn.Conv2d(WIDTH, shape[0], 3, padding=1), nn.BatchNorm2d(shape[0], affine=False)],
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Values before `squash`."""
        values: Tensor = self.net(latent)
        return values

    def squash(self, values: Tensor) -> Tensor:
        """Inputs of the model, whatever the `values`."""
        low, high = self.get_buffer("low"), self.get_buffer("high")
        return torch.clamp(low + (high - low) * torch.sigmoid(values), low, high)


@dataclass(slots=True)
class Block:
    """Rows drawn together: one input for each of `latent (b, LATENT)`, then what `probes (m, p, *shape)` make of p.

    `start` is the number of rows asked before.
    """

    start: int
    latent: Tensor
    probes: Tensor
    size: int


class GeneratorChooser(Distiller):
    """Asks what its generator draws, block by block. An answered block teaches the online clones and the generator.

    Online clones only steer; the clone that counts is distilled from every answer. Features without bounds are drawn
    within `REACH` spreads of the pool's mean, which for a table is what its publication prints.
    """

    def __init__(self, data: AttackData, spec: ModelSpec, *, clones: int, batch: int, seed: int) -> None:
        super().__init__(spec)
        low, high = _range(data, spec)
        self.noise = torch.Generator().manual_seed(seed)
        self._batch, self._asked = batch, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = Generator(spec.shape, low, high).train()
        drawn = self.draw(torch.randn(256, LATENT, generator=self.noise))
        self.clones = [_untrained(spec, drawn, 1000 * seed + k) for k in range(clones)]
        self.climber = torch.optim.Adam(self.generator.parameters(), lr=_RATE)
        self._learners = [torch.optim.Adam(clone.parameters(), lr=_RATE) for clone in self.clones]
        self._due = np.zeros((0, *spec.shape), np.float32)
        self._blocks: list[Block] = []

    def ask(self, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Array:
        """The rest of the blocks drawn, and new ones as far as they are needed."""
        while self._blocks and self._blocks[0].start + self._blocks[0].size <= len(loot):
            block = self._blocks.pop(0)
            answers = loot.take(slice(block.start, block.start + block.size))
            self._train_clones(answers, loot)
            self.improve(block, answers)
        while len(self._due) < count:
            self._due = np.concatenate([self._due, self._next_block()])
        asked, self._due = self._due[:count], self._due[count:]
        self._asked += len(asked)
        return asked

    @abstractmethod
    def improve(self, block: Block, answers: StolenAnswers) -> None:
        """Teach the generator from an answered block."""

    def probes(self) -> Tensor:
        """Directions ``(m, p, *shape)`` in which the first p rows of the next block are asked again; none."""
        return torch.zeros(0, 0, *self.spec.shape)

    @torch.no_grad()
    def draw(self, latent: Tensor, probes: Tensor | None = None) -> Array:
        """Inputs ``(b + m * p, *shape)``: one for each of `latent`, then the first ones moved by each probe."""
        values = self.generator(latent)
        parts = [values] if probes is None else [values, *(values[: probes.shape[1]] + probe for probe in probes)]
        return np.asarray(self.generator.squash(torch.cat(parts)).numpy())

    def _next_block(self) -> Array:
        latent, probes = torch.randn(self._batch, LATENT, generator=self.noise), self.probes()
        rows = self.draw(latent, probes)
        self._blocks.append(Block(self._asked + len(self._due), latent, probes, len(rows)))
        return rows

    def _train_clones(self, new: StolenAnswers, loot: StolenAnswers) -> None:
        """One step of each online clone on the new answers and on as many earlier ones as `REPLAYED`."""
        fresh, known = new.known, np.flatnonzero(answered_rows(loot.targets))
        if len(known) == 0:
            return
        for clone, learner in zip(self.clones, self._learners, strict=True):
            old = loot.take(known[torch.randint(len(known), (REPLAYED,), generator=self.noise).numpy()])
            x = torch.as_tensor(np.concatenate([fresh.inputs, old.inputs]))
            y = torch.as_tensor(np.concatenate([fresh.targets, old.targets]).astype(np.float32))
            learner.zero_grad(set_to_none=True)
            torch.autograd.backward(F.cross_entropy(clone(x), y))
            learner.step()


def _untrained(spec: ModelSpec, rows: Array, seed: int) -> nn.Module:
    """The network of every clone with the scale of `rows` and random weights."""
    net = fit_classifier(
        rows,
        np.zeros(len(rows), np.int64),
        classes=len(spec.classes),
        modality=spec.modality,
        shape=spec.shape,
        epochs=0,
        seed=seed,
        normalised=False,
    )
    return net.train().requires_grad_(True)


def _range(data: AttackData, spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """Where inputs lie, as bounds that broadcast over one input."""
    if spec.low is not None and spec.high is not None:
        return torch.tensor(spec.low), torch.tensor(spec.high)
    if data.pool is None or len(data.pool) == 0:
        raise MedwardError("extraction: inputs have no bounds, so a thief without data needs a pool that shows them")
    pool = torch.as_tensor(np.asarray(data.pool, np.float32))
    mean, spread = pool.mean(dim=0), REACH * pool.std(dim=0, correction=0)
    return (mean - spread).clamp_min(_bound(spec.low, -1)), (mean + spread).clamp_max(_bound(spec.high, 1))


def _bound(bound: float | None, sign: int) -> float:
    return sign * float("inf") if bound is None else bound
