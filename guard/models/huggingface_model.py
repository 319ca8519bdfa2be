"""A Hugging Face image model as a `Model`: ``pixel_values`` in, ``.logits`` out.

What its image processor does before is said by the specification (`guard.models.huggingface_folder`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.models.base import Adapter
from medward.guard.models.kinds import MULTILABEL, REGRESSION, by_class_name, refuse_kind
from medward.guard.models.torch_front import fronted
from medward.guard.models.torch_model import TorchModel, as_torch_model
from medward.guard.spec import ModelSpec
from medward.guard.types import Array


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


def adapt_huggingface(
    x: nn.Module, spec: ModelSpec, sample: Array, features: str | None, output_key: str | None
) -> TorchModel:
    """Wrap the classifier; `features` names a layer, default the input of the last ``nn.Linear``."""

    def called(net: nn.Module) -> nn.Module:
        return fronted(Logits(net) if output_key is None else net, spec, output_key)

    return as_torch_model(x, called, spec, sample, features)


def describe_huggingface(x: Any, _: str | None = None) -> dict[str, Any]:
    """The classes and the channels of an image, from the configuration; a classifier of one label gives logits.

    Raises `MedwardError` for a model of another kind, by its class and ``problem_type``, and for one whose ``id2label``
    and ``label2id`` contradict each other.
    """
    kind, config = type(x).__name__, x.config
    by_class_name("model", kind)
    if getattr(x, "main_input_name", "pixel_values") in ("input_ids", "decoder_input_ids"):
        refuse_kind("model", "text", f"{kind} takes {x.main_input_name}")
    problem = getattr(config, "problem_type", None)
    labels = config.id2label
    task = MULTILABEL if problem == "multi_label_classification" else None
    if problem == "regression" or len(labels) == 1:
        task = REGRESSION
    numbered = getattr(config, "label2id", None) or {}
    swapped = [name for index, name in labels.items() if numbered.get(name, index) != index]
    if swapped:
        raise MedwardError(
            f"model: its id2label and label2id disagree about {swapped[0]!r}; put the right one into both"
        )
    channels = getattr(config, "num_channels", None)  # image_size binds some models only
    known: dict[str, Any] = {"output": "logits", "classes": tuple(labels[index] for index in sorted(labels))}
    if task is not None:
        known["task"] = task
    return known | ({"shape": (channels, None, None)} if isinstance(channels, int) else {})


HUGGINGFACE_ADAPTER = Adapter(adapt_huggingface, describe_huggingface)
