"""MBA: can the service fill in the hard words of a document, which only one that looked it up would know?

Reference: Liu, Zhang and Wang, "Mask-based membership inference attacks for retrieval-augmented generation", WWW 2025.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.generations import Ask
from medward.guard.errors import MedwardError
from medward.guard.types import Array

MASK_QUESTION = "Fill in the masks of this text from the context. Answer one line per mask, as [Mask_1]: word.\n{text}"
_ANSWER = re.compile(r"\[?mask_(\d+)\]?\s*[:=]?\s*[\"'*]*([^\s\"'*,;]+)", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{3,}")


def masked_word_scores(ask: Ask, texts: Sequence[str], background: Sequence[str], *, masks: int = 10) -> Array:
    """The share ``(n,)`` of each text's hard words that the service fills in.

    The `masks` hardest words are those that `background`, other texts of the kind, has least often, the earlier of two
    alike; each is masked wherever the text has it. Raises `MedwardError` where a text has no word of three letters.
    """
    counts = Counter(word for text in background for word in _words(text))
    masked = [mask_words(text, counts, masks) for text in texts]
    answers = ask([MASK_QUESTION.format(text=text) for text, _ in masked])
    return np.array([_filled_share(answer, words) for answer, (_, words) in zip(answers, masked, strict=True)])


def mask_words(text: str, counts: Counter[str], masks: int) -> tuple[str, list[str]]:
    """The text with its `masks` rarest words replaced by ``[Mask_1]``, ``[Mask_2]``..., and these words in order."""
    distinct = list(dict.fromkeys(_words(text)))
    if not distinct:
        raise MedwardError("masked words: a text has no word of three letters to mask; leave it out")
    rare = sorted(distinct, key=lambda word: counts.get(word, 0))[:masks]
    words = [word for word in distinct if word in set(rare)]
    names = {word: f"[Mask_{number}]" for number, word in enumerate(words, start=1)}
    return _WORD.sub(lambda match: names.get(match[0].lower(), match[0]), text), words


def _filled_share(answer: str, words: Sequence[str]) -> float:
    given = {int(number): word.strip(".").lower() for number, word in _ANSWER.findall(answer)}
    return sum(1 for number, word in enumerate(words, start=1) if given.get(number) == word) / len(words)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
