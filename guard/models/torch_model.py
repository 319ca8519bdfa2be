"""A torch module as a `Model`, and its export to ONNX.

The caller's module is only borrowed: its training flags are put back after every call, no gradient is kept.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from guard.errors import MedwardError
from guard.models import checks, onnx_model
from guard.models.base import Exported, first_line, require
from guard.models.kinds import check_shape
from guard.types import Array, Ints, ModelSpec, Outputs

BATCH = 256
QUIET = "torch.onnx._internal.exporter._registration"  # says at each export that torchvision is not installed


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

    Calls from several threads take turns, because hooks and training flags belong to the module.
    """

    spec: ModelSpec
    module: Headed
    sample: Array
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to scores ``(n, classes)`` and features ``(n, d)``."""
        with self.lock, evaluating(self.module):
            arrays = checks.in_batches(self._forward, inputs, BATCH)
        return checks.outputs(arrays[0], arrays[1] if len(arrays) > 1 else None, self.spec)

    def own_decisions(self, _: NDArray[np.generic]) -> Ints | None:
        """None: a module has nothing but its scores."""
        return None

    def _forward(self, batch: Array) -> list[Array]:
        like = next(self.module.parameters(), None)
        x = torch.from_numpy(np.array(batch, np.float32))
        results = self.module(x if like is None else x.to(like.device))
        if not isinstance(results[0], Tensor):
            check_shape(self.spec.name, results[0], len(self.spec.classes))
            kind = type(results[0]).__name__
            raise MedwardError(
                f"{self.spec.name}: the module must return a tensor (n, classes), got {kind}; "
                "wrap it in a module whose forward returns the scores alone"
            )
        return [result.float().cpu().numpy() for result in results]

    def export(self, folder: Path) -> Exported:
        """Write ``model.onnx`` with outputs "scores" and "features" and a dynamic batch axis."""
        path = folder / "model.onnx"
        with self.lock, evaluating(self.module):
            to_onnx(self.module, self.sample, path)
        names = {"input": "input", "scores": "scores"} | ({"features": "features"} if self.module.layer else {})
        written = onnx_model.load(path.read_bytes(), self.spec, names)
        for n in {1, len(self.sample)}:  # one row and several, however the batch axis was traced
            rows = self.sample[:n]
            checks.check_agreement(self.predict(rows), written.predict(rows), path.name)
        return Exported(path.name, names)


def adapt(x: nn.Module, spec: ModelSpec, sample: Array, features: str | None) -> TorchModel:
    """Wrap a module; `features` names a layer, default the input of the last ``nn.Linear``."""
    return TorchModel(spec=spec, module=headed(x, x, features), sample=sample)


def describe(_: nn.Module) -> dict[str, Any]:
    """Nothing can be known of a bare module without running it."""
    return {}


def headed(net: nn.Module, named: nn.Module, features: str | None) -> Headed:
    """`net` with its feature layer, which is looked up by name in `named`."""
    if features is not None:
        try:
            return Headed(net, named.get_submodule(features), before=False)
        except AttributeError:
            near = [name for name, _ in named.named_modules() if name][-8:]
            raise MedwardError(f"features: no layer named {features!r}; the last layers are {near}") from None
    linear = [module for module in named.modules() if isinstance(module, nn.Linear)]
    return Headed(net, linear[-1] if linear else None, before=True)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every submodule's own training flag is put back."""
    flags = [(each, each.training) for each in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for each, training in flags:
            each.training = training


def to_onnx(module: nn.Module, sample: Array, path: Path) -> None:
    """Export a module in eval mode with ``torch.onnx``; only torch's own notices are kept quiet."""
    require("onnxscript", "torch")
    like = next(module.parameters(), None)
    rows = np.concatenate([sample, sample])[:2]  # torch.export would fix a batch of one row
    x = torch.from_numpy(np.array(rows, np.float32))
    names = ["scores", "features"]
    log = logging.getLogger(QUIET)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            program = torch.onnx.export(
                module,
                (x if like is None else x.to(like.device),),
                input_names=["input"],
                output_names=names if getattr(module, "layer", None) is not None else names[:1],
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        if program is None:
            raise MedwardError(f"{path.name}: torch.onnx returned no program")
        program.save(path, external_data=False)
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(f"{path.name}: torch.onnx cannot export this module: {first_line(error)}") from error
    finally:
        log.setLevel(level)
