"""A torch module as a `Model`, and its export to ONNX.

The caller's module is only borrowed: its training flags are put back after every call, no gradient is kept.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.models import checks, onnx_model
from medward.guard.models.base import Adapter, Exported, first_line, require_extra, root_cause
from medward.guard.models.front import FRONT_MARK
from medward.guard.models.kinds import check_output_shape
from medward.guard.models.torch_front import Fronted, fronted
from medward.guard.models.torch_outputs import refuse_outputs
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints, Outputs

_BATCH = 256
ROUNDINGS = 8  # of one score, by which a module of half precision may be off
QUIET = (  # says at each export that torchvision is not installed; prints the graph of one that failed
    "torch.onnx._internal.exporter._registration",
    "torch.fx.experimental.symbolic_shapes",
    "torch.export._trace",
)
NOTICES = (
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    (r"_check_is_size will be removed", FutureWarning),
    (r"The tensor attributes self\.\S*_flat_weights", UserWarning),  # of recurrent layers, which do so themselves
    (r"The \.grad attribute of a Tensor that is not a leaf", UserWarning),
)
"""Warnings that torch gives of its own doing when it exports."""


class Headed(nn.Module):
    """A module that returns its scores and, flattened to ``(n, d)``, what a hook sees at `layer`.

    The module gets a copy of its input, so that one that works in place changes nothing but that.
    The layer's output, or its input when `before`. The hook lives only during one forward pass.
    """

    def __init__(self, net: nn.Module, layer: nn.Module | None, *, before: bool) -> None:
        super().__init__()
        self.net = net
        self.layer = layer
        self.before = before

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Scores and, when there is a layer, features."""
        seen: list[Any] = []
        if self.layer is None:
            return (self.net(x.clone()),)
        if self.before:
            handle = self.layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        else:
            handle = self.layer.register_forward_hook(lambda *call: seen.append(call[-1]))
        try:
            scores = self.net(x.clone())
        finally:
            handle.remove()
        if not seen or not isinstance(seen[-1], Tensor) or seen[-1].shape[0] != x.shape[0]:
            raise MedwardError("features: the layer must run and give one tensor with a row per input; name another")
        return scores, seen[-1].flatten(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchModel:
    """Scores and features of a torch module, float32, on the device its parameters are on.

    `original` is the caller's module where that computes in another precision and `module` holds a float32 copy.
    Calls from several threads take turns, because hooks and training flags belong to the module.
    """

    spec: ModelSpec
    module: Headed
    sample: Array
    original: nn.Module | None = None
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to scores ``(n, classes)`` and features ``(n, d)``."""
        with self.lock, evaluation_mode(self.module):
            arrays = checks.in_batches(self._forward, inputs, _BATCH)
        return checks.checked_outputs(arrays[0], arrays[1] if len(arrays) > 1 else None, self.spec)

    def own_decisions(self, rows: NDArray[Any]) -> Ints | None:
        """What a module of double or half precision decides in its own; None where there is nothing but the scores.

        Classes whose scores are closer than that precision can tell apart are decided as in float32.
        """
        original = self.original
        if original is None:
            return None
        dtype = module_precision(original)
        with self.lock, evaluation_mode(original):
            found = checks.in_batches(lambda batch: [_scored(original, batch, dtype)], rows, _BATCH)[0]
        task, single = self.spec.task, self.predict(np.asarray(rows, np.float32)).scores
        if not isinstance(task, Classification):
            return None
        found = task.read(found, self.spec.name)
        clear = top_margins(found) > ROUNDINGS * torch.finfo(dtype).eps * np.abs(found).max(axis=1)
        return np.asarray(np.where(clear, found.argmax(axis=1), single.argmax(axis=1)), np.int64)

    def _forward(self, batch: Array) -> list[Array]:
        results = self.module(_rows(self.module, batch))
        if not isinstance(results[0], Tensor):
            check_output_shape(self.spec.name, results[0], self.spec.task)
            refuse_outputs(self.spec.name, results[0])
        return [result.float().cpu().numpy() for result in results]

    def export(self, folder: Path) -> Exported:
        """Write ``model.onnx`` with outputs "scores" and "features" and a dynamic batch axis."""
        path = folder / "model.onnx"
        with self.lock, evaluation_mode(self.module):
            module_to_onnx(self.module, self.sample, path)
        names = {"input": "input", "scores": "scores"} | ({"features": "features"} if self.module.layer else {})
        written = onnx_model.load_onnx(path.read_bytes(), self.spec, names)
        for n in {1, len(self.sample)}:  # one row and several, however the batch axis was traced
            rows = self.sample[:n]
            original, exported = self.predict(rows), written.predict(rows)
            checks.check_agreement(original, exported, path.name)
            checks.check_decisions(original, exported, self.spec, path.name)
        return Exported(path.name, names)


def adapt_module(
    x: nn.Module, spec: ModelSpec, sample: Array, features: str | None, output_key: str | None
) -> TorchModel:
    """Wrap a module; `features` names a layer, default the input of the last ``nn.Linear`` to run."""
    return as_torch_model(x, lambda net: fronted(net, spec, output_key), spec, sample, features)


def as_torch_model(
    x: nn.Module, called: Callable[[nn.Module], nn.Module], spec: ModelSpec, sample: Array, features: str | None
) -> TorchModel:
    """`x` as a model, `called` as a module that gives scores; its layers are looked up in `x` by name."""
    net, original = x, None
    if module_precision(x) != torch.float32:
        try:
            net, original = copy.deepcopy(x).float(), called(x)
        except Exception as error:  # a user's module can raise nearly anything
            raise MedwardError(f"{spec.name}: cannot be copied to float32: {first_line(error)}") from error
    sample = sample[:_BATCH]
    module = with_features(called(net), net, features, sample)
    return TorchModel(spec=spec, module=module, sample=sample, original=original)


def describe_module(_: nn.Module, __: str | None) -> dict[str, Any]:
    """Nothing can be known of a bare module without running it."""
    return {}


def module_precision(module: nn.Module) -> torch.dtype:
    """The floating-point type of a module's weights, and so of its inputs: the first that is not float32, if any."""
    kinds = [each.dtype for each in module.parameters() if each.is_floating_point()]
    return next((kind for kind in kinds if kind != torch.float32), torch.float32)


def top_margins(scores: Array) -> Array:
    """How far the largest score of each row is above the next."""
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def with_features(net: nn.Module, named: nn.Module, features: str | None, sample: Array) -> Headed:
    """`net` with its feature layer, which is looked up by name in `named`.

    Default is the input of the last ``nn.Linear`` that runs on `sample` and is given one row per input, if any does.
    """
    if features is not None:
        try:
            return Headed(net, named.get_submodule(features), before=False)
        except AttributeError:
            near = [name for name, _ in named.named_modules() if name][-8:]
            raise MedwardError(f"features: no layer named {features!r}; the last layers are {near}") from None
    linear = [module for module in named.modules() if isinstance(module, nn.Linear)]
    return Headed(net, _last_to_run(net, linear, sample) if linear else None, before=True)


def _last_to_run(net: nn.Module, layers: Sequence[nn.Module], sample: Array) -> nn.Module | None:
    """Of `layers` the last that runs and is given one row per input, for two inputs and for three."""
    found: list[tuple[nn.Module, int]] = []
    handles = [
        layer.register_forward_pre_hook(lambda layer, args: found.append((layer, args[0].shape[0]))) for layer in layers
    ]
    try:
        with evaluation_mode(net):
            fits = []
            for n in (2, 3):
                found.clear()
                net(_rows(net, np.concatenate([sample] * n)[:n]))
                fits.append({id(layer): size == n for layer, size in found})
    finally:
        for handle in handles:
            handle.remove()
    return next((layer for layer, _ in reversed(found) if all(each.get(id(layer)) for each in fits)), None)


def _scored(module: nn.Module, rows: Array, dtype: torch.dtype) -> Array:
    like = next(module.parameters(), None)
    x = torch.from_numpy(np.array(rows, np.float64)).to(dtype)
    scores: Tensor = module(x if like is None else x.to(like.device))
    return np.asarray(scores.double().cpu().numpy())


def _rows(module: nn.Module, rows: Array) -> Tensor:
    """A copy of `rows` in float32, where the weights of `module` are."""
    like = next(module.parameters(), None)
    x = torch.from_numpy(np.array(rows, np.float32))
    return x if like is None else x.to(like.device)


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every submodule's own training flag is put back."""
    flags = [(each, each.training) for each in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for each, training in flags:
            each.training = training


def module_to_onnx(module: nn.Module, sample: Array, path: Path) -> None:
    """Export a module in eval mode with ``torch.onnx``; only torch's own notices are kept quiet."""
    require_extra("onnxscript", "torch")
    rows = np.concatenate([sample, sample])[:2]  # torch.export would fix a batch of one row
    names = ["scores", "features"]
    logs = [logging.getLogger(name) for name in QUIET]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            for notice, kind in NOTICES:
                warnings.filterwarnings("ignore", notice, kind)
            program = torch.onnx.export(
                module,
                (_rows(module, rows),),
                input_names=["input"],
                output_names=names if getattr(module, "layer", None) is not None else names[:1],
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        if program is None:
            raise MedwardError(f"{path.name}: torch.onnx returned no program")
        if any(isinstance(each, Fronted) and each.normalises for each in module.modules()):
            program.model.metadata_props[FRONT_MARK] = "normalised"
        program.save(path, external_data=False)
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(f"{path.name}: torch.onnx cannot export this module: {root_cause(error)}") from error
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


TORCH_ADAPTER = Adapter(adapt_module, describe_module)
