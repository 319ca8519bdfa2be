"""Which weights are trained: all, the last layer, or low-rank additions to the attention of a transformer.

Noise is added to every trained number, so fewer are often better. Reference: Hu et al., "LoRA: low-rank adaptation of
large language models", ICLR 2022; Yu et al., "Differentially private fine-tuning of language models", ICLR 2022.
"""

from __future__ import annotations

import re
from typing import Literal

from torch import nn

from medward.guard.errors import MedwardError
from medward.guard.models.base import require_extra

TrainedPart = Literal["all", "head", "lora"]
_ATTENTION = re.compile(r"(^|[._])(q|k|v|query|key|value|qkv|[qkv]_proj|[qkv]_lin|c_attn|in_proj|query_key_value)$")


def select_part(module: nn.Module, part: TrainedPart, *, rank: int = 8, layers: tuple[str, ...] = ()) -> nn.Module:
    """`module` with the weights of `part` trainable and all others frozen; raises `MedwardError` where it has none.

    "head" is the last linear layer. "lora" adds `rank` to the linear `layers` named, by default those that make
    queries, keys and values; the module is changed in place and `merged_part` makes it plain again.
    """
    if part == "all":
        return module
    if part == "head":
        last = [each for each in module.modules() if isinstance(each, nn.Linear)][-1:]
        if not last:
            raise MedwardError('part: "head" is the last linear layer, and the model has none; train part "all"')
        module.requires_grad_(False)
        last[0].requires_grad_(True)
        return module
    peft = require_extra("peft", "lora")
    named = {name: each for name, each in module.named_modules() if _is_linear(each)}
    chosen = [name for name in named if (name in layers if layers else _ATTENTION.search(name))]
    if not chosen or any(each not in named for each in layers):
        raise MedwardError(
            f'part: "lora" found no such linear layers ({", ".join(layers) or "query, key, value, c_attn, ..."}); name '
            f"some of {', '.join(list(named)[:8]) or 'none'} in PrivateTraining(lora_layers=...), in Python, or train "
            'part "head"'
        )
    module.requires_grad_(False)
    for linear in (True, False):  # a Conv1D holds its weight the other way round, and a network may have both
        if targets := [name for name in chosen if isinstance(named[name], nn.Linear) == linear]:
            config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, fan_in_fan_out=not linear)
            peft.inject_adapter_in_model(config, module)
            delattr(module, "peft_config")  # what the layers need they have, and a second one would be warned of
    return module


def merged_part(module: nn.Module) -> nn.Module:
    """`module` with low-rank additions added into its own layers, as plain as it came; any other as it is."""
    for name, each in [*module.named_modules()]:
        if hasattr(each, "lora_A") and hasattr(each, "merge"):
            each.merge()
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, each.get_base_layer())
    return module


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"
