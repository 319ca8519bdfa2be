"""A probe that has every client's generator make images from the same noise, and looks at those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.image_evidence import image_evidence
from medward.guard.federated.robust_feddetect import ClientViews
from medward.guard.federated.update import ClientUpdate, ModelParameters
from medward.guard.types import Array, Ints

_ROUNDING = 1e-3  # beyond 0 and 1 that images may be


class MakeImages(Protocol):
    """Makes images by a generator of given parameters."""

    def __call__(self, parameters: ModelParameters, labels: Ints, seed: int) -> Array:
        """(n, C, S, S) in [0, 1]: one image of each of `labels` (n,); noise follows `seed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorProbe:
    """A generator probe judges clients by `images` images that each one's generator makes, of all classes alike.

    What a client says of itself is not looked at. Noise is new each round and follows from `seed`: whoever knows that
    could train a generator to look harmless on this very noise, so draw it (``secrets.randbits(63)``), tell no client,
    and keep it, for a server that starts again must look at the same. A generator with which `make` fails is left out.
    """

    make: MakeImages
    classes: int
    seed: int
    images: int = 128

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise MedwardError(f"probe: make must be a function of parameters, labels and seed, got {self.make!r}")
        if self.seed < 0:
            raise MedwardError(f"probe: seed must be 0 or more, got {self.seed}; draw it: secrets.randbits(63)")
        if self.classes < 1 or self.images < self.classes:
            raise MedwardError(
                f"probe: needs an image of each class, got {self.images} images of {self.classes} classes"
            )

    def __call__(
        self, start: ModelParameters, updates: Iterable[ClientUpdate], number: int
    ) -> Mapping[str, ClientViews]:
        """The views of each client's images in round `number`; raises what `make` raises where it does for all."""
        del start
        labels = np.arange(self.images) % self.classes
        noise = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        failures: list[Exception] = []
        seen = image_evidence(self._all_made(updates, labels, noise, failures))
        if failures and not seen:
            raise failures[0]
        return seen

    def _all_made(
        self, updates: Iterable[ClientUpdate], labels: Ints, noise: int, failures: list[Exception]
    ) -> Iterator[tuple[str, Array]]:
        """Images of each node, of one at a time; what a client's numbers break is kept among `failures`."""
        for update in updates:
            try:
                made = self._made(update, labels, noise)
            except Exception as failure:  # whatever a model of others' numbers raises
                failures.append(failure)
            else:
                yield update.node, made

    def _made(self, update: ClientUpdate, labels: Ints, noise: int) -> Array:
        """The images of one client's generator; raises `MedwardError` for what is no batch of images at all."""
        made = np.asarray(self.make(update.parameters, labels, noise))
        if made.ndim != 4 or len(made) != len(labels) or made.shape[2] != made.shape[3] or made.shape[2] < 8:
            raise MedwardError(
                f"probe: make must give images (n, C, S, S) of 8 pixels a side or more, one for each of {len(labels)} "
                f"labels, got shape {made.shape}"
            )
        if np.isfinite(made).all() and (made.min() < -_ROUNDING or made.max() > 1 + _ROUNDING):
            raise MedwardError(
                f"probe: make must give images in [0, 1], got {made.min():.4g} to {made.max():.4g}; scale them"
            )
        return made
