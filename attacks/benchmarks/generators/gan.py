"""A conditional deep convolutional GAN: the generator is averaged, each client keeps its own discriminator.

Reference: Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional generative
adversarial networks", ICLR 2016; Mirza and Osindero, "Conditional generative adversarial nets", 2014. Discriminators
stay with the clients as in Jin and Li 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medward.attacks.benchmarks.generators.base import Learned, arrays_of, check_side, with_arrays
from medward.guard.data.split import Split
from medward.guard.federated.update import ModelParameters
from medward.guard.types import Array, Ints

_CONDITION = 16  # numbers that stand for a class
_SLOPE = 0.2
_LEAST_BATCH = 8  # rows without which batch statistics mean nothing
_SAMPLED = 512  # images made at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionalGan:
    """A conditional GAN of `classes` classes of images (channels, size, size); `width` filters in its finest layer."""

    channels: int
    size: int
    classes: int
    width: int = 32
    noise: int = 64
    epochs: int = 1
    batch: int = 16
    rate: float = 4e-4
    name: str = "gan"

    def __post_init__(self) -> None:
        check_side(self.name, self.size)

    def initial(self, seed: int) -> list[np.ndarray]:
        """The parameters of a fresh generator."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            return arrays_of(_drawn(self._generator()))

    def learn(self, start: ModelParameters, rows: Split, memory: Any, seed: int) -> Learned:
        """`epochs` epochs of alternating steps; the memory is the discriminator's state.

        Metrics: "loss", the generator's in the last batch, as published; "mean-loss" over all of them.
        """
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            generator = with_arrays(self._generator(), start).train()
            critic = _drawn(_Discriminator(self))
            if memory is not None:
                critic.load_state_dict(memory)
            losses = self._train(generator, critic.train(), rows)
        metrics = {"loss": losses[-1], "mean-loss": float(np.mean(losses))} if losses else {}
        return Learned(arrays_of(generator), critic.state_dict(), metrics)

    def images(self, parameters: ModelParameters, labels: Ints, seed: int) -> Array:
        """(n, C, S, S) images in [0, 1], by the running statistics of batches."""
        generator = with_arrays(self._generator(), parameters).eval()
        noise = torch.randn(len(labels), self.noise, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            made = [
                generator(*part)
                for part in zip(
                    torch.split(noise, _SAMPLED), torch.split(torch.from_numpy(labels), _SAMPLED), strict=True
                )
            ]
        images: Array = (torch.cat(made).numpy() + 1) / 2
        return images

    def _generator(self) -> nn.Module:
        return _Generator(self)

    def _train(self, generator: nn.Module, critic: nn.Module, rows: Split) -> list[float]:
        images = torch.from_numpy(np.asarray(rows.inputs, np.float32)) * 2 - 1
        labels = torch.from_numpy(np.asarray(rows.labels, np.int64))
        optimisers = [
            torch.optim.Adam(network.parameters(), self.rate, betas=(0.5, 0.999)) for network in (generator, critic)
        ]
        losses = []
        for _ in range(self.epochs):
            for chosen in torch.split(torch.randperm(len(images)), self.batch):
                if len(chosen) >= min(_LEAST_BATCH, len(images)) and len(chosen) > 1:
                    losses.append(self._step(generator, critic, optimisers, images[chosen], labels[chosen]))
        return losses

    def _step(
        self, generator: nn.Module, critic: nn.Module, optimisers: list[torch.optim.Adam], real: Tensor, labels: Tensor
    ) -> float:
        made = generator(torch.randn(len(real), self.noise), labels)
        optimisers[1].zero_grad()
        torch.autograd.backward(_loss(critic(real, labels), True) + _loss(critic(made.detach(), labels), False))
        optimisers[1].step()
        optimisers[0].zero_grad()
        critic.requires_grad_(False)  # its gradients are not needed here, and cost a fifth of the step
        loss = _loss(critic(made, labels), True)
        torch.autograd.backward(loss)
        critic.requires_grad_(True)
        optimisers[0].step()
        return float(loss.detach())


class _Generator(nn.Module):
    def __init__(self, settings: ConditionalGan) -> None:
        super().__init__()
        self.condition = nn.Embedding(settings.classes, _CONDITION)
        widths = [settings.width * 2**i for i in reversed(range(_halvings(settings.size)))]
        layers: list[nn.Module] = [_up(settings.noise + _CONDITION, widths[0], stride=1, padding=0)]
        for wide, narrow in pairwise(widths):
            layers += [nn.BatchNorm2d(wide), nn.ReLU(), _up(wide, narrow)]
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(), _up(widths[-1], settings.channels), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        made: Tensor = self.layers(torch.cat([noise, self.condition(labels)], dim=1)[:, :, None, None])
        return made


class _Discriminator(nn.Module):
    def __init__(self, settings: ConditionalGan) -> None:
        super().__init__()
        self.size = settings.size
        self.condition = nn.Embedding(settings.classes, settings.size**2)
        widths = [settings.width * 2**i for i in range(_halvings(settings.size))]
        layers: list[nn.Module] = [_down(settings.channels + 1, widths[0]), nn.LeakyReLU(_SLOPE)]
        for narrow, wide in pairwise(widths):
            layers += [_down(narrow, wide), nn.BatchNorm2d(wide), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, _down(widths[-1], 1, stride=1, padding=0))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        condition = self.condition(labels).view(-1, 1, self.size, self.size)
        scores: Tensor = self.layers(torch.cat([images, condition], dim=1))
        return scores.flatten()


def _halvings(size: int) -> int:
    """How often a side of `size` is halved until it is 4."""
    return size.bit_length() - 3


def _up(wide: int, narrow: int, *, stride: int = 2, padding: int = 1) -> nn.Module:
    return nn.ConvTranspose2d(wide, narrow, 4, stride, padding)


def _down(narrow: int, wide: int, *, stride: int = 2, padding: int = 1) -> nn.Module:
    return nn.Conv2d(narrow, wide, 4, stride, padding)


def _drawn(network: nn.Module) -> nn.Module:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
    return network


def _loss(scores: Tensor, real: bool) -> Tensor:
    return functional.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)))
