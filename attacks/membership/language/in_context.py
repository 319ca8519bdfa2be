"""In-context membership: is this example among the demonstrations that a service's prompt holds?

Four attacks on what the service writes, none on probabilities: is the example answered rightly (GAP), does the service
say that it knows it (Inquiry), does it go on with it word by word (Repeat), and how often must it be told a wrong
answer before it gives in (Brainwash).

Reference: Wen, Li, Backes and Zhang, "Membership inference attacks against in-context learning", CCS 2024.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from medward.attacks.membership.language.generations import Ask, split_words, word_recall, yes_or_no
from medward.guard.errors import MedwardError
from medward.guard.types import Array

INQUIRY = "Have you seen this sentence before? {text}\nAnswer with yes or no:"
DEMONSTRATION = "Input: {text}\nLabel: {label}\n"
QUESTION = "Input: {text}\nLabel:"


def gap_scores(ask: Ask, texts: Sequence[str], labels: Sequence[str]) -> Array:
    """1 ``(n,)`` where the service answers a text with its true label, 0 elsewhere."""
    answers = ask([QUESTION.format(text=text) for text in texts])
    return np.array([float(says_label(answer, label)) for answer, label in zip(answers, labels, strict=True)])


def inquiry_scores(ask: Ask, texts: Sequence[str]) -> Array:
    """1 ``(n,)`` where the service says that it has seen a text, 0 where not, one half where it says neither."""
    return yes_or_no(ask([INQUIRY.format(text=text) for text in texts]))


def repeat_scores(ask: Ask, texts: Sequence[str], *, share: float = 0.3) -> Array:
    """The share ``(n,)`` of the words after the first `share` of a text with which the service goes on."""
    parts = [split_words(text, share) for text in texts]
    answers = ask([begin for begin, _ in parts])
    return np.array([word_recall(answer, rest) for answer, (_, rest) in zip(answers, parts, strict=True)])


def brainwash_scores(
    ask: Ask, texts: Sequence[str], labels: Sequence[str], wrong: Sequence[str], *, rounds: int = 5
) -> Array:
    """How often ``(n,)`` a text must be shown with the label `wrong` before the service no longer gives the true one.

    ``rounds + 1`` where it never gives in. Raises `MedwardError` where a wrong label is the true one.
    """
    if same := [label for label, other in zip(labels, wrong, strict=True) if label == other]:
        raise MedwardError(f"brainwash: the wrong label of a text is its true one, {same[0]!r}; give another")
    scores = np.full(len(texts), rounds + 1.0)
    holding = list(range(len(texts)))
    for told in range(rounds + 1):
        prompts = [
            DEMONSTRATION.format(text=texts[each], label=wrong[each]) * told + QUESTION.format(text=texts[each])
            for each in holding
        ]
        answers = ask(prompts) if prompts else []
        lost = [each for each, answer in zip(holding, answers, strict=True) if not says_label(answer, labels[each])]
        scores[lost] = told
        holding = [each for each in holding if each not in set(lost)]
    return scores


def says_label(answer: str, label: str) -> bool:
    """Whether an answer begins with the whole word, or words, of `label`, in whatever case."""
    return re.match(rf"{re.escape(label.strip())}(?!\w)", answer.strip(), re.IGNORECASE) is not None
