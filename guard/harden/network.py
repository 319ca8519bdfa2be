"""What is trained and on what: a copy of the user's network as a module to logits, and rows checked once."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden.robust.inner import frozen_statistics
from medward.guard.models.base import first_line
from medward.guard.models.torch_model import refuse_script
from medward.guard.tasks.decision import checked_threshold, threshold_odds

_FEWEST = 20
"""Rows a split needs at least: fewer cannot tell one epoch from another."""
_TINY = 1e-12
ROWS_PER_BATCH = 256


class Scoring(nn.Module):
    """Any classifier as a module from inputs to logits ``(n, K)``.

    Hugging Face outputs are opened; with `logarithm` the net gives probabilities, whose logarithms are logits. The
    second of two logits is lowered by `border`, the log odds of an operating point: the largest is the decision.
    """

    def __init__(self, net: nn.Module, *, logarithm: bool = False, border: float = 0.0) -> None:
        super().__init__()
        self.net = net
        self.logarithm = logarithm
        self.border = border

    def forward(self, x: Tensor) -> Tensor:
        """Inputs ``(n, *shape)`` to logits ``(n, K)``."""
        scores = self.scores(x)
        logits = scores.clamp_min(_TINY).log() if self.logarithm else scores
        return logits - logits.new_tensor([0.0, self.border]) if self.border else logits

    def scores(self, x: Tensor) -> Tensor:
        """Inputs ``(n, *shape)`` to the net's own scores ``(n, K)``."""
        found = self.net(x.clone())  # a net that works in place changes a copy
        scores = getattr(found, "logits", found)
        if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(x):
            kind = tuple(scores.shape) if isinstance(scores, Tensor) else type(found).__name__
            raise MedwardError(f"model: must return a tensor (n, classes), or something with .logits, got {kind}")
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Float32 inputs ``(n, *shape)`` and labels ``(n,)``, on the CPU; batches are moved to where they are used."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(cls, split: Split, what: str, low: float | None, high: float | None) -> Rows:
        """Check `split`, called `what` in messages. Raises `MedwardError` for what cannot be trained on."""
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
        return cls(x=torch.from_numpy(x), y=torch.from_numpy(np.array(split.labels, np.int64)))

    def some(self, most: int, generator: torch.Generator) -> Rows:
        """At most `most` rows, drawn without replacement."""
        if len(self) <= most:
            return self
        index = torch.randperm(len(self), generator=generator)[:most]
        return Rows(x=self.x[index], y=self.y[index])


def trainable_copy(network: nn.Module, sample: Tensor, device: str, threshold: float | None = None) -> Scoring:
    """A trainable copy of `network` on `device`, tried on the rows `sample`; `threshold` is its operating point.

    Weights that are frozen stay so, unless all are: then all are trained. Scores that are non-negative with rows
    that sum to one are taken for probabilities. Raises `MedwardError` when the copy cannot be made or run.
    """
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
    made = Scoring(net)
    scores = _tried(made, sample.to(device))
    if not torch.isfinite(scores).all():
        raise MedwardError("model: its scores on the data hold NaN or infinity")
    if scores.shape[1] < 2:
        raise MedwardError(f"model: needs a score for each of two or more classes, got {scores.shape[1]}")
    sums = scores.sum(dim=1)
    made.logarithm = bool((scores >= 0).all() and (sums - 1).abs().max() < 1e-3)
    chosen = checked_threshold(threshold, scores.shape[1])
    made.border = 0.0 if chosen is None else threshold_odds(chosen)
    return made


@torch.no_grad()
def _tried(network: Scoring, sample: Tensor) -> Tensor:
    """The scores of the rows `sample`. Raises `MedwardError` that names the layer they do not fit."""
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
            scores: Tensor = network(sample)
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
    return scores


def check_labels(rows: Rows, classes: int, what: str) -> None:
    """Refuse labels that the model has no score for, and classes without a row."""
    lowest, highest = int(rows.y.min()), int(rows.y.max())
    if lowest < 0 or highest >= classes:
        raise MedwardError(
            f"{what}: the model has {classes} classes, so labels are 0 to {classes - 1}, got {lowest} to {highest}"
        )
    missing = sorted(set(range(classes)) - set(rows.y.tolist()))
    if missing:
        raise MedwardError(f"{what}: has no row of class {missing[0]}; hardening needs rows of every class")


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
