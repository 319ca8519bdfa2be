"""The table of image architectures: eight small ones for a CPU, and the sizes of the literature for a GPU.

Every network is trained from scratch, standardises its input inside and ends in one linear layer of logits.
The full sizes hold as many weights as their papers' networks with as many classes (ViT and VGG for this image
size, VGG with one linear layer); weights are never downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from medward.attacks.benchmarks.networks.cnn import cnn
from medward.attacks.benchmarks.networks.convnext import convnext
from medward.attacks.benchmarks.networks.densenet import densenet
from medward.attacks.benchmarks.networks.efficientnet import B0, efficientnet
from medward.attacks.benchmarks.networks.resnet import resnet
from medward.attacks.benchmarks.networks.vgg import vgg
from medward.attacks.benchmarks.networks.vit import vit
from medward.guard.errors import MedwardError

Shape = tuple[int, ...]
SMALL_SIDE = 40  # above it the small networks look at half the pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How to build it, the learning rate it trains at, and the smallest image side in pixels it takes."""

    build: Callable[[Shape, int], nn.Module]
    rate: float = 3e-3
    side: int = 16


def build_network(name: str, shape: Shape, classes: int) -> nn.Module:
    """The network called `name`, untrained, from ``(n, *shape)`` to logits ``(n, classes)``.

    Weights are drawn from torch's global random state. Raises `MedwardError` for an unknown name, a shape that is
    no image, or an image that is too small.
    """
    if name not in ARCHITECTURES:
        raise MedwardError(f"architecture {name!r} is not known; there are {', '.join(ARCHITECTURES)}")
    chosen = ARCHITECTURES[name]
    if len(shape) != 3:
        raise MedwardError(f"architecture {name!r} takes images (C, H, W), got shape {shape}")
    if min(shape[1:]) < chosen.side:
        raise MedwardError(f"architecture {name!r} needs images of at least {chosen.side} pixels a side, got {shape}")
    return chosen.build(shape, classes)


def _large(shape: Shape) -> bool:
    return shape[1] > SMALL_SIDE


def _resnet(shape: Shape, classes: int, *, excite: bool) -> nn.Module:
    return resnet(shape, classes, depths=(2, 2, 2), width=16, stem=3, pool=_large(shape), excite=excite)


def _densenet(shape: Shape, classes: int) -> nn.Module:
    return densenet(shape, classes, blocks=(3, 3, 3), growth=12, stem=3, pool=_large(shape))


def _efficientnet(shape: Shape, classes: int) -> nn.Module:
    stride = 2 if _large(shape) else 1
    stages = ((1, 16, 1, stride, 3), (4, 24, 2, 2, 3), (4, 48, 2, 2, 5))
    return efficientnet(shape, classes, stages=stages, stem=16, features=128)


def _vgg(shape: Shape, classes: int) -> nn.Module:
    stages = ((16,), (32, 32), (64, 64))
    return vgg(shape, classes, stages=((8,), *stages) if _large(shape) else stages)


def _vit(shape: Shape, classes: int) -> nn.Module:
    early = (16, 32) if _large(shape) else (24,)
    return vit(shape, classes, patch=2, width=64, depth=3, heads=4, hidden=96, early=early)


def _convnext(shape: Shape, classes: int) -> nn.Module:
    patch = 4 if _large(shape) else 2
    return convnext(shape, classes, depths=(1, 1, 1), widths=(32, 64, 96), patch=patch, scale=1.0)


def _resnet50(shape: Shape, classes: int, *, excite: bool) -> nn.Module:
    return resnet(shape, classes, depths=(3, 4, 6, 3), width=64, stem=7, expansion=4, pool=True, excite=excite)


_VGG16 = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)

SMALL: dict[str, Architecture] = {
    "cnn": Architecture(build=cnn, side=8),
    "resnet": Architecture(build=partial(_resnet, excite=False)),
    "seresnet": Architecture(build=partial(_resnet, excite=True)),
    "densenet": Architecture(build=_densenet),
    "efficientnet": Architecture(build=_efficientnet),
    "vgg": Architecture(build=_vgg),
    "vit": Architecture(build=_vit, rate=1e-3),
    "convnext": Architecture(build=_convnext, rate=2e-3),
}
FULL: dict[str, Architecture] = {
    "resnet50": Architecture(build=partial(_resnet50, excite=False), rate=1e-3, side=32),
    "seresnet50": Architecture(build=partial(_resnet50, excite=True), rate=1e-3, side=32),
    "densenet121": Architecture(
        build=partial(densenet, blocks=(6, 12, 24, 16), growth=32, stem=7, pool=True), rate=1e-3, side=32
    ),
    "efficientnet-b0": Architecture(build=partial(efficientnet, stages=B0, stem=32, features=1280), rate=1e-3, side=32),
    "vgg16": Architecture(build=partial(vgg, stages=_VGG16), rate=1e-3, side=32),
    "vit-b16": Architecture(
        build=partial(vit, patch=16, width=768, depth=12, heads=12, hidden=3072), rate=3e-4, side=32
    ),
    "convnext-tiny": Architecture(
        build=partial(convnext, depths=(3, 3, 9, 3), widths=(96, 192, 384, 768), patch=4), rate=5e-4, side=32
    ),
}
ARCHITECTURES: dict[str, Architecture] = {**SMALL, **FULL}
