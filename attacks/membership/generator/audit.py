"""The audit of an image generator: can its images tell whose it was trained on?

Beside each score stands what a reference generator tells, which learned none of the candidates, and what can be guessed
without any. A federation's generator is audited as any other: its members are the rows of all clients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from medward.attacks.benchmarks.generators.base import ImageGenerator
from medward.attacks.candidates.blind import blind_scores
from medward.attacks.candidates.evaluation import MembershipEvaluation, evaluate_scores
from medward.attacks.membership.generator.monte_carlo import monte_carlo_score
from medward.attacks.membership.generator.nearest_image import calibrated_nearest_image_score, nearest_image_score
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.federated.update import ModelParameters
from medward.guard.types import Array

IMAGES_PER_CLASS = 1000
"""Made of each class; an attacker of a released generator can make more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorRow:
    """A generator row is the evaluation of one membership score against a generator."""

    attack: str
    evaluation: MembershipEvaluation


def audit_generator(
    generator: ImageGenerator,
    parameters: ModelParameters,
    candidates: Split,
    included: NDArray[np.bool_],
    *,
    reference: ModelParameters | None = None,
    images: int = IMAGES_PER_CLASS,
    features: Callable[[Array], Array] | None = None,
    seed: int = 0,
) -> tuple[GeneratorRow, ...]:
    """Evaluate what images of a generator tell of labelled `candidates`, whose membership `included` (n,) says.

    Both kinds must be drawn alike, by a coin flip at best: what a guesser without any model reaches is in each row.
    Patients, where known, are kept whole. `images` are made of each class by `parameters`, and by a `reference`: those
    of one that learned no candidate; without it nothing is calibrated. Distances are those of `features` (n, d), or
    of pixels.

    Raises `MedwardError` without labels, for a truth of another length, for candidates of one kind, and where the
    generator makes images that are not finite.
    """
    truth = np.asarray(included, bool)
    if candidates.labels is None or truth.shape != (len(candidates),) or truth.all() or not truth.any():
        raise MedwardError(
            f"candidates: needs labelled members and non-members, got {len(candidates)} candidates, "
            f"{'no' if candidates.labels is None else len(candidates.labels)} labels and {truth.sum()} members of "
            f"{truth.size}"
        )
    see = _pixels if features is None else features
    near = _distances(generator, parameters, candidates, images, see, seed)
    found: dict[str, tuple[Array, Array | None]] = {
        "nearest-image": (nearest_image_score(near), None),
        "monte-carlo": (monte_carlo_score(near), None),
    }
    if reference is not None:
        other = _distances(generator, reference, candidates, images, see, seed)
        found = {
            "nearest-image": (nearest_image_score(near), nearest_image_score(other)),
            "monte-carlo": (monte_carlo_score(near), monte_carlo_score(other)),
            "nearest-image, calibrated": (calibrated_nearest_image_score(near, other), nearest_image_score(other)),
        }
    blind = blind_scores(candidates, truth, seed=seed)
    return tuple(
        GeneratorRow(
            attack=name,
            evaluation=evaluate_scores(
                scores, truth, groups=candidates.patients, seed=seed, blind=blind, without_target=alone
            ),
        )
        for name, (scores, alone) in found.items()
    )


def _distances(
    generator: ImageGenerator,
    parameters: ModelParameters,
    candidates: Split,
    images: int,
    see: Callable[..., Array],
    seed: int,
) -> Array:
    """(n, images): distances of each candidate to generated images of its class."""
    labels = np.asarray(candidates.labels, np.int64)
    distances = np.empty((len(labels), images))
    for each in np.unique(labels):
        made = generator.images(parameters, np.full(images, each, np.int64), seed)
        if not np.isfinite(made).all():
            raise MedwardError("generator: it makes images that are not finite; judge another round's")
        rows = labels == each
        distances[rows] = cdist(see(np.asarray(candidates.inputs)[rows]), see(made))
    return distances


def _pixels(images: Array) -> Array:
    return images.reshape(len(images), -1)
