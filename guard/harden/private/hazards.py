"""What would make the claim untrue without a word, each refused or mended in one sentence.

Per-row gradients exist only where a row's loss is a function of that row alone, and only what moves by the noisy
gradient is private. Normalisation over a batch breaks both, as do layers that keep statistics of what they see.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from medward.guard.errors import MedwardError
from medward.guard.harden.private.per_row import Columns, RowLosses, columns_at, row_count
from medward.guard.models.base import first_line

_MOVED = 1e-4  # relative: how far another row's loss may move by rounding
_GROUPS, _PER_GROUP = 32, 4


def mend_normalisation(module: nn.Module, *, fresh: bool) -> tuple[nn.Module, tuple[str, ...]]:
    """`module` without batch statistics that move, and what was done about them, a sentence each.

    A `fresh` start replaces BatchNorm by GroupNorm; a pretrained one keeps it as a fixed affine map, in eval mode, with
    its weights frozen. Instance normalisation keeps no statistics any more; where it has them, they are frozen alike.
    """
    found = [name for name, each in module.named_modules() if isinstance(each, _BatchNorm)]
    told: list[str] = []
    if found and fresh:
        for name in found:
            module = _replaced(module, name, _group_norm(module.get_submodule(name)))
        told.append(f"{len(found)} BatchNorm layers were replaced by GroupNorm: batch statistics mix patients")
    elif found:
        told.append(f"{len(found)} BatchNorm layers are frozen with the statistics they came with")
    for each in module.modules():
        if isinstance(each, _BatchNorm) or (isinstance(each, _InstanceNorm) and each.track_running_stats):
            each.requires_grad_(False)
    return module, tuple(told)


def training_mode(module: nn.Module) -> None:
    """Put `module` in training mode, except layers that normalise by statistics they keep: these stay frozen."""
    module.train()
    for each in module.modules():
        if isinstance(each, _BatchNorm) or (isinstance(each, _InstanceNorm) and each.track_running_stats):
            each.eval()


def check_module(module: nn.Module, losses: RowLosses, sample: Columns) -> None:
    """Refuse a `module` in training mode under which the claim would not hold, tried on the rows `sample`.

    Raises `MedwardError` for half precision, BatchNorm in training mode, buffers that move, losses that are not one for
    each row, rows whose loss depends on other rows, and losses that depend on rows seen before.
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise MedwardError("training: autocast is on; noise in half precision protects nobody, so train in float32")
    for name, each in module.named_parameters():
        if each.requires_grad and each.dtype not in (torch.float32, torch.float64):
            raise MedwardError(
                f"model: the weight {name} is {each.dtype}; noise in half precision protects nobody, so give the model "
                "as float32"
            )
    for name, layer in module.named_modules():
        if isinstance(layer, _BatchNorm) and layer.training:
            raise MedwardError(
                f"model: {name} is BatchNorm in training mode, which mixes patients and keeps their statistics without "
                'noise; start "fresh" for GroupNorm, or freeze it in eval mode'
            )
    rows = columns_at(sample, torch.arange(min(4, row_count(sample))))
    _check_buffers(module, losses, rows)
    _check_forgetful(module, losses, rows)  # before the module itself sees a row
    _check_apart(module, losses, rows)


def refuse_loader(rows: object) -> None:
    """Refuse what brings its own order of rows: samples of the mechanism are drawn here or not at all."""
    if isinstance(rows, torch.utils.data.DataLoader | torch.utils.data.Sampler | torch.utils.data.Dataset | Iterator):
        raise MedwardError(
            f"rows: got a {type(rows).__name__}, whose order (shuffled, weighted) is not the Poisson sample that the "
            "claim rests on; give the tensors, and classes that are rare to class_balance"
        )


def _check_buffers(module: nn.Module, losses: RowLosses, rows: Columns) -> None:
    """Refuse a module one of whose buffers moves in a forward pass."""
    tried = copy.deepcopy(module)
    before = {name: each.detach().clone() for name, each in tried.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            found = losses(tried, rows)
    except MedwardError:
        raise
    except Exception as error:  # a user's network can raise nearly anything
        raise MedwardError(f"model: fails on the rows it is to be trained on: {first_line(error)}") from error
    if not isinstance(found, Tensor) or found.shape != (row_count(rows),):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise MedwardError(f"loss: must be one number for each of {row_count(rows)} rows, got {shape}; do not average")
    for name, each in tried.named_buffers():
        if name not in before or not torch.equal(each, before[name]):
            raise MedwardError(
                f"model: its buffer {name} moves in training, and what a layer notes of rows has no noise; replace the "
                "layer, or freeze it in eval mode"
            )


def _check_apart(module: nn.Module, losses: RowLosses, rows: Columns) -> None:
    """Refuse a module under which the loss of a row depends on another row: each in turn is put in another's place."""
    count = row_count(rows)
    if count < 2:
        return

    def found(some: Columns) -> Tensor:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)  # the same units are dropped out
            return losses(module, some)

    whole = found(rows)
    for row in range(count):
        index = torch.arange(count)
        index[row] = (row + 1) % count
        moved = (found(columns_at(rows, index)) - whole).abs()
        moved[row] = 0
        if not float(moved.max()) <= _MOVED * max(1.0, float(whole.abs().max())):
            raise MedwardError(
                "model: the loss of a row depends on the other rows of its batch, so that no gradient belongs to one "
                "patient; leave out what mixes rows (normalisation over the batch, contrastive losses)"
            )


def _check_forgetful(module: nn.Module, losses: RowLosses, rows: Columns) -> None:
    """Refuse a module that answers otherwise once it has seen another row in training, wherever it noted that."""
    used, unused = copy.deepcopy(module), copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        losses(used, columns_at(rows, torch.full((row_count(rows),), row_count(rows) - 1)))  # with gradients
        with torch.no_grad():
            seen, unseen = (losses(each.eval(), rows) for each in (used, unused))
    if not float((seen - unseen).abs().max()) <= _MOVED * max(1.0, float(unseen.abs().max())):
        raise MedwardError(
            "model: answers otherwise once it has seen other rows in training, and what a layer notes of rows has no "
            "noise; leave out layers that set themselves by the first batch, or keep averages of what they see"
        )


def _group_norm(layer: nn.Module) -> nn.Module:
    """GroupNorm in the place of a BatchNorm, of at least `_PER_GROUP` channels each; one group for flat features."""
    assert isinstance(layer, _BatchNorm)
    most = 1 if isinstance(layer, nn.BatchNorm1d) else max(1, min(_GROUPS, layer.num_features // _PER_GROUP))
    groups = next(each for each in range(most, 0, -1) if layer.num_features % each == 0)
    return nn.GroupNorm(groups, layer.num_features, eps=layer.eps, affine=layer.affine).to(_place(layer))


def _place(layer: nn.Module) -> torch.device:
    return next((each.device for each in (*layer.parameters(), *layer.buffers())), torch.device("cpu"))


def _replaced(module: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """`module` with another layer at `name`; the layer itself where the module is that layer."""
    if not name:
        return layer
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, layer)
    return module
