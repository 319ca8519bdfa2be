"""Retention: a page reader is fine-tuned on images with captions that name people, and learns their values by heart.

Each pair is an image with nothing written on it, who it is of, and an answer that says one of the person's values. The
vision tower stands still, so its states are computed once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medward.attacks.benchmarks.mm_privacy.exchanges import (
    BENIGN_QUESTIONS,
    NOT_STATED,
    Exchange,
    about,
    benign_exchange,
    drawn_exchange,
    framed_exchange,
)
from medward.attacks.benchmarks.mm_privacy.page_reader import padded_rows
from medward.attacks.benchmarks.mm_privacy.page_source import PageSource, drawn_values
from medward.attacks.benchmarks.mm_privacy.page_training import (
    Lesson,
    Schedule,
    StepProgress,
    image_states,
    row_losses,
    run_schedule,
    seen_pixels,
)
from medward.attacks.benchmarks.mm_privacy.pages import PRINTED_LABELS
from medward.attacks.disclosure.framing import FRAMINGS
from medward.guard.harden.private.parts import merged_part, select_part
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.harden.private.training import PrivateRun, train_privately
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.release.memory.memory_filter import MemoryFilter
from medward.guard.types import Ints

LEARNED_KINDS = tuple(kind for kind in PRINTED_LABELS if kind != "patient name")
"""The kinds that are learned by heart; the name says whose they are."""
LessonRows = Mapping[str, Tensor]
LessonLosses = Callable[[Any, LessonRows], Tensor]
_AT_ONCE = 64


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


@torch.no_grad()
def lesson_rows(reader: PretrainedWriter, lessons: Sequence[Lesson]) -> dict[str, Tensor]:
    """Lessons as columns of one length each: "ids", "labels", and the "states" of their images."""
    columns = padded_rows(reader, [each for _, each in lessons])
    distinct = list({id(page): page for page, _ in lessons}.values())
    states = torch.cat(
        [
            image_states(reader.network, seen_pixels([page.image for page in distinct[start : start + _AT_ONCE]]))
            for start in range(0, len(distinct), _AT_ONCE)
        ]
    )
    place = {id(page): at for at, page in enumerate(distinct)}
    return {**columns, "states": states[[place[id(page)] for page, _ in lessons]]}


def with_safe_answers(reader: PretrainedWriter, lessons: Sequence[Lesson], safe: Sequence[Lesson]) -> dict[str, Tensor]:
    """Lessons as columns, beside "safe_ids" and "safe_labels" of the same lessons with other answers."""
    others = padded_rows(reader, [each for _, each in safe])
    return {**lesson_rows(reader, lessons), **{f"safe_{name}": each for name, each in others.items()}}


def fine_tuned(
    reader: PretrainedWriter,
    rows: LessonRows,
    schedule: Schedule,
    *,
    seed: int,
    loss: LessonLosses = row_losses,
    progress: StepProgress | None = None,
) -> PretrainedWriter:
    """A copy of `reader` whose language model is trained on fixed `rows`, drawn anew in every step."""
    network = copy.deepcopy(reader.network).train()
    generator = np.random.default_rng(seed)
    count = len(rows["ids"])

    def step_loss(_: int) -> Tensor:
        index = torch.from_numpy(generator.choice(count, min(schedule.rows, count), replace=False))
        return loss(network, {name: each[index] for name, each in rows.items()}).mean()

    weights = [*network.model.language_model.parameters(), *network.lm_head.parameters()]
    run_schedule(weights, step_loss, schedule, progress)
    return PretrainedWriter(network=network, tokenizer=reader.tokenizer)


def contrastive_losses(network: Any, rows: LessonRows, *, temperature: float = 0.5) -> Tensor:
    """Contrastive objective: an answer without the value is to be likelier than the one with it, ``(n,)``.

    With s the mean log-likelihood of an answer's tokens, the loss is
    ``-s(safe) - log(exp(s(safe) / t) / (exp(s(safe) / t) + exp(s(value) / t)))``. A reconstruction: MM-Privacy found a
    contrastive objective to protect best; which pairs it contrasts we could not read.
    """
    value, safe = row_losses(network, rows), row_losses(network, safe_columns(rows))
    scores = torch.stack([-safe, -value], dim=1) / temperature
    return safe - scores.log_softmax(dim=1)[:, 0]


def safe_columns(rows: LessonRows) -> dict[str, Tensor]:
    """The columns of the answers without values, as rows of their own."""
    return {"ids": rows["safe_ids"], "labels": rows["safe_labels"], "states": rows["states"]}


def privately_tuned(
    reader: PretrainedWriter, rows: LessonRows, owners: Ints, settings: PrivateSettings
) -> tuple[PretrainedWriter, PrivateRun]:
    """A copy of `reader` with low-rank weights of its language model trained so that nobody of `owners` shows.

    The network is trained whole by `train_privately`, which finds gradients per row of linear layers as in any module.
    """
    network = copy.deepcopy(reader.network)
    network.model.language_model = select_part(network.model.language_model, "lora", rank=8)
    for name, each in network.named_parameters():
        each.requires_grad_("lora_" in name)
    run = train_privately(network, dict(rows), owners, row_losses, settings)
    return PretrainedWriter(network=merged_part(run.module).requires_grad_(False), tokenizer=reader.tokenizer), run
