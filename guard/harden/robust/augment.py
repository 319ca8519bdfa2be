"""Random views of a training image that keep its diagnosis: small shifts, mirroring, contrast and brightness."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shift_images(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image of `x` ``(n, C, H, W)`` by up to a fourteenth of its side; edges are repeated.

    `generator` is on the CPU, so that a seed means the same on every device.
    """
    n, _, height, width = x.shape
    reach = height // 14
    padded = nn.functional.pad(x, (reach,) * 4, mode="replicate")
    dy, dx = torch.randint(0, 2 * reach + 1, (2, n, 1), generator=generator).to(x.device)
    rows = (dy + torch.arange(height, device=x.device))[:, None, :, None]
    columns = (dx + torch.arange(width, device=x.device))[:, None, None, :]
    images = torch.arange(n, device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[images, channels, rows, columns]


def augment_images(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to a fourteenth of the side, mirror half, vary contrast (30 %) and brightness (a tenth).

    `x` is ``(n, C, H, W)`` on any device, in units of about one; the result may leave the valid range.
    `generator` is on the CPU, so that a seed means the same on every device.
    """
    moved = shift_images(x, generator)
    mirror = (torch.rand(len(x), generator=generator) < 0.5).to(x.device)
    contrast, brightness = (2 * torch.rand((2, len(x), 1, 1, 1), generator=generator) - 1).to(x.device)
    moved = torch.where(mirror[:, None, None, None], moved.flip(-1), moved)
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    return torch.addcmul(mean + 0.1 * brightness, 1 + 0.3 * contrast, moved - mean)
