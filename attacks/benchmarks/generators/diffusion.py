"""A small conditional diffusion model: a U-Net that predicts the noise in an image.

Reference: Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020; images are made by the
deterministic steps of Song, Meng and Ermon, "Denoising diffusion implicit models", ICLR 2021; the schedule is the
cosine of Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medward.attacks.benchmarks.generators.base import Learned, arrays_of, check_side, with_arrays
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.federated.update import ModelParameters
from medward.guard.types import Array, Ints

_SAMPLED = 256  # images made at a time
_LEAST_SIGNAL = 1e-3  # of the last step, that dividing by it stays sound


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionalDiffusion:
    """A diffusion model of `classes` classes of images (channels, size, size).

    `times` noise levels are learned; an image is made in `steps` of them. All of its parameters are averaged, so a
    client keeps no memory.
    """

    channels: int
    size: int
    classes: int
    width: int = 32
    times: int = 200
    steps: int = 20
    epochs: int = 1
    batch: int = 32
    rate: float = 1e-3
    name: str = "diffusion"

    def __post_init__(self) -> None:
        check_side(self.name, self.size)
        if self.width < 8 or self.width % 8 or not 1 <= self.steps <= self.times:
            raise MedwardError(
                f"diffusion: width must be a multiple of 8 and steps from 1 to times, got {self.width} and "
                f"{self.steps} of {self.times}"
            )

    def initial(self, seed: int) -> list[np.ndarray]:
        """The parameters of a fresh network."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            return arrays_of(_UNet(self))

    def learn(self, start: ModelParameters, rows: Split, memory: Any, seed: int) -> Learned:
        """`epochs` epochs of mean squared error of the noise; metrics "loss" (last batch) and "mean-loss"."""
        del memory
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            network = with_arrays(_UNet(self), start).train()
            optimiser = torch.optim.Adam(network.parameters(), self.rate)
            images = torch.from_numpy(np.asarray(rows.inputs, np.float32)) * 2 - 1
            labels = torch.from_numpy(np.asarray(rows.labels, np.int64))
            signal = _signal(self.times)
            losses = []
            for _ in range(self.epochs):
                for chosen in torch.split(torch.randperm(len(images)), self.batch):
                    times = torch.randint(self.times, (len(chosen),))
                    kept, noise = signal[times, None, None, None], torch.randn_like(images[chosen])
                    noisy = kept.sqrt() * images[chosen] + (1 - kept).sqrt() * noise
                    loss = functional.mse_loss(network(noisy, times / self.times, labels[chosen]), noise)
                    optimiser.zero_grad()
                    torch.autograd.backward(loss)
                    optimiser.step()
                    losses.append(float(loss.detach()))
        return Learned(arrays_of(network), None, {"loss": losses[-1], "mean-loss": float(np.mean(losses))})

    def images(self, parameters: ModelParameters, labels: Ints, seed: int) -> Array:
        """(n, C, S, S) images in [0, 1] by deterministic steps."""
        network = with_arrays(_UNet(self), parameters).eval()
        shape = (len(labels), self.channels, self.size, self.size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        parts = zip(torch.split(noise, _SAMPLED), torch.split(torch.from_numpy(labels), _SAMPLED), strict=True)
        with torch.no_grad():
            made = torch.cat([self._denoised(network, *part) for part in parts])
        images: Array = ((made.clamp(-1, 1) + 1) / 2).numpy()
        return images

    def _denoised(self, network: nn.Module, noisy: Tensor, labels: Tensor) -> Tensor:
        signal = _signal(self.times)
        levels = torch.linspace(self.times - 1, 0, self.steps).round().long().tolist()
        for now, after in zip(levels, [*levels[1:], None], strict=True):
            noise = network(noisy, torch.full((len(noisy),), now / self.times), labels)
            clean: Tensor = ((noisy - (1 - signal[now]).sqrt() * noise) / signal[now].sqrt()).clamp(-1, 1)
            if after is None:
                return clean
            noise = (noisy - signal[now].sqrt() * clean) / (1 - signal[now]).sqrt()
            noisy = signal[after].sqrt() * clean + (1 - signal[after]).sqrt() * noise
        return noisy


class _Block(nn.Module):
    """Two convolutions, told the noise level and the class between them."""

    def __init__(self, before: int, after: int, told: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(math.gcd(8, before), before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.told = nn.Linear(told, after)
        self.second = nn.Sequential(nn.GroupNorm(8, after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1))
        self.skip = nn.Conv2d(before, after, 1)

    def forward(self, images: Tensor, told: Tensor) -> Tensor:
        inner = self.first(images) + self.told(told)[:, :, None, None]
        changed: Tensor = self.second(inner) + self.skip(images)
        return changed


class _UNet(nn.Module):
    def __init__(self, settings: ConditionalDiffusion) -> None:
        super().__init__()
        width, told = settings.width, settings.width * 4
        self.frequencies = settings.width
        self.told = nn.Sequential(nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        self.condition = nn.Embedding(settings.classes, told)
        self.entry = nn.Conv2d(settings.channels, width, 3, padding=1)
        self.down = nn.ModuleList(
            [_Block(width, width, told), _Block(width, 2 * width, told), _Block(2 * width, 2 * width, told)]
        )
        self.up = nn.ModuleList(
            [_Block(4 * width, 2 * width, told), _Block(4 * width, width, told), _Block(2 * width, width, told)]
        )
        self.exit = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, settings.channels, 3, padding=1))

    def forward(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        told = self.told(_waves(times, self.frequencies)) + self.condition(labels)
        inner, kept = self.entry(images), []
        for place, block in enumerate(self.down):
            inner = block(inner, told)
            kept.append(inner)
            if place < len(self.down) - 1:
                inner = functional.avg_pool2d(inner, 2)
        for place, block in enumerate(self.up):
            inner = block(torch.cat([inner, kept.pop()], dim=1), told)
            if place < len(self.up) - 1:
                inner = functional.interpolate(inner, scale_factor=2.0)
        predicted: Tensor = self.exit(inner)
        return predicted


def _signal(times: int) -> Tensor:
    """(times,): the share of an image's variance that is left at each noise level."""
    angles = (torch.arange(1, times + 1) / times + 0.008) / 1.008 * math.pi / 2
    return (angles.cos() ** 2).clamp(_LEAST_SIGNAL, 1 - _LEAST_SIGNAL)


def _waves(times: Tensor, count: int) -> Tensor:
    """(n, count): sines and cosines of times in [0, 1] at frequencies from 1 to 1,000."""
    angles = times[:, None] * torch.logspace(0, 3, count // 2)[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
