"""Training of page readers: first the vision tower learns to see, then the rest to answer.

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
from medward.attacks.benchmarks.mm_privacy.page_reader import IMAGE, PADDING, PER_PATCH, PLACES, SPECIAL, padded_rows
from medward.attacks.benchmarks.mm_privacy.page_source import PageSource
from medward.attacks.benchmarks.mm_privacy.pages import LETTERS_A_LINE, Page, crowded_page, half_size
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.types import Array

Lesson = tuple[Page, Exchange]
"""A page with what is asked about it."""
DrawLessons = Callable[[np.random.Generator], tuple[Page, Sequence[Exchange]]]
"""A page drawn by chance, and several questions about it."""
StepProgress = Callable[[int, float], None]
"""Told the step and the loss of it."""
_CHARACTERS, _KINDS = 128, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule says how many steps of how many rows are trained, and the largest learning rate."""

    steps: int
    rows: int = 32
    rate: float = 1e-3
    warm: float = 0.05


def teach_sight(
    reader: PretrainedWriter, source: PageSource, schedule: Schedule, *, seed: int, progress: StepProgress | None = None
) -> float:
    """Train the vision tower to tell the letters in each patch, where the patch is, and what the page shows.

    Gives the share of letters that it tells in the last ten steps.
    """
    network = reader.network
    tower, generator = network.model.vision_tower.train(), np.random.default_rng(seed)
    width = tower.config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reading, placing, showing = (nn.Linear(width, size) for size in (_CHARACTERS * PER_PATCH, PLACES, _KINDS))
    right: list[float] = []

    def loss(_: int) -> Tensor:
        pages = [crowded_page(source.training_page(generator), generator) for _ in range(schedule.rows)]
        letters = torch.from_numpy(np.stack([page.letters for page in pages])).long().reshape(-1, PLACES, PER_PATCH)
        shown = torch.tensor([_kind(page) for page in pages])
        states = tower(pixel_values=seen_pixels([page.image for page in pages])).last_hidden_state[:, 1:]
        said = reading(states).unflatten(-1, (PER_PATCH, _CHARACTERS))
        right.append(float((said.argmax(-1) == letters)[letters > 0].float().mean()))
        entropy = nn.functional.cross_entropy
        places = torch.arange(PLACES).expand(len(pages), -1)
        return (
            entropy(said.flatten(0, 2), letters.flatten())
            + 0.2 * entropy(placing(states).flatten(0, 1), places.flatten())
            + 0.2 * entropy(showing(states.mean(dim=1)), shown)
        )

    heads = [each for head in (reading, placing, showing) for each in head.parameters()]
    run_schedule([*tower.parameters(), *heads], loss, schedule, progress)
    network.eval()
    return float(np.mean(right[-10:]))


def _kind(page: Page) -> int:
    """A form, or a radiograph of either view with or without a finding."""
    return 0 if page.form else 1 + 2 * (page.view == "AP") + page.finding


def teach_answers(
    reader: PretrainedWriter, draw: DrawLessons, schedule: Schedule, *, seed: int, progress: StepProgress | None = None
) -> None:
    """Train `reader` on pages that are drawn anew in every step, `schedule.rows` of them, with their questions.

    The vision tower stands still: a language model that cannot read yet would unteach it its letters.
    """
    network, generator = reader.network.train(), np.random.default_rng(seed)
    seeing = {id(each) for each in network.model.vision_tower.parameters()}
    network.model.vision_tower.requires_grad_(False)

    def loss(_: int) -> Tensor:
        drawn = [draw(generator) for _ in range(schedule.rows)]
        states = image_states(network, seen_pixels([page.image for page, _ in drawn]))
        counts = torch.tensor([len(asked) for _, asked in drawn])
        columns = padded_rows(reader, [each for _, asked in drawn for each in asked])
        return guided_losses(network, {**columns, "states": states.repeat_interleave(counts, dim=0)})

    run_schedule([each for each in network.parameters() if id(each) not in seeing], loss, schedule, progress)
    network.eval().requires_grad_(True)


def image_states(network: Any, pixels: Tensor) -> Tensor:
    """What the language model is given of images, ``(n, PLACES, width)``."""
    return torch.stack(list(network.get_image_features(pixel_values=pixels).pooler_output))


def row_losses(network: Any, rows: Mapping[str, Tensor]) -> Tensor:
    """The mean loss ``(n,)`` of the tokens of each row's answer."""
    return _token_losses(_run(network, rows).logits, rows["labels"])


def guided_losses(network: Any, rows: Mapping[str, Tensor]) -> Tensor:
    """The mean token loss, and that of the last layer's attention: where a letter is printed, there it is to look.

    A patch holds as many letters as there are heads: the head of a letter's place in it is to look at the patch, the
    others at the beginning. Guided alignment (Chen et al., "Guided alignment training for topic-aware neural machine
    translation", AMTA 2016) spares the hours in which a small network finds by itself where to look.
    """
    out = _run(network, rows, output_attentions=True)
    looks = out.attentions[-1].float()  # (n, heads, T, T)
    row, at = torch.nonzero(rows["letters"] >= 0, as_tuple=True)
    letter = rows["letters"][row, at]
    line, column = letter // LETTERS_A_LINE, letter % LETTERS_A_LINE
    patch = 1 + line * (LETTERS_A_LINE // PER_PATCH) + column // PER_PATCH
    wanted = torch.where(
        torch.arange(PER_PATCH) == (column % PER_PATCH)[:, None], patch[:, None], 0
    )  # (letters, heads)
    found = looks[row, :, at].gather(2, wanted[..., None]).squeeze(2)
    alignment: Tensor = -found.clamp_min(1e-6).log().mean() if len(row) else looks.new_zeros(())
    return _token_losses(out.logits, rows["labels"]).mean() + alignment


def _run(network: Any, rows: Mapping[str, Tensor], **more: Any) -> Any:
    embedded = network.get_input_embeddings()(rows["ids"])
    places = (rows["ids"] == SPECIAL.index(IMAGE))[..., None]
    embedded = embedded.masked_scatter(places, rows["states"].to(embedded.dtype))
    return network(inputs_embeds=embedded, attention_mask=(rows["ids"] != SPECIAL.index(PADDING)).long(), **more)


def _token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    wanted = labels[:, 1:]
    losses = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), wanted, reduction="none", ignore_index=-100)
    return losses.sum(dim=1) / (wanted != -100).sum(dim=1)


def seen_pixels(images: Sequence[Array]) -> Tensor:
    """Pages as a network is given them, ``(n, 1, PAGE_SIDE / 2, PAGE_SIDE / 2)``, about 0."""
    return torch.from_numpy(2 * half_size(np.stack(images)) - 1)


def run_schedule(
    weights: Sequence[Tensor], loss: Callable[[int], Tensor], schedule: Schedule, progress: StepProgress | None
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
        torch.autograd.backward(found)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        shape.step()
        if progress is not None:
            progress(step, float(found.detach()))
