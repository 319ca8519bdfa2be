"""The tokens of reports: a byte-level BPE that is learned from texts, and writes any other, too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medward.guard.models.base import require_extra

BEGIN, END, PAD, IMAGE = "<s>", "</s>", "<pad>", "<image>"
SPECIAL_TOKENS = (BEGIN, END, PAD, IMAGE)
"""Beginning, end, filling, and a place of the image, in the order of their ids."""


def report_tokenizer(texts: Iterable[str], *, vocabulary: int = 600) -> Any:
    """A byte-level BPE of at most `vocabulary` tokens and the bytes, trained on `texts`, with `SPECIAL_TOKENS`.

    A text begins with `BEGIN` unless no special tokens are asked for.
    """
    transformers = require_extra("transformers", "huggingface")
    tokenizers = require_extra("tokenizers", "huggingface")
    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = tokenizers.processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BEGIN, eos_token=END, pad_token=PAD, extra_special_tokens=[IMAGE]
    )
