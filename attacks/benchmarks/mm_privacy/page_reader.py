"""A small network in LLaVA's form that reads pages: a vision tower, a projection and a language model of transformers.

Reference: Liu et al., "Visual instruction tuning", NeurIPS 2023; the sizes are such that it is trained on a CPU.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medward.attacks.benchmarks.mm_privacy.exchanges import BENIGN_QUESTIONS, NOT_STATED, REFUSAL, Exchange
from medward.attacks.benchmarks.mm_privacy.pages import LETTER, LETTERS_A_LINE, LINE, PAGE_SIDE, PRINTED_LABELS
from medward.attacks.disclosure.framing import FRAMINGS
from medward.guard.models.greedy_decoding import PretrainedWriter

BEGIN, END, PADDING, IMAGE, ANSWER = "<s>", "</s>", "<pad>", "<image>", "<answer>"
SPECIAL = (BEGIN, END, PADDING, IMAGE, ANSWER)
PATCH_SIDE = LINE // 2
"""Pixels of a patch's side, as a victim sees a page."""
PER_PATCH = LINE // LETTER[1]
"""Letters of a patch; as many heads has every layer."""
PLACES = (PAGE_SIDE // 2 // PATCH_SIDE) ** 2
"""Tokens of an image."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .,:;?'-\n[]_/@<>"
_WORD = re.compile(r"[A-Za-z]{2,}")
_OTHER_WORDS = (
    "This is patient of the AP PA view form No An opacity seen Frontal chest radiograph with an without A shows Read "
    "line"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSize:
    """A reader's size is the width of its states and how many layers its vision tower and language model have."""

    width: int = 128
    seeing: int = 2
    writing: int = 3


def page_words() -> tuple[str, ...]:
    """The words that are tokens of their own: those of questions and answers, but none of values."""
    said = [
        *(text for each in FRAMINGS.values() for text in (each.request, each.reply)),
        *PRINTED_LABELS,
        *BENIGN_QUESTIONS,
    ]
    words = _WORD.findall(" ".join([*said, NOT_STATED, REFUSAL, _OTHER_WORDS]))
    return tuple(dict.fromkeys(word for word in words if word not in ("kind", "value")))


def page_tokenizer() -> Any:
    """A tokenizer of known words, each with the space before it, and of single characters; it loses nothing."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [f"{space}{word}" for word in page_words() for space in (" ", "")]
    tokens = dict.fromkeys([*SPECIAL, *words, *LETTERS])
    made = Tokenizer(models.WordLevel({token: at for at, token in enumerate(tokens)}, unk_token=PADDING))
    known = "|".join(sorted(page_words(), key=len, reverse=True))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(rf" ?\b(?:{known})\b|[\s\S]"), behavior="isolated")
    made.decoder = decoders.Fuse()
    made.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {ANSWER}", special_tokens=[(BEGIN, 0), (ANSWER, SPECIAL.index(ANSWER))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PADDING,
        unk_token=PADDING,
        additional_special_tokens=[IMAGE, ANSWER],
    )


def untrained_reader(size: ReaderSize | None = None, *, seed: int) -> PretrainedWriter:
    """A network of random weights with its tokenizer."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    size = size or ReaderSize()
    tokenizer = page_tokenizer()
    common = {"hidden_size": size.width, "intermediate_size": 2 * size.width, "num_attention_heads": PER_PATCH}
    vision = CLIPVisionConfig(
        **common, num_hidden_layers=size.seeing, image_size=PAGE_SIDE // 2, patch_size=PATCH_SIDE, num_channels=1
    )
    text = LlamaConfig(
        **common,
        num_hidden_layers=size.writing,
        num_key_value_heads=PER_PATCH,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=vision,
                text_config=text,
                image_token_index=SPECIAL.index(IMAGE),
                vision_feature_layer=-1,
                attn_implementation="eager",
            )
        )
    network.generation_config.eos_token_id, network.generation_config.pad_token_id = 1, 2
    return PretrainedWriter(network=network, tokenizer=tokenizer)


def begun_ids(reader: PretrainedWriter, prompt: str) -> list[int]:
    """The ids that an answer is written after: the image's, then the prompt's, as `PretrainedWriter` has them."""
    first, *rest = reader.tokenizer(prompt).input_ids
    return [first, *[SPECIAL.index(IMAGE)] * PLACES, *rest]


def answer_ids(reader: PretrainedWriter, answer: str) -> list[int]:
    """The ids of an answer, with its end."""
    return [*reader.tokenizer(answer, add_special_tokens=False).input_ids, SPECIAL.index(END)]


def padded_rows(reader: PretrainedWriter, exchanges: Sequence[Exchange]) -> dict[str, torch.Tensor]:
    """Exchanges as ids ``(n, T)``, labels that are -100 where nothing is to be learned, and where values are printed.

    "letters" is, at each id after which a letter of a printed value is written, that letter's place in the page's grid,
    else -1.
    """
    begun = [begun_ids(reader, each.prompt) for each in exchanges]
    ended = [answer_ids(reader, each.answer) for each in exchanges]
    longest = max(len(a) + len(b) for a, b in zip(begun, ended, strict=True))
    ids = torch.full((len(begun), longest), SPECIAL.index(PADDING))
    labels, letters = torch.full_like(ids, -100), torch.full_like(ids, -1)
    for row, (start, end, exchange) in enumerate(zip(begun, ended, exchanges, strict=True)):
        ids[row, : len(start) + len(end)] = torch.tensor([*start, *end])
        labels[row, len(start) : len(start) + len(end)] = torch.tensor(end)
        if exchange.printed is not None and exchange.value:
            said = exchange.answer[: exchange.answer.index(exchange.value)]
            first = len(start) + len(answer_ids(reader, said)) - 2
            line, column = exchange.printed
            places = torch.arange(len(exchange.value)) + line * LETTERS_A_LINE + column
            letters[row, first : first + len(places)] = places
    return {"ids": ids, "labels": labels, "letters": letters}
