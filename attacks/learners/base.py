"""How answers of a task become what a network learns, and how what it then says is compared.

Everything is a row of values ``(n, width)``: probabilities of classes, of findings, or the one number. Where a task has
operating points, the values to learn are moved so that the plain rule (the largest class, one half) is the model's
decision; a network that learned them decides so too.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.target import Response
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints


class Learner(Protocol):
    """A learner knows what is to be learned of one task. Implementations hold its settings and nothing else."""

    @property
    def width(self) -> int:
        """Values in a row."""
        ...

    def released(self, response: Response) -> Array:
        """What left ``(n, width)`` as any client reads it; a row of NaN where no score did."""
        ...

    def targets(self, response: Response) -> Array:
        """What to learn ``(n, width)``, from decisions alone where no score left; NaN where nothing did."""
        ...

    def known(self, labels: NDArray[np.generic]) -> Array:
        """The values ``(n, width)`` of labels ``(n,)``, as certain as these are."""
        ...

    def certain(self, decisions: Ints) -> Array:
        """The values ``(n, width)`` of decisions ``(n,)`` of which nothing else is known."""
        ...

    def reference(self, data: AttackData) -> Array:
        """What the undefended model says ``(n, width)`` of the test rows; raises `MedwardError` if unknown."""
        ...

    def fit(
        self, spec: ModelSpec, inputs: Array, targets: Array, *, epochs: int, seed: int, normalised: bool = True
    ) -> nn.Module:
        """A network in eval mode that learned `targets`; rows with a NaN teach nothing.

        Raises `MedwardError` when no row is left.
        """
        ...

    def operated(self, network: nn.Module) -> nn.Module:
        """A network that learned true labels, made to decide at the task's operating points."""
        ...

    def values(self, outputs: Array) -> Array:
        """A network's outputs ``(n, width)`` as values."""
        ...

    def decided(self, values: Array) -> Ints:
        """What values ``(n, width)`` stand for, one whole number a row; equal rows say the same."""
        ...

    def same(self, first: Array, second: Array) -> NDArray[np.bool_]:
        """Where two rows of values mean the same to whoever acts on them."""
        ...

    def constant(self, values: Array) -> Array:
        """The one row ``(width,)`` that a thief who knows nothing says: the commonest, or the median."""
        ...

    def parts(self, values: Array, reference: Array) -> dict[str, float]:
        """How well `values` agree with `reference` on single classes or findings, by name."""
        ...


def reference_decisions(data: AttackData) -> Ints:
    """The undefended model's decisions on the test rows."""
    if data.reference is None:
        raise MedwardError("a clone is judged by the model's own decisions on the test rows, and data has none")
    return data.reference
