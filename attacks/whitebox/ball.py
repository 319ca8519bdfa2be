"""The perturbations an attacker may use: a norm ball within the valid range of inputs.

A ball is a radius per coordinate and a norm: it holds every change ``d`` with ``norm(d / radius) <= 1``. So
one class serves images (the same radius everywhere) and tables (a radius in each feature's own spread, zero
for a feature nobody can change), under L-infinity and L2.

Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, sec. 2.1
(steepest ascent in a norm); Ballet et al., "Imperceptible adversarial attacks on tabular data", 2019, sec. 3
(per-feature scales, features that cannot change).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medward.guard.columns import encoded_bounds, feature_places, immutable_places, is_plain, whole_places
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

Norm = Literal["inf", "2"]
SMALLEST_RADIUS = 1e-12
WHOLE_STEP = 1e-4
"""How much a change may be short of a whole step and still be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRules:
    """What holds for single features of a table: `integer` ones take whole numbers, `immutable` ones stay.

    `spreads` are places and what counts there for the spread of the craft rows, as the error of a measurement may.
    What a model's columns say of themselves (`guard.columns`) holds besides.
    """

    integer: tuple[int, ...] = ()
    immutable: tuple[int, ...] = ()
    spreads: tuple[tuple[int, float], ...] = ()


def feature_rules(
    spec: ModelSpec,
    integer: Sequence[str | int],
    immutable: Sequence[str | int],
    spreads: Mapping[str, float] | None = None,
) -> FeatureRules | None:
    """The rules for features given by the names of columns or by their places from 0; None without any."""
    if not integer and not immutable and not spreads:
        return None
    return FeatureRules(
        integer=feature_places(spec.columns, "integer", integer),
        immutable=feature_places(spec.columns, "immutable", immutable),
        spreads=tuple(
            (feature_places(spec.columns, "threat.measurement_error", [name])[0], spread)
            for name, spread in (spreads or {}).items()
        ),
    )


