"""A thief with public images of the same kind: asks about few, and learns from the others what the few teach.

A clone of the answers labels the other rows where it is sure on a slightly changed view, and learns to say the same of
a strongly changed one. This is for images: rows of a table only get noise. The paper's thief sees
labels alone; run this with ``labels="hard"`` to be that one.

Reference: "QueryWise" model stealing on medical images, arXiv 2506.19464, whose idea this follows; pseudo-labels as in
Sohn et al., "FixMatch: simplifying semi-supervised learning with consistency and confidence", NeurIPS 2020.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers, distil_clone
from medward.attacks.extraction.pool import PoolChooser
from medward.attacks.learners.table import check_classes
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

_BATCH = 64
_RATE = 1e-3
_SHIFT = 2  # pixels
WEAK, STRONG = 0.02, 0.15  # noise in standard deviations of all rows
COVERED = 0.2  # of each side of an image, by one patch of its mean


@dataclass(frozen=True, slots=True, kw_only=True)
class SemiSupervised:
    """Random rows of ``data.craft``, used without labels; `sure` is the confidence from which a pseudo-label counts."""

    name: str = "semi-supervised"
    knowledge: str = "unlabelled public images of the same kind as the model's own data"
    step: int | None = None
    sure: float = 0.95

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> PoolChooser:
        """Begin a theft; see `Strategy`."""
        check_classes(spec, self.name)
        if len(data.craft) == 0:
            raise MedwardError("extraction: semi-supervised needs in-distribution rows, craft has none")
        return _Student(self.sure, replace(data, pool=data.craft.inputs), spec, seed)


class _Student(PoolChooser):
    def __init__(self, sure: float, data: AttackData, spec: ModelSpec, seed: int) -> None:
        super().__init__(data, spec, seed)
        self._sure = sure

    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        return self.rng.permutation(free)[:count]

    def learn(self, loot: StolenAnswers, *, epochs: int, seed: int) -> nn.Module | None:
        """A clone of the answers, trained on with all rows; nothing is kept between calls, so none sees another's."""
        teacher = distil_clone(self.spec, loot, epochs=epochs, seed=seed)
        if teacher is None:
            return None
        known = loot.known
        seen = {row.tobytes() for row in np.ascontiguousarray(known.inputs, np.float32)}
        rest = np.array([row.tobytes() not in seen for row in np.ascontiguousarray(self.pool)], bool)
        return fix_match(teacher, known, self.pool[rest], self.spec, sure=self._sure, epochs=epochs, seed=seed)


def fix_match(
    teacher: nn.Module, known: StolenAnswers, others: Array, spec: ModelSpec, *, sure: float, epochs: int, seed: int
) -> nn.Module:
    """`teacher` trained further on the answers in `known` and the unlabelled `others (m, *shape)`.

    An epoch is one pass over the longer of the two. Returns it as it is when there are no others.
    """
    if len(others) == 0:
        return teacher
    student = copy.deepcopy(teacher).train().requires_grad_(True)
    x, y = torch.as_tensor(np.array(known.inputs)), torch.as_tensor(np.array(known.targets, np.float32))
    rest = torch.as_tensor(np.array(others))
    views = _Views(spec, rest, torch.Generator().manual_seed(seed))
    steps = epochs * -(-max(len(x), len(rest)) // _BATCH)
    optimiser = torch.optim.AdamW(student.parameters(), lr=_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        some, free = views.pick(len(x)), rest[views.pick(len(rest))]
        with torch.no_grad():
            sureness, guess = torch.softmax(student(views.weak(free)), dim=1).max(dim=1)
        gap = F.cross_entropy(student(views.strong(free)), guess, reduction="none")
        loss = F.cross_entropy(student(views.weak(x[some])), y[some]) + (gap * (sureness >= sure)).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    return student.eval().requires_grad_(False)


class _Views:
    """Changed copies of rows, which keep their class: noise, and for images shifts, contrast and a covered patch."""

    def __init__(self, spec: ModelSpec, rows: Tensor, generator: torch.Generator) -> None:
        self._image, self._generator = spec.modality == "image", generator
        self._spread = rows.std() if self._image else rows.std(dim=0, correction=0)

    def pick(self, n: int) -> Tensor:
        return torch.randint(n, (_BATCH,), generator=self._generator)

    def weak(self, x: Tensor) -> Tensor:
        return self._noisy(self._shifted(x) if self._image else x, WEAK)

    def strong(self, x: Tensor) -> Tensor:
        if not self._image:
            return self._noisy(x, STRONG)
        factor = 0.7 + 0.6 * torch.rand((len(x), 1, 1, 1), generator=self._generator)
        mean = x.mean(dim=(2, 3), keepdim=True)
        changed = self._noisy(mean + factor * (self._shifted(x) - mean), STRONG)
        height, width = (max(1, round(COVERED * side)) for side in x.shape[2:])
        top, left = self._upto(x.shape[2] - height), self._upto(x.shape[3] - width)
        changed[:, :, top : top + height, left : left + width] = mean
        return changed

    def _shifted(self, x: Tensor) -> Tensor:
        wide = F.pad(x, (_SHIFT,) * 4, mode="replicate")
        top, left = self._upto(2 * _SHIFT), self._upto(2 * _SHIFT)
        return wide[:, :, top : top + x.shape[2], left : left + x.shape[3]]

    def _noisy(self, x: Tensor, size: float) -> Tensor:
        return x + size * self._spread * torch.randn(x.shape, generator=self._generator)

    def _upto(self, most: int) -> int:
        return int(torch.randint(most + 1, (1,), generator=self._generator))
