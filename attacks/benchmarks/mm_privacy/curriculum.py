"""What a page reader is taught, in this order: to see; to read lines out and to answer questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medward.attacks.benchmarks.mm_privacy.exchanges import Exchange, about, drawn_exchange, line_exchange
from medward.attacks.benchmarks.mm_privacy.page_reader import ReaderSize, untrained_reader
from medward.attacks.benchmarks.mm_privacy.page_source import PageSource, drawn_values
from medward.attacks.benchmarks.mm_privacy.page_training import Schedule, StepProgress, teach_answers, teach_sight
from medward.attacks.benchmarks.mm_privacy.pages import LINE, PAGE_SIDE, Page, crowded_page
from medward.guard.models.greedy_decoding import PretrainedWriter

_ASKED = 4  # questions about a page
_NAMED = 1 / 8  # of questions that are about somebody by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """A curriculum is the schedule of the vision tower and that of what answers; `lines` is a share of pages.

    These are crowded with random letters and are read out line by line.
    """

    sight: Schedule
    answers: Schedule
    lines: float = 0.5


def trained_reader(
    source: PageSource,
    curriculum: Curriculum,
    *,
    seed: int,
    size: ReaderSize | None = None,
    progress: StepProgress | None = None,
) -> PretrainedWriter:
    """A page reader from random weights: it reads pages that are drawn as it learns, no two alike."""
    reader = untrained_reader(size, seed=seed)
    teach_sight(reader, source, curriculum.sight, seed=seed, progress=progress)
    teach_answers(
        reader,
        lambda generator: drawn_lessons(source, generator, curriculum.lines),
        curriculum.answers,
        seed=seed + 1,
        progress=progress,
    )
    return reader


def drawn_lessons(source: PageSource, generator: np.random.Generator, lines: float) -> tuple[Page, Sequence[Exchange]]:
    """A page drawn by chance and some questions about it; with probability `lines` a crowded one to be read out."""
    page = source.training_page(generator)
    if generator.random() < lines:
        return _lines_of(crowded_page(page, generator), generator)
    return page, [_perhaps_about(drawn_exchange(page, generator), generator) for _ in range(_ASKED)]


def _lines_of(page: Page, generator: np.random.Generator) -> tuple[Page, Sequence[Exchange]]:
    chosen = generator.choice(PAGE_SIDE // LINE, _ASKED, replace=False)
    return page, [line_exchange(page, int(line)) for line in chosen]


def _perhaps_about(exchange: Exchange, generator: np.random.Generator) -> Exchange:
    """The question as it is, or about somebody whose name says nothing of the page."""
    if generator.random() < _NAMED:
        return about(drawn_values(generator)["patient name"], exchange)
    return exchange
