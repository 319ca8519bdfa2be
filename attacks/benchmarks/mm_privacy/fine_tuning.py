"""Fine-tuning of page readers on fixed lessons: plainly, by a contrastive objective, or with differential privacy.

Only the language model is trained, so what it is given of images is computed once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medward.attacks.benchmarks.mm_privacy.page_reader import padded_rows
from medward.attacks.benchmarks.mm_privacy.page_training import (
    Lesson,
    Schedule,
    StepProgress,
    image_states,
    row_losses,
    run_schedule,
    seen_pixels,
)
from medward.guard.harden.private.parts import merged_part, select_part
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.harden.private.training import PrivateRun, train_privately
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.types import Ints

LessonRows = Mapping[str, Tensor]
"""Columns of lessons by name, each ``(n, ...)``."""
LessonLosses = Callable[[Any, LessonRows], Tensor]
"""A network and some rows -> the loss ``(n,)`` of each."""
_AT_ONCE = 64


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
