"""Texts that a language model goes on with, drawn from a local model or asked of a service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from medward.attacks.membership.language.tokens import TextTokenizer, context_length, evaluation_mode, token_ids
from medward.guard.types import Array

Continue = Callable[[list[str], int], list[list[str]]]
"""Takes prompts and a number of samples; returns that many continuations of each, without the prompt."""
Ask = Callable[[list[str]], list[str]]
"""Takes questions to a service and returns its answers, one each."""


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
    ends = getattr(tokenizer, "eos_token_id", None)
    place, found = next(model.parameters()).device, []
    with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluation_mode(model):
        torch.manual_seed(seed)
        for ids in token_ids(tokenizer, prompts):
            rows = torch.tensor([ids[-room:]] * samples, device=place)
            start, alive = rows.shape[1], torch.ones(samples, dtype=torch.bool, device=place)
            for _ in range(new_tokens):
                logits = model(input_ids=rows).logits[:, -1].float() / temperature
                best = torch.topk(logits, min(top_k, logits.shape[1]))
                chosen = torch.multinomial(torch.softmax(best.values, -1).cpu(), 1).to(place)
                rows = torch.cat([rows, best.indices.gather(1, chosen)], dim=1)
                alive &= rows[:, -1] != ends if ends is not None else alive
                if not alive.any():
                    break
            found.append([_text(tokenizer, row, ends) for row in rows[:, start:].tolist()])
    return found


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


def _text(tokenizer: TextTokenizer, ids: list[int], ends: int | None) -> str:
    kept = ids[: ids.index(ends)] if ends in ids else ids
    return str(tokenizer.decode(kept, skip_special_tokens=True))
