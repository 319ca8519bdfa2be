"""Texts that a language model goes on with, drawn from a local model or asked of a service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch

from medward.attacks.membership.language.tokens import TextTokenizer, context_length, token_ids
from medward.guard.models.torch_model import evaluation_mode
from medward.guard.types import Array

Continue = Callable[[list[str], int], list[list[str]]]
"""Takes prompts and a number of samples; returns that many continuations of each, without the prompt."""
Ask = Callable[[list[str]], list[str]]
"""Takes questions to a service and returns its answers, one each."""
_ROWS = 256  # drawn at once


def sample_continuations(
    model: Any,
    tokenizer: TextTokenizer,
    prompts: Sequence[str],
    samples: int,
    *,
    new_tokens: int,
    seed: int,
    top_k: int = 50,
    temperature: float = 1.0,
) -> list[list[str]]:
    """`samples` continuations of each prompt, of at most `new_tokens` tokens from the `top_k` likeliest.

    Of a prompt that leaves no room in the context its oldest tokens fall away. The same seed gives the same texts.
    """
    room = max(1, context_length(model, tokenizer) - new_tokens)
    rows = [ids[-room:] for ids in token_ids(tokenizer, prompts)]
    found: dict[int, list[str]] = {}
    with torch.random.fork_rng(devices=[]), evaluation_mode(model):
        torch.manual_seed(seed)
        for some in _equally_long(rows, max(1, _ROWS // samples)):
            begun = [rows[index] for index in some for _ in range(samples)]
            drawn = _drawn(model, begun, new_tokens, top_k, temperature)
            texts = [_text(tokenizer, row, getattr(tokenizer, "eos_token_id", None)) for row in drawn.tolist()]
            found |= {index: texts[at * samples : (at + 1) * samples] for at, index in enumerate(some)}
    return [found[index] for index in range(len(rows))]


def word_recall(candidate: str, true: str) -> float:
    """ROUGE-1 recall: the share of the words of `true` that `candidate` has too, each as often as it has it.

    Words are split at blanks and compared in lower case. 0 where `true` has none.
    """
    wanted, got = Counter(true.lower().split()), Counter(candidate.lower().split())
    total = sum(wanted.values())
    return sum((wanted & got).values()) / total if total else 0.0


def split_words(text: str, share: float) -> tuple[str, str]:
    """The first `share` of a text's words, one at least, and the rest."""
    words = text.split()
    cut = max(1, int(share * len(words)))
    return " ".join(words[:cut]), " ".join(words[cut:])


def yes_or_no(answers: Sequence[str]) -> Array:
    """1 ``(n,)`` where an answer begins with yes, 0 where with no, and one half where it says neither."""
    first = [(answer.strip().lower().split() or [""])[0].strip(".,;:!*\"'") for answer in answers]
    return np.array([{"yes": 1.0, "no": 0.0}.get(word, 0.5) for word in first])


def _equally_long(rows: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Places of rows of one length, `most` at a time, which need no padding."""
    places = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for _, group in groupby(places, key=lambda index: len(rows[index])):
        some = list(group)
        for start in range(0, len(some), most):
            yield some[start : start + most]


def _drawn(model: Any, rows: list[list[int]], new_tokens: int, top_k: int, temperature: float) -> torch.Tensor:
    """New tokens ``(n, new_tokens)`` that go on with `rows` of one length."""
    place = next(model.parameters()).device
    step, past, drawn = torch.tensor(rows, device=place), None, []
    for _ in range(new_tokens):
        answer = model(input_ids=step, past_key_values=past, use_cache=True)
        past = answer.past_key_values
        logits = answer.logits[:, -1].float() / temperature
        best = torch.topk(logits, min(top_k, logits.shape[1]))
        step = best.indices.gather(1, torch.multinomial(torch.softmax(best.values, -1).cpu(), 1).to(place))
        drawn.append(step)
    return torch.cat(drawn, dim=1)


def _text(tokenizer: TextTokenizer, ids: list[int], ends: int | None) -> str:
    kept = ids[: ids.index(ends)] if ends in ids else ids
    return str(tokenizer.decode(kept, skip_special_tokens=True))
