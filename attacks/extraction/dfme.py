"""Data-free theft that measures the victim's slope: the generator seeks where clone and model differ most.

The model's part of the slope comes from forward differences, and every probe is a query. A budget that other thieves
steal a model with is a small one here: expect noise-like queries, which are easy to notice, and a poor clone.

Reference: Truong et al., "Data-free model extraction", CVPR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.generator import DATA_FREE_KNOWLEDGE, Block, GeneratorChooser
from medward.attacks.learners.table import check_classes
from medward.attacks.whitebox.surrogate import answered_rows
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec

_LEAST = 1e-6  # a released probability is taken for at least this


@dataclass(frozen=True, slots=True, kw_only=True)
class DFME:
    """Blocks of `batch` drawn inputs, of which the first `probed` are asked again in each of `directions`.

    `reach` is the length of a probe, before values are bounded.
    """

    name: str = "dfme"
    knowledge: str = DATA_FREE_KNOWLEDGE
    batch: int = 60
    probed: int = 20
    directions: int = 1
    reach: float = 0.1

    def __post_init__(self) -> None:
        if not (self.batch >= 2 and 1 <= self.probed <= self.batch and self.directions >= 1 and self.reach > 0):
            raise MedwardError("dfme: needs batch >= 2, probed from 1 to batch, directions >= 1 and reach > 0")

    @property
    def step(self) -> int:
        """A block."""
        return self.batch + self.probed * self.directions

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> GeneratorChooser:
        """Begin a theft; see `Strategy`."""
        check_classes(spec, self.name)
        return _Differences(self, data, spec, seed)


class _Differences(GeneratorChooser):
    def __init__(self, settings: DFME, data: AttackData, spec: ModelSpec, seed: int) -> None:
        super().__init__(data, spec, clones=1, batch=settings.batch, seed=seed)
        self._settings = settings

    def probes(self) -> Tensor:
        """Random directions of length `reach`."""
        settings = self._settings
        way = torch.randn(settings.directions, settings.probed, *self.spec.shape, generator=self.noise)
        length = torch.linalg.vector_norm(way, dim=tuple(range(2, way.dim())), keepdim=True)
        probes: Tensor = settings.reach * way / length
        return probes

    def improve(self, block: Block, answers: StolenAnswers) -> None:
        """One step up the estimated slope of the gap, through the generator."""
        gap = self._gap(answers)
        directions, probed = block.probes.shape[:2]
        base, moved = gap[:probed], gap[len(block.latent) :].view(directions, probed)
        rise = torch.nan_to_num((moved - base) / self._settings.reach**2)
        slope = (rise.view(directions, probed, *[1] * len(self.spec.shape)) * block.probes).mean(dim=0)
        values = self.generator(block.latent)[:probed]
        self.climber.zero_grad(set_to_none=True)
        torch.autograd.backward(values, -slope / probed)
        self.climber.step()

    @torch.no_grad()
    def _gap(self, answers: StolenAnswers) -> Tensor:
        """The mean absolute difference ``(n,)`` between centred log-probabilities; NaN where nothing was answered."""
        theirs = torch.as_tensor(answers.targets).clamp_min(_LEAST).log()
        mine = torch.log_softmax(self.clones[0](torch.as_tensor(answers.inputs)).double(), dim=1)
        gap = (_centred(theirs) - _centred(mine)).abs().mean(dim=1)
        gap[torch.as_tensor(~answered_rows(answers.targets))] = torch.nan
        return gap.float()


def _centred(logs: Tensor) -> Tensor:
    return logs - logs.mean(dim=1, keepdim=True)
