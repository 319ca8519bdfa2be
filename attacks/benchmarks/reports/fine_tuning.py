"""Fine-tuning a report network on a site's own images by low-rank additions, plainly or with differential privacy.

Weights that came with the network are left as they are, so what the site's patients leave behind is in the additions
alone. Each image is its patient's one row; its loss is the mean over the tokens of its report, and nothing is reworded
or augmented: a site has one report of an image, in one author's words.

Reference: Yu et al., "Differentially private fine-tuning of language models", ICLR 2022.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medward.attacks.whitebox.written_texts import token_losses
from medward.guard.harden.private.parts import merged_part, select_part
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.harden.private.training import PrivateRun, train_privately
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.types import Array

RANK = 8
_BATCH = 32


class ReportLosses(nn.Module):
    """Report losses are those ``(n,)`` that a writer's network has on reports, each the mean over its tokens.

    A copy of the module has a network of its own, and asks that one.
    """

    def __init__(self, writer: PretrainedWriter, prompt: str) -> None:
        super().__init__()
        self.network, self.writer, self.prompt = writer.network, writer, prompt

    def forward(self, pixels: Tensor, reports: Sequence[str]) -> Tensor:
        """The loss of each of `reports` about ``pixels (n, C, H, W)``."""
        losses, counts = token_losses(self.writer, pixels, self.prompt, reports)
        return losses.sum(dim=1) / counts


def fine_tune_privately(
    writer: PretrainedWriter,
    images: Array,
    reports: Sequence[str],
    settings: PrivateSettings,
    *,
    prompt: str = "",
    rank: int = RANK,
) -> tuple[PretrainedWriter, PrivateRun]:
    """A copy of `writer` fine-tuned on ``images (n, C, H, W)`` with `reports`, and what was spent on it.

    Guarantee: as `train_privately` says, of adding or removing one image with its report. That `writer` itself never
    saw them is its owner's word.
    """
    module = _low_rank(writer, prompt, rank)

    def losses(tried: nn.Module, rows: Any) -> Tensor:
        found: Tensor = tried(rows["x"], [reports[place] for place in rows["place"].tolist()])
        return found

    rows = {"x": torch.from_numpy(images), "place": torch.arange(len(images))}
    run = train_privately(module, rows, None, losses, settings)
    return _plain_again(module), run


def fine_tune_plainly(
    writer: PretrainedWriter,
    images: Array,
    reports: Sequence[str],
    *,
    epochs: int,
    rate: float,
    seed: int,
    prompt: str = "",
    rank: int = RANK,
) -> PretrainedWriter:
    """The same additions trained by Adam without privacy; the same seed gives the same weights on the same machine."""
    pixels, order = torch.from_numpy(images), torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # additions and dropout
        module = _low_rank(writer, prompt, rank).train()
        optimiser = torch.optim.Adam([each for each in module.parameters() if each.requires_grad], rate)
        steps = epochs * math.ceil(len(images) / _BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(2, steps))
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(images), generator=order), _BATCH):
                optimiser.zero_grad()
                torch.autograd.backward(module(pixels[rows], [reports[row] for row in rows.tolist()]).mean())
                optimiser.step()
                schedule.step()
    return _plain_again(module)


def _low_rank(writer: PretrainedWriter, prompt: str, rank: int) -> ReportLosses:
    """The losses of a copy of `writer` in which nothing but low-rank additions learns."""
    module = ReportLosses(copy.deepcopy(writer), prompt)
    select_part(module, "lora", rank=rank)
    return module


def _plain_again(module: ReportLosses) -> PretrainedWriter:
    """The writer with the additions added into its own layers."""
    merged_part(module)
    module.network.eval().requires_grad_(False)
    return module.writer
