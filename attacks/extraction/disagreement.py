"""Data-free theft without the victim's slope: the generator seeks where two clones disagree.

Both clones learn the same answers, so what they disagree about is not known yet. No query is spent on slopes, and
labels are enough. At a small budget it stays weak: what it draws need not look like anything the model knows.

Reference: Rosenthal et al., "DisGUIDE: disagreement-guided data-free model extraction", AAAI 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.generator import DATA_FREE_KNOWLEDGE, LATENT, Block, GeneratorChooser
from medward.attacks.learners.table import check_classes
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """Blocks of `batch` drawn inputs; `climbs` steps of the generator between two, `diversity` weighs its classes."""

    name: str = "disagreement"
    knowledge: str = DATA_FREE_KNOWLEDGE
    batch: int = 60
    climbs: int = 3
    diversity: float = 0.2

    def __post_init__(self) -> None:
        if self.batch < 2 or self.climbs < 0 or self.diversity < 0:
            raise MedwardError("disagreement: needs batch >= 2, climbs >= 0 and diversity >= 0")

    @property
    def step(self) -> int:
        """A block."""
        return self.batch

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> GeneratorChooser:
        """Begin a theft; see `Strategy`."""
        check_classes(spec, self.name)
        return _Two(self, data, spec, seed)


class _Two(GeneratorChooser):
    def __init__(self, settings: Disagreement, data: AttackData, spec: ModelSpec, seed: int) -> None:
        super().__init__(data, spec, clones=2, batch=settings.batch, seed=seed)
        self._settings = settings

    def improve(self, block: Block, answers: StolenAnswers) -> None:
        """Climb the spread of the clones' probabilities, and the entropy of their mean over the batch."""
        for _ in range(self._settings.climbs):
            latent = torch.randn(self._settings.batch, LATENT, generator=self.noise)
            inputs = self.generator.squash(self.generator(latent))
            guesses = torch.stack([torch.softmax(clone(inputs), dim=1) for clone in self.clones])
            mean = guesses.mean(dim=(0, 1))
            spread = (guesses[0] - guesses[1]).abs().mean()
            entropy = -(mean * mean.clamp_min(1e-9).log()).sum()
            self.climber.zero_grad(set_to_none=True)
            torch.autograd.backward(-(spread + self._settings.diversity * entropy))
            self.climber.step()
