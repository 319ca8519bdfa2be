"""What is trained and on what: a copy of the user's network as a module to scores, and rows checked once."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden.losses.base import TaskLosses
from medward.guard.harden.losses.classes import ClassLosses
from medward.guard.harden.robust.inner import frozen_statistics
from medward.guard.models.base import first_line
from medward.guard.models.torch_front import refuse_script
from medward.guard.models.torch_outputs import outputs_text

_FEWEST = 20
"""Rows a split needs at least: fewer cannot tell one epoch from another."""
ROWS_PER_BATCH = 256


class Scoring(nn.Module):
    """A scoring module goes from inputs to the scores ``(n, K)`` that `losses` read of any network's outputs.

    Hugging Face outputs are opened.
    """

    def __init__(self, net: nn.Module, losses: TaskLosses | None = None) -> None:
        """By default `net` gives logits of two classes."""
        super().__init__()
        self.net = net
        self.losses: TaskLosses = ClassLosses() if losses is None else losses

    def forward(self, x: Tensor) -> Tensor:
        """Inputs ``(n, *shape)`` to scores ``(n, K)``."""
        return self.losses.read(self.raw(x))

    def raw(self, x: Tensor) -> Tensor:
        """Inputs ``(n, *shape)`` to what the net itself gives, ``(n,)`` or ``(n, K)``."""
        found = self.net(x.clone())  # a net that works in place changes a copy
        scores = getattr(found, "logits", found)
        if not isinstance(scores, Tensor) or scores.ndim not in (1, 2) or len(scores) != len(x):
            kind = tuple(scores.shape) if isinstance(scores, Tensor) else outputs_text(found)
            several = "" if isinstance(scores, Tensor) else "; choose one with --output-key"
            raise MedwardError(
                f"model: must return a tensor (n, columns), or something with .logits, got {kind}{several}"
            )
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows are float32 inputs ``(n, *shape)`` and targets of n rows, on the CPU; batches are moved where they are used.

    Targets are what a task's losses make of labels (`TaskLosses.targets`).
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(
        cls, split: Split, what: str, low: float | None, high: float | None, losses: TaskLosses | None = None
    ) -> Rows:
        """Check `split`, called `what` in messages, with labels of the task of `losses` (default: classes).

        Raises `MedwardError` for what cannot be trained on.
        """
        if split.labels is None:
            raise MedwardError(f"{what}: hardening needs labels; add {what}_labels to the data")
        if len(split) < _FEWEST:
            raise MedwardError(f"{what}: hardening needs at least {_FEWEST} rows, got {len(split)}")
        x = np.asarray(split.inputs)
        if x.dtype.kind not in "fiub" or x.ndim not in (2, 4):
            raise MedwardError(f"{what}: inputs must be numbers (n, D) or (n, C, H, W), got {x.dtype} {x.shape}")
        x = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(x).all():
            raise MedwardError(f"{what}: every value must be finite, got NaN or infinity")
        lowest, highest = float(x.min()), float(x.max())
        slack = 1e-6 * max(1.0, abs(low or 0.0), abs(high or 0.0))
        if (low is not None and lowest < low - slack) or (high is not None and highest > high + slack):
            raise MedwardError(
                f"{what}: values lie in [{lowest:g}, {highest:g}], outside [{_bound(low)}, {_bound(high)}]; "
                "set --low and --high to the range the model takes"
            )
        try:
            y = (ClassLosses() if losses is None else losses).targets(split.labels)
        except MedwardError as error:
            raise MedwardError(f"{what}: {error}") from None
        return cls(x=torch.from_numpy(x), y=y)

    def some(self, most: int, generator: torch.Generator) -> Rows:
        """At most `most` rows, drawn without replacement."""
        if len(self) <= most:
            return self
        index = torch.randperm(len(self), generator=generator)[:most]
        return Rows(x=self.x[index], y=self.y[index])


def trainable_copy(network: nn.Module, sample: Tensor, device: str, losses: TaskLosses | None = None) -> Scoring:
    """A trainable copy of `network` on `device`, read by `losses` and tried on the rows `sample`.

    Weights that are frozen stay so, unless all are: then all are trained. Raises `MedwardError` when the copy cannot be
    made or run.
    """
    made = Scoring(_copied(network, device), losses)
    _tried(made, made, sample.to(device))
    return made


def raw_scores(network: nn.Module, sample: Tensor, device: str = "cpu") -> Tensor:
    """What `network` itself gives for the rows `sample`, on the CPU; raises what `trainable_copy` does."""
    copied = Scoring(_copied(network, device))
    return _tried(copied, copied.raw, sample.to(device)).cpu()


def _copied(network: nn.Module, device: str) -> nn.Module:
    """A copy of `network` in float32 on `device` whose weights can be trained."""
    if not isinstance(network, nn.Module):
        raise MedwardError(f"model: only torch modules can be hardened, got {type(network).__name__}")
    refuse_script(network)
    if not any(parameter.numel() for parameter in network.parameters()):
        raise MedwardError("model: has no weights to train")
    try:
        net = copy.deepcopy(network).float().to(torch.device(device))
    except Exception as error:  # a user's network, or a device that is not there, can raise nearly anything
        raise MedwardError(f"model: cannot be copied to device {device!r}: {first_line(error)}") from error
    if not any(parameter.requires_grad for parameter in net.parameters()):
        net.requires_grad_(True)
    return net


@torch.no_grad()
def _tried(network: Scoring, called: Callable[[Tensor], Tensor], sample: Tensor) -> Tensor:
    """What `called`, a way through `network`, gives for the rows `sample`: finite numbers.

    Raises `MedwardError` that names the layer the rows do not fit.
    """
    inside: list[str] = []  # the innermost layer that began and has not ended

    def enter(layer: nn.Module, given: tuple[object, ...]) -> None:
        inside[:] = [f" its layer {layer} got {', '.join(str(tuple(x.shape)) for x in given if isinstance(x, Tensor))}"]

    def leave(*_: object) -> None:
        inside.clear()

    layers = [layer for layer in network.net.modules() if not any(layer.children())]
    hooks = [
        hook for each in layers for hook in (each.register_forward_pre_hook(enter), each.register_forward_hook(leave))
    ]
    try:
        with frozen_statistics(network):
            scores: Tensor = called(sample)
    except MedwardError:
        raise
    except Exception as error:  # a user's network can raise nearly anything
        raise MedwardError(
            f"model: fails on the data's rows, which are {tuple(sample.shape[1:])}:{''.join(inside)} "
            f"({first_line(error)}); give rows of the shape it was trained on, or a module that reshapes them"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not torch.isfinite(scores).all():
        raise MedwardError("model: its scores on the data hold NaN or infinity")
    return scores


def state_digest(network: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and values of a network's state."""
    sha = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _bound(value: float | None) -> str:
    return "no bound" if value is None else f"{value:g}"
