"""What a client sends back after a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

ModelParameters = Sequence[NDArray[Any]]
"""The arrays of a model, in the model's own order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientUpdate:
    """A client update is what one node sent back in one round.

    `parameters` are those of its local model, `examples` how many rows it says it learned from, `metrics` what it says
    of its training (its generator's loss, for one). All of it is the client's own word.
    """

    node: str
    parameters: ModelParameters
    examples: float
    metrics: Mapping[str, float] = field(default_factory=dict)


def is_learned(array: NDArray[Any]) -> bool:
    """Whether an array of a model holds real numbers, which are averaged; a counter or a flag is not."""
    return bool(np.issubdtype(array.dtype, np.floating))
