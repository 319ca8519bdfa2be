"""Many small networks trained at once, as one batched product a layer.

The weights of K networks of one shape are stacked to ``(K, in, out)``, so a step is one `torch.baddbmm` a layer in the
place of K small products, and the optimiser walks over K times fewer tensors. Each network sees its own batches and
its own loss, so it ends where it would have alone, up to rounding. It serves tables and heads on cached features;
convolutions gain nothing from it on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.learners.table import learner_of
from medward.attacks.whitebox.imitation import Unscaled
from medward.attacks.whitebox.surrogate import Standardise, TrainingLoss
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel

_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.LeakyReLU)


class Stack(nn.Module):
    """A stack of K networks of one shape: standardised inputs, linear layers, and elementwise functions between."""

    def __init__(self, networks: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        for layers in zip(*networks, strict=True):
            first = layers[0]
            if any(type(layer) is not type(first) for layer in layers):
                raise MedwardError("stack: networks differ in their layers; train them one by one")
            if isinstance(first, nn.Linear):
                self.steps.append(StackedLinear([layer for layer in layers if isinstance(layer, nn.Linear)]))
            elif isinstance(first, Standardise):
                mean, std = (torch.stack([layer.get_buffer(name) for layer in layers]) for name in ("mean", "std"))
                self.steps.append(Standardise(mean, std))
            elif isinstance(first, _ELEMENTWISE):
                self.steps.append(first)
            else:
                raise MedwardError(f"stack: cannot stack a layer {type(first).__name__}; train networks one by one")

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(K, n, width)`` of each network on its own rows ``(K, n, d)``."""
        for step in self.steps:
            x = step(x)
        return x

    def write_back(self, networks: Sequence[nn.Sequential]) -> None:
        """Give each network its weights."""
        for place, step in enumerate(self.steps):
            if isinstance(step, StackedLinear):
                step.write_back([network[place] for network in networks])


class StackedLinear(nn.Module):
    """Linear layers of one shape as one batched product, with weights ``(K, in, out)`` and biases ``(K, 1, out)``."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]).contiguous())
        biases = [layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
        self.bias = nn.Parameter(
            torch.stack([bias.detach() for bias in biases]).unsqueeze(1), requires_grad=layers[0].bias is not None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(K, n, in)`` to ``(K, n, out)``."""
        return torch.baddbmm(self.bias, x, self.weight)

    def write_back(self, layers: Sequence[nn.Module]) -> None:
        """Give each layer its weights."""
        with torch.no_grad():
            for layer, weight, bias in zip(layers, self.weight, self.bias, strict=True):
                assert isinstance(layer, nn.Linear)
                layer.weight.copy_(weight.T)
                if layer.bias is not None:
                    layer.bias.copy_(bias[0])


def train_stacked(
    networks: Sequence[nn.Sequential],
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
    *,
    loss: TrainingLoss,
    epochs: int,
    seeds: Sequence[int],
    batch: int = 64,
    rate: float = 2e-3,
) -> None:
    """Train `networks` in place, each on its own ``(n, d)`` inputs and targets, as `fit_student` trains one.

    All have equally many rows; `seeds` order their batches. Raises `MedwardError` for networks, or numbers of rows,
    that differ.
    """
    if not len(networks) == len(inputs) == len(targets) == len(seeds) or len({len(x) for x in inputs}) != 1:
        raise MedwardError(
            f"stack: needs inputs, targets and a seed for each of {len(networks)} networks and equally many rows, got "
            f"{sorted({len(x) for x in inputs})} rows; train them one by one"
        )
    stack = Stack(networks).train()
    x, y = torch.stack(list(inputs)), torch.stack(list(targets))
    count, rows = x.shape[:2]
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    optimizer = torch.optim.AdamW(
        [each for each in stack.parameters() if each.requires_grad], lr=rate, weight_decay=1e-3, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs * math.ceil(rows / batch)))
    which = torch.arange(count)[:, None]
    for _ in range(epochs):
        shuffled = torch.stack([torch.randperm(rows, generator=order) for order in orders])
        for start in range(0, rows, batch):
            some = shuffled[:, start : start + batch]
            outputs, wanted = stack(x[which, some]), y[which, some]
            optimizer.zero_grad(set_to_none=True)
            # the mean over all networks' rows is the mean of their losses, so K times it has each one's own gradient
            torch.autograd.backward(count * loss(outputs.flatten(0, 1), wanted.flatten(0, 1)))
            optimizer.step()
            schedule.step()
    stack.write_back(networks)


def fit_stacked(spec: ModelSpec, parts: Sequence[Split], *, epochs: int, seeds: Sequence[int]) -> list[nn.Module]:
    """What the learner of `spec`, a table, would make of each of `parts`, which have equally many labelled rows."""
    learner = learner_of(spec)
    starts, inputs, targets = [], [], []
    for part, seed in zip(parts, seeds, strict=True):
        if part.labels is None:
            raise MedwardError("shadows: need labelled rows, and these have no labels; give some")
        values = learner.known(part.labels)
        network = learner.fit(spec, part.inputs, values, epochs=0, seed=seed)
        if isinstance(network, Unscaled):
            values = (values - network.get_buffer("mean").double().numpy()) / network.get_buffer(
                "spread"
            ).double().numpy()
        starts.append(network)
        inputs.append(torch.as_tensor(np.ascontiguousarray(part.inputs), dtype=torch.float32))
        targets.append(torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32))
    bodies = [network.network if isinstance(network, Unscaled) else network for network in starts]
    train_stacked(
        [body for body in bodies if isinstance(body, nn.Sequential)],
        inputs,
        targets,
        loss=task_loss(spec),
        epochs=epochs,
        seeds=seeds,
    )
    return starts


def task_loss(spec: ModelSpec) -> TrainingLoss:
    """What the learner of this task trains by."""
    if isinstance(spec.task, Classification):
        return nn.functional.cross_entropy
    if isinstance(spec.task, Multilabel):
        return nn.functional.binary_cross_entropy_with_logits
    return nn.functional.mse_loss
