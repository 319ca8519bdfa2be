"""Caption overlap: a model that trained on an image writes for it words of the very text it was trained with.

It needs the written text alone, no probabilities. Texts are compared as lower-case words.

References: Papineni, Roukos, Ward and Zhu, "BLEU", ACL 2002 (counts above one word smoothed by 1, after Lin and Och,
COLING 2004); Lin, "ROUGE", 2004; as an attack Hu et al., "M4I: multi-modal models membership inference", NeurIPS 2022.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_ORDER = 4


def caption_words(text: str) -> list[str]:
    """The lower-case words of a text."""
    return re.findall(r"\w+", text.lower())


def caption_bleu(written: str, truth: str, order: int = _ORDER) -> float:
    """BLEU, 0 to 1: how many runs of up to `order` words of `written` are in `truth`, less if it is shorter."""
    words, true = caption_words(written), caption_words(truth)
    if not words or not true:
        return 0.0
    total = 0.0
    for n in range(1, order + 1):
        mine, theirs = _runs(words, n), _runs(true, n)
        shared, smooth = sum((mine & theirs).values()), int(n > 1)
        if not shared and not smooth:
            return 0.0
        total += math.log((shared + smooth) / (sum(mine.values()) + smooth))
    return math.exp(total / order + min(0.0, 1 - len(true) / len(words)))


def caption_rouge(written: str, truth: str, n: int = 1) -> float:
    """ROUGE-N recall, 0 to 1: which share of the runs of `n` words of `truth` was written."""
    theirs = _runs(caption_words(truth), n)
    shared = _runs(caption_words(written), n) & theirs
    return sum(shared.values()) / max(1, sum(theirs.values()))


def caption_longest(written: str, truth: str) -> float:
    """ROUGE-L, 0 to 1: the F-measure of the longest run of words, with gaps, that both texts hold in order."""
    words, true = caption_words(written), caption_words(truth)
    lengths = [0] * (len(true) + 1)
    for word in words:
        before = 0
        for place, other in enumerate(true, start=1):
            before, lengths[place] = (
                lengths[place],
                before + 1 if word == other else max(lengths[place], lengths[place - 1]),
            )
    return 2 * lengths[-1] / max(1, len(words) + len(true))


def _runs(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
