"""Where the weights that training starts from come from: nowhere, or a training that never saw these rows.

A start that saw the rows has no privacy left to give. Whether it did, its owner must know; what can be told from
outside is told here: weights that already know rows to be trained on from rows kept apart.
"""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

Start = Literal["fresh", "pretrained"]
PRETRAINED = (
    "the weights that training started from: the claim assumes, as their owner states, that they were never fitted to, "
    "or chosen by, these rows"
)
_REFUSED = 0.6  # the area under the curve at which rows are told apart for certain
_SURE = 3.0  # standard errors


def draw_weights(module: nn.Module, seed: int) -> nn.Module:
    """`module` with every weight drawn anew. Raises `MedwardError` for a layer that cannot draw its own.

    Of a `transformers` model another is made from its configuration.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for weight in module.parameters():
            weight.fill_(torch.nan)  # what nobody draws anew shows
        done: set[int] = set()
        for each in module.modules():
            if hasattr(each, "config") and hasattr(each, "base_model_prefix") and id(each) not in done:
                made = type(each)(copy.deepcopy(each.config))
                each.load_state_dict(made.state_dict())
                done |= {id(inner) for inner in each.modules()}
        for layer in module.modules():
            reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
            own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
            if own and callable(reset) and id(layer) not in done:
                reset()
        for name, layer in module.named_modules():
            if kept := [key for key, each in layer.named_parameters(recurse=False) if not each.isfinite().all()]:
                raise MedwardError(
                    f"model: its layer {name or type(layer).__name__} has weights ({', '.join(kept)}) and no "
                    "reset_parameters that draws them, so they would stay as they came; define it, or start "
                    '"pretrained" if they never saw these rows'
                )
    return module


def kept_buffers(module: nn.Module) -> tuple[str, ...]:
    """A sentence for buffers of numbers that a fresh start keeps as they came; none without any."""
    found = [name for name, each in module.named_buffers() if each.is_floating_point()]
    if not found:
        return ()
    return (f"buffers that are kept as they came: {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}",)


def check_start(losses: Tensor, unseen: Tensor, units: Ints, unseen_units: Ints) -> str | None:
    """Refuse weights under which rows to be trained on have less loss than rows kept apart; or a doubt, in a sentence.

    `losses` and `unseen` are the start's, ``(n,)`` and ``(m,)``; rows of one unit count once. Nothing of what is
    measured is written down but this verdict.
    """
    inside, outside = _unit_means(losses, units), _unit_means(unseen, unseen_units)
    area, error = _area(inside, outside)
    if area - _SURE * error <= 0.5:
        return None
    if area >= _REFUSED:
        raise MedwardError(
            f"start: the given weights tell rows of train from rows kept apart (AUC {area:.2f} of their losses), so "
            'they seem to have been trained on them; start "fresh", or from weights that never saw these rows'
        )
    return (
        "the given weights have a little less loss on train than on rows kept apart: make sure that they never saw the "
        "rows"
    )


def _unit_means(losses: Tensor, units: Ints) -> Array:
    place = np.unique(units, return_inverse=True)[1]
    values = losses.detach().cpu().double().numpy()
    return np.asarray(np.bincount(place, values) / np.bincount(place))


def _area(inside: Array, outside: Array) -> tuple[float, float]:
    """The share of pairs in which the loss inside is less, ties halved, and its standard error (DeLong 1988)."""
    order = np.sort(outside)
    wins = 1 - (np.searchsorted(order, inside, "left") + np.searchsorted(order, inside, "right")) / (2 * len(outside))
    order = np.sort(inside)
    losses = (np.searchsorted(order, outside, "left") + np.searchsorted(order, outside, "right")) / (2 * len(inside))
    error = np.sqrt(wins.var() / len(inside) + losses.var() / len(outside))
    return float(wins.mean()), float(error)
