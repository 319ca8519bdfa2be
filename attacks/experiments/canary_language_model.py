"""A language model as the disclosure attacks ask it: its losses on texts, and what it goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medward.attacks.disclosure.canary_extraction import CanaryLeak, measure_canary_leaks
from medward.attacks.disclosure.extraction_suite import AnswerFilter
from medward.attacks.membership.language.generations import sample_continuations
from medward.attacks.membership.language.tokens import TextTokenizer, mean_losses, read_tokens
from medward.guard.data.text_canaries import plant_texts
from medward.guard.release.memory.memory_filter import MemoryFilter
from medward.guard.types import Array

REPETITIONS = (1, 4, 16)


def plant_repeated(
    texts: Sequence[str], count: int, *, seed: int, repetitions: Sequence[int] = REPETITIONS
) -> tuple[tuple[str, ...], dict[int, tuple[str, ...]]]:
    """`texts` with canaries after them, and the canaries by how often they were planted; 0 are those left out.

    Of `count` canaries at each number of repetitions about half are left out, by a fair coin.
    """
    planted: tuple[str, ...] = tuple(texts)
    groups: dict[int, tuple[str, ...]] = {0: ()}
    for place, copies in enumerate(repetitions):
        planted, made = plant_texts(planted, count, seed=seed + place, copies=copies)
        inside = tuple(text for text, kept in zip(made.texts, made.included, strict=True) if kept)
        groups[copies] = inside
        groups[0] += tuple(text for text in made.texts if text not in inside)
    return planted, groups


def language_model_leaks(
    model: Any,
    tokenizer: TextTokenizer,
    canaries: dict[int, tuple[str, ...]],
    guard: MemoryFilter | AnswerFilter,
    *,
    references: int = 255,
    new_tokens: int = 24,
    seed: int = 0,
) -> list[CanaryLeak]:
    """What a causal `model` gives away of `canaries`; it goes on with the likeliest token each time."""

    def losses(texts: Sequence[str]) -> Array:
        return mean_losses(read_tokens(model, tokenizer, texts))

    def continuation(prompts: Sequence[str]) -> list[str]:
        stripped = [prompt.rstrip() for prompt in prompts]  # a byte-level tokenizer puts the space before a word
        drawn = sample_continuations(model, tokenizer, stripped, 1, new_tokens=new_tokens, seed=seed, top_k=1)
        return [each[0] for each in drawn]

    return measure_canary_leaks(losses, continuation, canaries, lambda: guard, references=references, seed=seed)
