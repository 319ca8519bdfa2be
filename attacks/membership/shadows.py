"""Shadow models: models like the one in question, of rows that are known.

Offline they learn random shares of rows that are no candidates. Online each candidate is in one of every two: the
second of two learns the half of the candidates, whole patients at a time, that the first did not, so that few shadows
serve all candidates on both sides. Shadows that learn fewer rows than the model did, or by another recipe, memorise
differently and make every attack weaker than it is: `rows` and `train` are for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medward.attacks.learners.processes import train_all
from medward.attacks.learners.recipe import LearnerRecipe
from medward.attacks.learners.table import learner_of
from medward.attacks.membership.stacked import fit_stacked
from medward.guard.data.split import Split, split_digest
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

Train = Callable[[Split, int], nn.Module]
"""Trains a model of labelled rows with a seed; it gives what the learner's networks do (logits, or numbers)."""
_SHADOW_SEED = 505_000
"""Added to the seed of an attack: whoever flipped the coin, or trained the model, with that seed drew other numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe is all that shadow models depend on; the pool of rows is compared by its `digest`.

    `pool` begins with `candidates` candidates, none when offline; the others are the attacker's own.
    """

    digest: str
    pool: Split = field(compare=False)
    candidates: int
    spec: ModelSpec
    shadows: int
    epochs: int
    share: float
    rows: int | None
    train: Train | None
    seed: int


@dataclass(frozen=True, slots=True)
class FittedShadows:
    """Trained shadows, and which of them learned which row of the pool: `included (K, n)`."""

    networks: tuple[nn.Module, ...]
    included: NDArray[np.bool_]
    _seen: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)

    def values(self, inputs: Array, spec: ModelSpec) -> Array:
        """Values ``(K, n, width)`` of rows, which are remembered: every arm and every score asks of the same ones."""
        name = split_digest(Split(inputs))
        if name not in self._seen:
            self._seen[name] = network_values(self.networks, inputs, spec)
            self._seen[name].flags.writeable = False
        return self._seen[name]


@lru_cache(maxsize=6)
def train_shadows(recipe: Recipe) -> FittedShadows:
    """The shadows of a recipe; the last recipes are kept, as every arm and every score needs the same ones.

    Tables are learned by all shadows at once (`attacks.membership.stacked`), anything else in processes where that is
    worth it (`attacks.learners.processes`).
    """
    parts = draw_parts(recipe)
    included = np.zeros((len(parts), len(recipe.pool)), bool)
    for shadow, part in enumerate(parts):
        included[shadow, part] = True
    seeds = [recipe.seed + _SHADOW_SEED + shadow for shadow in range(len(parts))]
    splits = [recipe.pool.take(part) for part in parts]
    even = len({len(part) for part in parts}) == 1
    if recipe.train is None and recipe.spec.modality == "tabular" and even:
        networks = fit_stacked(recipe.spec, splits, epochs=recipe.epochs, seeds=seeds)
    else:
        networks = train_all(recipe.train or LearnerRecipe(recipe.spec, recipe.epochs), splits, seeds)
    return FittedShadows(tuple(network.eval().requires_grad_(False) for network in networks), included)


def draw_parts(recipe: Recipe) -> list[Ints]:
    """The rows of the pool that each shadow learns, in the order that it is given them.

    Raises `MedwardError` where a shadow cannot have as many rows as asked for.
    """
    rng = np.random.default_rng(recipe.seed + _SHADOW_SEED)
    own, count = len(recipe.pool) - recipe.candidates, recipe.candidates
    if not count:
        size = math.ceil(recipe.share * own) if recipe.rows is None else recipe.rows
        if not 0 < size <= own:
            raise MedwardError(
                f"shadows: cannot learn {size} rows each of the {own} that the attacker has; ask for fewer"
            )
        return [rng.permutation(own)[:size] for _ in range(recipe.shadows)]
    patients = np.arange(count) if recipe.pool.patients is None else recipe.pool.patients[:count]
    halves = [half for _ in range(recipe.shadows // 2) for half in candidate_halves(patients, rng)]
    few, many = min(map(len, halves)), max(map(len, halves))
    size = max(many, few + math.ceil(recipe.share * own)) if recipe.rows is None else recipe.rows
    if not many <= size <= few + own and (recipe.rows is not None or own):
        raise MedwardError(
            f"shadows: each learns half of {count} candidates and some of {own} other rows, so {size} rows cannot be "
            f"had; ask for {many} to {few + own}"
        )
    return [
        rng.permutation(np.concatenate([half, count + rng.permutation(own)[: size - len(half)]])) for half in halves
    ]


def candidate_halves(patients: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Two halves of the candidates, each of whole patients."""
    who = rng.permutation(np.unique(patients))
    first = np.isin(patients, who[: len(who) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def shadow_values(shadows: FittedShadows, inputs: Array, answered: NDArray[np.bool_], spec: ModelSpec) -> Array:
    """Values ``(shadows, copies, n, width)`` of the answered rows of `inputs (copies, n, ...)`, 0 elsewhere."""
    seen = np.zeros((len(shadows.networks), *answered.shape, learner_of(spec).width))
    seen[:, 0] = np.where(answered[0][:, None], shadows.values(inputs[0], spec), 0.0)
    noisy = answered.copy()
    noisy[0] = False
    if noisy.any():
        seen[:, noisy] = network_values(shadows.networks, inputs[noisy], spec)
    return seen


def network_values(networks: Sequence[nn.Module], inputs: Array, spec: ModelSpec) -> Array:
    """Values ``(K, n, width)`` of rows ``(n, ...)`` under each network."""
    learner, x = learner_of(spec), torch.as_tensor(inputs)
    with torch.no_grad():
        outputs = [torch.cat([network(x[i : i + 512]) for i in range(0, len(x), 512)]) for network in networks]
    return np.stack([learner.values(each.double().numpy()) for each in outputs])
