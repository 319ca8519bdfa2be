"""How spans found in texts are scored against gold spans: whole spans found, and tokens rightly removed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Span = tuple[int, int]
_TOKEN = re.compile(r"\w+")


@dataclass(kw_only=True)
class SpanScores:
    """A gold span is found if every letter and digit of it is in found spans; tokens are runs of letters and digits."""

    gold: Counter = field(default_factory=Counter)
    found: Counter = field(default_factory=Counter)
    removed_tokens: int = 0
    right_tokens: int = 0
    clean_texts: int = 0  # without a gold span
    clean_texts_touched: int = 0

    def add(self, text: str, gold: Iterable[tuple[str, int, int]], found: Sequence[Span], neutral: Iterable[Span] = ()):
        """Counts one text; tokens in `neutral` spans count neither for nor against precision."""
        inside, right, aside = (bytearray(len(text)) for _ in range(3))
        for start, end in found:
            inside[start:end] = b"\1" * (end - start)
        for start, end in neutral:
            aside[start:end] = b"\1" * (end - start)
        gold = list(gold)
        for label, start, end in gold:
            right[start:end] = b"\1" * (end - start)
            self.gold[label] += 1
            self.found[label] += all(inside[at] for at in range(start, end) if text[at].isalnum())
        for token in _TOKEN.finditer(text):
            here = slice(*token.span())
            if any(inside[here]) and not (any(aside[here]) and not any(right[here])):
                self.removed_tokens += 1
                self.right_tokens += any(right[here])
        if not gold:
            self.clean_texts += 1
            self.clean_texts_touched += bool(found)

    @property
    def recall(self) -> float:
        """The share of gold spans that were found whole."""
        return self.found.total() / max(self.gold.total(), 1)

    @property
    def precision(self) -> float:
        """The share of removed tokens that are in gold spans."""
        return self.right_tokens / max(self.removed_tokens, 1)

    def table(self) -> Mapping[str, Mapping[str, object]]:
        """Recall by label with its 95 % Wilson interval."""
        return {
            label: {"n": n, "recall": self.found[label] / n, "interval": wilson(self.found[label], n)}
            for label, n in self.gold.most_common()
        }


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson interval of a share (1927)."""
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
