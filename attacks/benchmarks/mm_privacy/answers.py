"""Answers of a page reader, decoded greedily and many at once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from medward.attacks.benchmarks.mm_privacy.page_reader import IMAGE, SPECIAL, begun_ids
from medward.attacks.benchmarks.mm_privacy.page_training import image_states, seen_pixels
from medward.guard.errors import MedwardError
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.types import Array

LONGEST_ANSWER = 64
"""Tokens of an answer."""
_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderAnswers:
    """A reader's answers are a model of a prompt and a page; what `prepare` was told of is written beforehand.

    A prompt that nobody told of is answered about all `pages` at once: an attack asks about one after the other.
    """

    reader: PretrainedWriter
    pages: Sequence[Array] = field(default=(), repr=False, compare=False)
    _written: dict[tuple[str, bytes], str] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, prompt: str, image: Array | None) -> str:
        """The answer to a prompt about a page."""
        if image is None:
            raise MedwardError("page reader: answers about an image, and none was shown; give a page")
        if (key := _asked(prompt, image)) not in self._written:
            self.prepare([(prompt, each) for each in (image, *self.pages)])
        return self._written[key]

    def prepare(self, asked: Sequence[tuple[str, Array]]) -> None:
        """Write the answers to many prompts about pages, those of equal length together."""
        alike: dict[int, dict[tuple[str, bytes], Array]] = defaultdict(dict)
        for prompt, image in asked:
            if (key := _asked(prompt, image)) not in self._written:
                alike[len(begun_ids(self.reader, prompt))][key] = image
        for group in alike.values():
            keys = list(group)
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                texts = written_answers(self.reader, [prompt for prompt, _ in some], [group[key] for key in some])
                self._written.update(zip(some, texts, strict=True))


def _asked(prompt: str, image: Array) -> tuple[str, bytes]:
    """What names a question about a page, and does not hold the page."""
    return prompt, hashlib.sha256(image.tobytes()).digest()


@torch.inference_mode()
def written_answers(reader: PretrainedWriter, prompts: Sequence[str], images: Sequence[Array]) -> list[str]:
    """What is written greedily after prompts of equal length, each about a page of its own."""
    network, end = reader.network, SPECIAL.index("</s>")
    ids = torch.tensor([begun_ids(reader, prompt) for prompt in prompts])
    embedded = network.get_input_embeddings()(ids)
    embedded[ids == SPECIAL.index(IMAGE)] = image_states(network, seen_pixels(images)).flatten(0, 1)
    cache: Any = None
    tokens: list[torch.Tensor] = []
    over = torch.zeros(len(ids), dtype=torch.bool)
    for _ in range(LONGEST_ANSWER):
        out = network(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
        cache, found = out.past_key_values, out.logits[:, -1].argmax(-1)
        over |= found == end
        tokens.append(torch.where(over, end, found))
        if bool(over.all()):
            break
        embedded = network.get_input_embeddings()(found[:, None])
    written = torch.stack(tokens, dim=1).tolist()
    return [reader.tokenizer.decode([each for each in row if each != end], skip_special_tokens=True) for row in written]
