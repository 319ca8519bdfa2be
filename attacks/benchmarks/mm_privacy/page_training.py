"""Training of page readers: first the vision tower learns letters, then the whole learns to answer.

Reference: Liu et al., "Visual instruction tuning", NeurIPS 2023, whose vision tower was trained beforehand too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.benchmarks.mm_privacy.exchanges import Exchange
from medward.attacks.benchmarks.mm_privacy.page_reader import IMAGE, PADDING, PLACES, SPECIAL, padded_rows
from medward.attacks.benchmarks.mm_privacy.page_source import PageSource
from medward.attacks.benchmarks.mm_privacy.pages import Page, crowded_page, half_size
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.types import Array

Lesson = tuple[Page, Exchange]
"""A page with what is asked about it."""
DrawLessons = Callable[[np.random.Generator], tuple[Page, Sequence[Exchange]]]
"""A page drawn by chance, and several questions about it."""
Progress = Callable[[int, float], None]
"""Told the step and the loss of it."""
_CHARACTERS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule says how many steps of how many rows are trained, and the largest learning rate."""

    steps: int
    rows: int = 32
    rate: float = 1e-3
    warm: float = 0.05


def teach_letters(
    reader: PretrainedWriter, source: PageSource, schedule: Schedule, *, seed: int, progress: Progress | None = None
) -> float:
    """Train the vision tower to tell the letters in each patch; gives the share that it tells in the last batches."""
    network = reader.network
    tower, generator = network.model.vision_tower.train(), np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = tower.config.hidden_size
        reading = nn.Linear(width, _CHARACTERS * 4)
    right: list[float] = []

    def loss(_: int) -> Tensor:
        pages = [crowded_page(source.training_page(generator), generator) for _ in range(schedule.rows)]
        truth = torch.from_numpy(np.stack([page.letters for page in pages]).reshape(len(pages), PLACES, 4)).long()
        states = tower(pixel_values=seen_pixels([page.image for page in pages])).last_hidden_state[:, 1:]
        said = reading(states).unflatten(-1, (4, _CHARACTERS))
        printed = truth > 0
        right.append(float((said.argmax(-1) == truth)[printed].float().mean()))
        return nn.functional.cross_entropy(said.flatten(0, 2), truth.flatten())

    run_schedule([*tower.parameters(), *reading.parameters()], loss, schedule, progress)
    network.eval()
    return float(np.mean(right[-10:]))


def teach_answers(
    reader: PretrainedWriter, draw: DrawLessons, schedule: Schedule, *, seed: int, progress: Progress | None = None
) -> None:
    """Train all of `reader` on pages that are drawn anew in every step, `schedule.rows` of them, with their lessons."""
    network, generator = reader.network.train(), np.random.default_rng(seed)

    def loss(_: int) -> Tensor:
        drawn = [draw(generator) for _ in range(schedule.rows)]
        states = image_states(network, seen_pixels([page.image for page, _ in drawn]))
        counts = torch.tensor([len(asked) for _, asked in drawn])
        columns = padded_rows(reader, [(each.prompt, each.answer) for _, asked in drawn for each in asked])
        return row_losses(network, {**columns, "states": states.repeat_interleave(counts, dim=0)}).mean()

    run_schedule([*network.parameters()], loss, schedule, progress)
    network.eval()


def image_states(network: Any, pixels: Tensor) -> Tensor:
    """What the language model is given of images, ``(n, PLACES, width)``."""
    return torch.stack(list(network.get_image_features(pixel_values=pixels).pooler_output))


def row_losses(network: Any, rows: Mapping[str, Tensor]) -> Tensor:
    """The mean loss ``(n,)`` of the tokens of each row's answer."""
    embedded = network.get_input_embeddings()(rows["ids"])
    places = (rows["ids"] == SPECIAL.index(IMAGE))[..., None]
    embedded = embedded.masked_scatter(places, rows["states"].to(embedded.dtype))
    logits = network(inputs_embeds=embedded, attention_mask=(rows["ids"] != SPECIAL.index(PADDING)).long()).logits
    wanted = rows["labels"][:, 1:]
    losses = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), wanted, reduction="none", ignore_index=-100)
    return losses.sum(dim=1) / (wanted != -100).sum(dim=1)


def seen_pixels(images: Sequence[Array]) -> Tensor:
    """Pages as a network is given them, ``(n, 1, SIDE / 2, SIDE / 2)``, about 0."""
    return torch.from_numpy(2 * half_size(np.stack(images)) - 1)


def run_schedule(
    weights: Sequence[Tensor], loss: Callable[[int], Tensor], schedule: Schedule, progress: Progress | None
) -> None:
    """Adam with a warm start and a cosine to zero."""
    optimiser = torch.optim.AdamW(weights, schedule.rate, betas=(0.9, 0.98), weight_decay=0.01)
    shape = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, schedule.rate, total_steps=schedule.steps, pct_start=schedule.warm
    )
    for step in range(schedule.steps):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(step)
        found.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        shape.step()
        if progress is not None:
            progress(step, float(found.detach()))
