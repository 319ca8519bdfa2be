"""ConvNeXt; no dropped paths.

Reference: Liu et al., "A ConvNet for the 2020s", CVPR 2022, fig. 4.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medward.attacks.benchmarks.networks.layers import ChannelNorm, Residual, Scale, input_scaling


def convnext(
    shape: tuple[int, ...],
    classes: int,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    patch: int,
    scale: float = 1e-6,
) -> nn.Sequential:
    """Stages of `depths` blocks of `widths` on patches of `patch` pixels; `scale` is where LayerScale starts."""
    layers: list[nn.Module] = [
        input_scaling(shape[0]),
        nn.Conv2d(shape[0], widths[0], patch, stride=patch),
        ChannelNorm(widths[0], eps=1e-6),
    ]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            before = widths[stage - 1]
            layers += [ChannelNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, stride=2)]
        layers += [Residual(_Body(width, scale)) for _ in range(depth)]
    last = widths[-1]
    norm = nn.LayerNorm(last, eps=1e-6)
    return nn.Sequential(*layers, _Mean(), norm, nn.Linear(last, classes))


class _Mean(nn.Module):
    """Mean over the image: plain arithmetic, because torch's pooling exports badly on transposed memory."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class _Body(nn.Module):
    """Depthwise 7x7, then per pixel: normalise, widen four times, narrow, scale."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.pixelwise = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            Scale(width, scale),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pixelwise(self.depthwise(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out
