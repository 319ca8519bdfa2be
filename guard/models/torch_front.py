"""A torch module with what stands before its first layer and what is taken of its outputs.

The module stays the user's own; gradients, training and export go through what stands around it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.models.front import normalisation, stands_before
from medward.guard.models.torch_outputs import picked_output
from medward.guard.spec import ModelSpec


class Fronted(nn.Module):
    """A fronted module normalises and reshapes internal rows, calls `net`, and takes one of its outputs.

    Nothing of this is part of its state: the state of `net` is all there is to save.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, spec: ModelSpec, output_key: str | None) -> None:
        super().__init__()
        self.net = net
        self.row = spec.sent
        self.output_key = output_key
        found = normalisation(spec)
        self.normalises = found is not None
        for name, value in zip(("mean", "std"), found or (np.zeros(1), np.ones(1)), strict=True):
            self.register_buffer(name, torch.from_numpy(value).to(_precision_like(net)), persistent=False)

    def forward(self, x: Tensor) -> Any:
        """Internal rows ``(n, *shape)`` to what the module gives, or the output chosen of it."""
        if self.normalises:
            x = (x - self.mean) / self.std
        if self.row is not None:
            x = x.reshape(-1, *self.row)
        found = self.net(x)
        return found if self.output_key is None else picked_output(found, self.output_key)


def fronted(net: nn.Module, spec: ModelSpec, output_key: str | None = None) -> nn.Module:
    """`net` behind what `spec` says stands before it; `net` itself where nothing does and no output is chosen."""
    if not stands_before(spec) and output_key is None:
        return net
    return Fronted(net, spec, output_key)


def own_module(module: nn.Module) -> nn.Module:
    """The user's own module behind a front."""
    if isinstance(module, Fronted):
        inner: nn.Module = module.net
        return inner
    return module


def _precision_like(net: nn.Module) -> torch.dtype:
    """The type of the weights of `net`, float32 where it has none."""
    kinds = [each.dtype for each in net.parameters() if each.is_floating_point()]
    return kinds[0] if kinds else torch.float32


def refuse_script(x: object) -> None:
    """Refuse TorchScript where a module's layers must be trained."""
    if isinstance(x, torch.jit.ScriptModule):
        raise MedwardError(
            "model: is TorchScript, which can be protected but not trained; give the nn.Module that it was made from"
        )
