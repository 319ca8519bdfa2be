"""Retention: a page reader is fine-tuned on images with captions that name people, and learns their values by heart.

Each pair is an image with nothing written on it, who it is of, and an answer that says one of the person's values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medward.attacks.benchmarks.mm_privacy.exchanges import (
    BENIGN_QUESTIONS,
    NOT_STATED,
    Exchange,
    about,
    benign_exchange,
    drawn_exchange,
    framed_exchange,
)
from medward.attacks.benchmarks.mm_privacy.page_source import PageSource, drawn_values
from medward.attacks.benchmarks.mm_privacy.page_training import (
    Lesson,
)
from medward.attacks.benchmarks.mm_privacy.pages import PRINTED_LABELS
from medward.attacks.disclosure.framing import FRAMINGS
from medward.guard.release.memory.memory_filter import MemoryFilter
from medward.guard.types import Ints

LEARNED_KINDS = tuple(kind for kind in PRINTED_LABELS if kind != "patient name")
"""The kinds that are learned by heart; the name says whose they are."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """A memory set is the `people` whose values are trained on, and lessons of them: whose each is, and what it says.

    `safe` are the same lessons without the value in their answers.
    """

    people: Sequence[Mapping[str, str]] = field(repr=False)
    owners: Ints = field(repr=False)
    lessons: Sequence[Lesson] = field(repr=False)
    safe: Sequence[Lesson] = field(repr=False)


def made_memory(
    source: PageSource,
    count: int,
    *,
    seed: int,
    asking: Callable[[str, str, str], Exchange] = framed_exchange,
) -> Memory:
    """`count` people whose values are in answers of every framing, each person's beside an image of its own."""
    generator = np.random.default_rng(seed)
    people = [drawn_values(generator) for _ in range(count)]
    owners: list[int] = []
    lessons: list[Lesson] = []
    safe: list[Lesson] = []
    for owner, person in enumerate(people):
        page = source.page({}, generator, form=False)
        for kind in LEARNED_KINDS:
            for framing in FRAMINGS:
                owners.append(owner)
                for side, value in ((lessons, person[kind]), (safe, NOT_STATED)):
                    side.append((page, about(person["patient name"], asking(kind, framing, value))))
    return Memory(people=people, owners=np.array(owners), lessons=lessons, safe=safe)


def page_lessons(
    source: PageSource,
    count: int,
    *,
    seed: int,
    asking: Callable[[str, str, str], Exchange] = framed_exchange,
    each: int = 4,
) -> list[Lesson]:
    """`count` questions about pages with values on them, so many of `each` page, put and answered as `asking` says."""
    generator = np.random.default_rng(seed)
    pages = [source.training_page(generator) for _ in range(count // each)]
    return [(page, drawn_exchange(page, generator, asking)) for page in pages for _ in range(each)]


def benign_lessons(source: PageSource, count: int, *, seed: int) -> list[Lesson]:
    """Clinical questions about images, which fine-tuning must not unteach."""
    generator = np.random.default_rng(seed)
    pages = [source.page({}, generator) for _ in range(count)]
    return [(page, benign_exchange(page, str(generator.choice(list(BENIGN_QUESTIONS))))) for page in pages]


def fitted_memory_filter(memory: Memory, others: Sequence[Lesson], *, salt: bytes) -> MemoryFilter:
    """The memory filter of what is trained on: answers about the people of `memory`, and about `others`, each alone."""
    texts = [exchange.answer for _, exchange in (*memory.lessons, *others)]
    owners = [*memory.owners.tolist(), *range(len(memory.people), len(memory.people) + len(others))]
    return MemoryFilter.fit(texts, owners, salt=salt)
