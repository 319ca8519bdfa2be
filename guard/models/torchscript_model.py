"""A TorchScript module as a `Model`: it becomes an ONNX graph at once, by torch's tracing exporter.

Its layers cannot be looked at or trained, so that is all that is known of it.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medward.guard.errors import MedwardError
from medward.guard.models import checks, onnx_model
from medward.guard.models.base import Adapter, root_cause
from medward.guard.models.front import as_model_takes
from medward.guard.models.torch_outputs import output_places, outputs_text
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

_ROWS = 64  # on which the exported graph is compared
_OPSET = 17


def adapt_script(
    x: Any, spec: ModelSpec, sample: Array, features: str | None, output_key: str | None
) -> onnx_model.OnnxModel:
    """Export the module, put what stands before it in front, and compare with the module's own answers."""
    if features is not None:
        raise MedwardError(f"features: TorchScript shows no layers, got features = {features!r}")
    rows = np.array(as_model_takes(sample[:_ROWS], spec), np.float32)
    own, names = _asked(x, rows, spec.name)
    if len(own) > 1 and output_key is None:
        raise MedwardError(
            f"{spec.name}: the module must return a tensor (n, classes), got {names[1]}; choose one with --output-key"
        )
    keys = list(own)
    if output_key is not None and output_key not in own:
        raise MedwardError(f"model: has no tensor at --output-key {output_key}; it returns {names[1]}")
    chosen = output_key or keys[0]
    written = [f"output {key}" for key in keys]
    data = _exported(x, rows, written, spec.name)
    model = onnx_model.adapt_graph(data, "model.onnx", spec, sample, None, written[keys.index(chosen)])
    found = model.predict(sample[:_ROWS])
    wanted = checks.checked_outputs(own[chosen], None, spec)
    checks.check_agreement(wanted, found, "model.onnx")
    checks.check_decisions(wanted, found, spec, "model.onnx")
    return model


def describe_script(_: object, __: str | None) -> dict[str, Any]:
    """Nothing can be known of TorchScript without running it."""
    return {}


def load_script(path: Path) -> Any:
    """The TorchScript module in the archive `path`, on the CPU; None where that holds none."""
    try:
        with zipfile.ZipFile(path) as archive:
            if not any("/code/" in name for name in archive.namelist()):
                return None
        return torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (OSError, zipfile.BadZipFile):
        return None
    except Exception as error:
        raise MedwardError(f"{path}: cannot be read as TorchScript: {root_cause(error)}") from None


@torch.no_grad()
def _asked(module: Any, rows: Array, name: str) -> tuple[dict[str, Array], tuple[str, str]]:
    """What the module itself gives for `rows`, by key, and in words."""
    kinds = [each.dtype for each in module.parameters() if each.is_floating_point()]
    if kinds and kinds[0] != torch.float32:
        raise MedwardError(f"{name}: TorchScript computes in {kinds[0]}; give module.float(), which this takes")
    module.eval()
    found = module(torch.from_numpy(rows))
    places = {"scores": found} if isinstance(found, Tensor) else output_places(found)
    if not places or not all(isinstance(each, Tensor) for each in places.values()):
        raise MedwardError(f"{name}: the module must return tensors, got {outputs_text(found)}; script one that does")
    return {key: each.float().numpy() for key, each in places.items()}, (name, outputs_text(found))


def _exported(module: Any, rows: Array, outputs: list[str], name: str) -> bytes:
    """The module as ONNX bytes with a dynamic batch axis."""
    buffer = io.BytesIO()
    into: Any = buffer  # which the tracing exporter takes
    batch = {0: "batch"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that tracing is the older way
            torch.onnx.export(
                module,
                (torch.from_numpy(np.concatenate([rows, rows])[:2]),),
                into,
                dynamo=False,
                opset_version=_OPSET,
                input_names=["input"],
                output_names=outputs,
                dynamic_axes={"input": batch, **dict.fromkeys(outputs, batch)},
            )
    except Exception as error:
        raise MedwardError(
            f"{name}: torch.onnx cannot export this TorchScript: {root_cause(error)}; give the nn.Module it came from"
        ) from None
    return buffer.getvalue()


TORCHSCRIPT_ADAPTER = Adapter(adapt_script, describe_script)
