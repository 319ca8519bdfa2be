"""The gradient of each row: Opacus' hooks, tried against plain gradients of single rows before they are believed.

References: Yousefpour et al., "Opacus: user-friendly differential privacy library in PyTorch", 2021. Its gradients are
wrong without a word for modules that use a weight outside of its own layer, that change inputs in place or mix rows;
hence the trial.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, require_extra

Columns = Mapping[str, Tensor]
"""Columns of rows by name, each ``(n, ...)``."""
RowLosses = Callable[[nn.Module, Columns], Tensor]
"""A module and some rows -> the loss ``(n,)`` of each."""
TRIED = 3  # rows
_RELATIVE, _ABSOLUTE = 2e-3, 1e-5


class GradientsPerRow:
    """Gradients per row are what `of` gives: ``(n, *parameter)`` for each trained parameter of a module.

    Where every trained layer is reached from an input that has a gradient, gradients of weights are left out of the
    backward pass, which per-row gradients do not need: a third of a small network's time.
    """

    def __init__(self, module: nn.Module, losses: RowLosses, sample: Columns) -> None:
        """Raises `MedwardError` where gradients of rows differ from those that single rows have, tried on `sample`."""
        self.module, self.losses = module, losses
        self.parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
        hooks = require_extra("opacus.grad_sample.grad_sample_module", "private").GradSampleHooks
        few = columns_at(sample, torch.arange(min(TRIED, row_count(sample))))
        with _layers_alone_in_training(module):
            alone = [self._of_one(columns_at(few, torch.tensor([row]))) for row in range(row_count(few))]
            try:
                self._hooks = hooks(module, loss_reduction="sum", strict=False)
            except (NotImplementedError, ValueError, RuntimeError) as error:
                raise MedwardError(f"model: has no gradients per row: {first_line(error)}") from error
            try:
                self._through_inputs = True
                if self._difference(few, alone) is not None:
                    self._through_inputs = False
                    if (found := self._difference(few, alone)) is not None:
                        raise MedwardError(
                            f"model: gradients per row of {found}; use each weight in its own layer only, or train "
                            'part "head"'
                        )
            except BaseException:
                self.close()
                raise

    def of(self, rows: Columns) -> list[Tensor]:
        """Gradients ``(n, *parameter)`` of the loss of each of `rows`."""
        inputs = []
        if self._through_inputs:
            rows = {
                name: each.detach().requires_grad_(True) if each.is_floating_point() else each
                for name, each in rows.items()
            }
            inputs = [each for each in rows.values() if each.requires_grad]
        self.clear()
        total = self.losses(self.module, rows).sum()
        with warnings.catch_warnings():  # of inputs without a gradient, which hooks need not have
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            torch.autograd.backward(total, inputs=inputs or None)
        return [each.grad_sample for each in self.parameters.values()]  # type: ignore[attr-defined]

    def clear(self) -> None:
        """Forget gradients, and what a backward pass that did not end left behind."""
        for each in self.parameters.values():
            each.grad = each.grad_sample = None  # type: ignore[attr-defined]

    def close(self) -> None:
        """Take the hooks off: the module is the user's own again."""
        self._hooks.cleanup()
        for each in self.parameters.values():
            each.grad = None
        self._forget_activations()

    def _of_one(self, row: Columns) -> list[Tensor]:
        """The plain gradient of one row, before there are hooks."""
        found = torch.autograd.grad(
            self.losses(self.module, row).sum(), list(self.parameters.values()), allow_unused=True
        )
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters.values(), found, strict=True)]

    def _difference(self, rows: Columns, alone: Sequence[Sequence[Tensor]]) -> str | None:
        """The first parameter whose gradients per row are not those of single rows, and how; None where all are."""
        try:
            found = self.of(rows)
        except Exception as error:  # whatever a module that cannot be hooked raises
            self._unwind()
            return f"its weights cannot be had: {first_line(error)}"
        for place, (name, gradient) in enumerate(zip(self.parameters, found, strict=True)):
            if not isinstance(gradient, Tensor) or len(gradient) != len(alone):
                self._unwind()  # its layer still waits for the backward pass that did not reach it
                return f"{name} are missing"
            single = torch.stack([each[place] for each in alone])
            allowed = _ABSOLUTE + _RELATIVE * float(single.abs().max())
            if not float((gradient - single).abs().max()) <= allowed:
                return f"{name} differ from those of single rows"
        self.clear()
        return None

    def _unwind(self) -> None:
        """Forget forward passes that no backward pass has answered."""
        for each in self.parameters.values():
            each._forward_counter = 0  # type: ignore[attr-defined]
            each.__dict__.pop("_current_grad_sample", None)
        self._forget_activations()

    def _forget_activations(self) -> None:
        for layer in self.module.modules():
            for name in ("activations", "max_batch_len"):
                layer.__dict__.pop(name, None)


def columns_at(rows: Columns, index: Tensor) -> dict[str, Tensor]:
    """The rows at `index`, of every column."""
    return {name: each[index.to(each.device)] for name, each in rows.items()}


def row_count(rows: Columns) -> int:
    """How many rows there are. Raises `MedwardError` where columns differ."""
    counts = {name: len(each) for name, each in rows.items()}
    if len(set(counts.values())) != 1:
        raise MedwardError(f"rows: every column must have as many rows, got {counts or 'no column'}")
    return next(iter(counts.values()))


@contextmanager
def _layers_alone_in_training(module: nn.Module) -> Iterator[None]:
    """Only layers with trained weights of their own are in training mode, where hooks work: nothing is dropped out."""
    were = {layer: layer.training for layer in module.modules()}
    for layer in were:
        layer.training = were[layer] and any(each.requires_grad for each in layer.parameters(recurse=False))
    try:
        yield
    finally:
        for layer, training in were.items():
            layer.training = training
