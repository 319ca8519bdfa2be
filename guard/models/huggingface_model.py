"""A Hugging Face image classifier as a `Model`: ``pixel_values`` in, ``.logits`` out.

The image processor is not part of the model: inputs are already resized and normalised, as the
specification says.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from guard.errors import MedwardError
from guard.models.torch_model import TorchModel, headed
from guard.types import Array, ModelSpec


class Logits(nn.Module):
    """A transformers model as a module from pixel values to logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Pixel values ``(n, C, H, W)`` to logits ``(n, classes)``."""
        logits = getattr(self.net(pixel_values=x), "logits", None)
        if not isinstance(logits, Tensor):
            raise MedwardError(f"{type(self.net).__name__} gives no logits; use a model for image classification")
        return logits


def adapt(x: nn.Module, spec: ModelSpec, sample: Array, features: str | None) -> TorchModel:
    """Wrap the classifier; `features` names a layer, default the input of the last ``nn.Linear``."""
    return TorchModel(spec=spec, module=headed(Logits(x), x, features), sample=sample)


def describe(x: Any) -> dict[str, Any]:
    """The classes, from the configuration; transformers classifiers give logits."""
    labels = x.config.id2label
    return {"output": "logits", "classes": tuple(labels[index] for index in sorted(labels))}