@dataclass(frozen=True, slots=True)
class Ball:
    """`radius` broadcasts over one input, in input units; `whole` marks coordinates that take whole numbers.

    `low` and `high` bound every coordinate, `least` and `most` each one of a table with categories by itself. `gaps`
    say of each column with gaps its place, that of its indicator, and what stands for a missing value.
    """

    radius: Tensor
    low: float | None = None
    high: float | None = None
    norm: Norm = "inf"
    whole: Tensor | None = None
    least: Tensor | None = None
    most: Tensor | None = None
    gaps: tuple[tuple[int, int, float], ...] = ()

    @classmethod
    def of(
        cls, spec: ModelSpec, craft: Array, epsilon: float, *, norm: Norm = "inf", rules: FeatureRules | None = None
    ) -> Ball:
        """The ball of `epsilon`: input units for images, each feature's spread over `craft` for tables.

        Raises `MedwardError` for a radius that is negative or not finite, and for a rule on a feature that is not
        there.
        """
        if not 0 <= epsilon < np.inf:
            raise MedwardError(f"epsilon: must be a finite number >= 0, got {epsilon:g}")
        given = rules or FeatureRules()
        rules = FeatureRules(
            integer=(*given.integer, *whole_places(spec.columns)),
            immutable=(*given.immutable, *immutable_places(spec.columns)),
            spreads=given.spreads,
        )
        if spec.modality != "tabular":
            if rules != FeatureRules():
                raise MedwardError("rules: integer, immutable and measured features are for tables, not for images")
            scale = np.ones((1,) * len(spec.shape))
        else:
            scale = np.asarray(craft, np.float64).std(axis=0)
        features = spec.shape[0]
        places = (*rules.integer, *rules.immutable, *(place for place, _ in rules.spreads))
        if bad := [i for i in places if not 0 <= i < features]:
            raise MedwardError(f"rules: feature {bad[0]} is not there; the table has features 0 to {features - 1}")
        whole = None
        if spec.modality == "tabular":
            for place, spread in rules.spreads:
                scale[place] = spread
            scale[list(rules.immutable)] = 0.0
            if rules.integer:
                whole = torch.zeros(spec.shape, dtype=torch.bool)
                whole[list(rules.integer)] = True
        low, high = spec.low, spec.high
        # Bounds as float32 holds them, rounded inwards, so that no clipped input is refused as out of range.
        low = None if low is None else _inwards(low, np.inf)
        high = None if high is None else _inwards(high, -np.inf)
        least, most = (None, None) if is_plain(spec.columns) else map(torch.from_numpy, encoded_bounds(spec.columns))
        radius = torch.as_tensor(epsilon * scale, dtype=torch.float32)
        return cls(radius, low, high, norm, whole, least, most, _gaps(spec))

    @property
    def empty(self) -> bool:
        """Whether no perturbation is allowed at all."""
        return not bool((self.radius > 0).any())

    def scaled(self, factor: float) -> Ball:
        """The ball of `factor` times the radius."""
        return replace(self, radius=self.radius * factor)

    def to(self, device: torch.device) -> Ball:
        """The same ball on another device."""
        moved = {
            name: each.to(device) for name in ("whole", "least", "most") if (each := getattr(self, name)) is not None
        }
        return replace(self, radius=self.radius.to(device), **moved)

    def clip(self, x: Tensor) -> Tensor:
        """`x` brought back to the valid range of inputs."""
        x = x if self.low is None and self.high is None else x.clamp(self.low, self.high)
        return x if self.least is None else x.clamp(self.least, self.most)

    def shrink(self, change: Tensor) -> Tensor:
        """Rows of `change (n, *shape)` brought back into the ball, whatever input they are added to."""
        if self.norm == "inf":
            return torch.maximum(torch.minimum(change, self.radius), -self.radius)
        return torch.where(self.radius > 0, change, 0.0) / self.size(change).clamp_min(1.0)

    def project(self, adversarial: Tensor, x: Tensor) -> Tensor:
        """A point of the ball around `x` that is a valid input; the nearest one under L-infinity."""
        if self.norm == "inf":
            return self.clip(torch.maximum(torch.minimum(adversarial, x + self.radius), x - self.radius))
        return self.clip(x + self.shrink(adversarial - x))

    def usable(self, adversarial: Tensor, x: Tensor) -> Tensor:
        """`adversarial` as it can be handed in: changes of whole-numbered coordinates are cut to whole numbers.

        What is missing has no value that could change: there stands what stands for it. A value farther from that than
        the ball allows does not go missing.
        """
        if self.whole is None:
            return adversarial
        cut = x + torch.trunc((adversarial - x) + WHOLE_STEP * (adversarial - x).sign())
        made = torch.where(self.whole, cut, adversarial)
        for place, indicator, fill in self.gaps:
            value, own = made[..., place], x[..., place]
            room = self.radius[place] if self.norm == "inf" else (value - own).abs()
            near = (x[..., indicator] > 0.5) | ((fill - own).abs() <= room)
            gap = (made[..., indicator] > 0.5) & near
            made = made.clone()
            made[..., indicator] = gap.to(made.dtype)
            made[..., place] = torch.where(gap, fill, value)
        return made

    def size(self, change: Tensor) -> Tensor:
        """The norm of each row of `change` in radii, ``(n, 1, ...)``; at most 1 inside the ball."""
        relative = torch.where(self.radius > 0, change / self.radius.clamp_min(SMALLEST_RADIUS), 0.0).flatten(1)
        size = relative.abs().amax(dim=1) if self.norm == "inf" else relative.square().sum(dim=1).sqrt()
        return size.view(-1, *[1] * (change.ndim - 1))

    def step(self, slope: Tensor) -> Tensor:
        """The steepest direction up `slope (n, *shape)`, of length one radius; zero where the slope is."""
        if self.norm == "inf":
            return self.radius * slope.sign()
        scaled = slope * self.radius
        length = scaled.flatten(1).square().sum(dim=1).sqrt().view(-1, *[1] * (slope.ndim - 1))
        return self.radius * scaled / length.clamp_min(SMALLEST_RADIUS)

    def inside(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Random points of the ball, where attacks start."""
        if self.norm == "inf":
            return self.radius * (torch.rand(shape, generator=generator) * 2 - 1).to(self.radius.device)
        depth = torch.rand((shape[0], *[1] * (len(shape) - 1)), generator=generator).to(self.radius.device)
        return self.surface(shape, generator) * depth

    def surface(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The strongest noise of this norm: random corners under L-infinity, random directions under L2."""
        if self.norm == "inf":
            coin = torch.randint(0, 2, shape, generator=generator).float() * 2 - 1
            return coin.to(self.radius.device) * self.radius
        change = torch.randn(shape, generator=generator).to(self.radius.device) * self.radius
        return change / self.size(change).clamp_min(SMALLEST_RADIUS)

    def shifts(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """All values up, and all down, as far as the ball allows: changes ``(1, *shape)`` that nobody searched for."""
        up = torch.ones((1, *shape), device=self.radius.device) * self.radius
        up = up if self.norm == "inf" else up / self.size(up).clamp_min(SMALLEST_RADIUS)
        return up, -up


def _gaps(spec: ModelSpec) -> tuple[tuple[int, int, float], ...]:
    indicated = [(place, each.fill) for place, each in enumerate(spec.columns) if each.indicated]
    return tuple((place, len(spec.columns) + at, fill) for at, (place, fill) in enumerate(indicated))


def _inwards(bound: float, direction: float) -> float:
    rounded = np.float32(bound)
    outside = float(rounded) < bound if direction > 0 else float(rounded) > bound
    return float(np.nextafter(rounded, np.float32(direction)) if outside else rounded)
