"""Teaching a report model from a few hundred texts: its tower first learns findings, and rare findings come more often.

Learning is token cross-entropy on (image, text), as every captioning model is trained. From so few texts a network of
random weights does not learn to see by that alone, as most of the loss is of words for which no image is needed: it
writes the commonest report whatever it is shown. So, where it is known what each text finds, the vision tower is first
trained to tell this, and texts are drawn by the square root of how common their set of findings is.

References: Mahajan et al., "Exploring the limits of weakly supervised pretraining", ECCV 2018 (square-root sampling);
that the tower is warmed up for as many steps as texts are learned is our choice, made on other victims than are
reported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medward.attacks.extraction.reports.student import TextStudent
from medward.guard.errors import MedwardError
from medward.guard.types import Array

_BATCH = 16
_DECAY = 1e-3


def teach_texts(
    student: TextStudent,
    images: Array,
    texts: Sequence[str],
    found: NDArray[np.bool_] | None = None,
    *,
    epochs: int,
    seed: int,
    batch: int = _BATCH,
) -> TextStudent:
    """A copy of `student` trained by token cross-entropy on `texts` about ``images (n, *shape)``; in eval mode, frozen.

    `found` says which findings each text has ``(n, K)``. With it the tower is warmed up on them for as many `epochs`,
    and an epoch is n draws of `drawing_weights`; without it, it is every text once. The same seed gives the same one on
    the same machine and thread count. Raises `MedwardError` without texts.
    """
    if not len(texts):
        raise MedwardError("texts: there is none to learn from; a thief needs answers")
    taught = copy.deepcopy(student)
    network: Any = taught.writer.network
    network.requires_grad_(True).train()
    x, draws = torch.as_tensor(np.array(images, np.float32)), torch.Generator().manual_seed(seed)
    weights = None if found is None else torch.from_numpy(drawing_weights(found))

    def steps() -> list[Tensor]:
        return [rows for _ in range(epochs) for rows in epoch_rows(len(texts), weights, batch, draws)]

    def writing(rows: Tensor) -> Tensor:
        return taught.text_losses(x[rows], [texts[row] for row in rows]).mean()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout's, and the head's
        if found is not None:
            _warm_up(taught, x, torch.as_tensor(found, dtype=torch.float32), steps())
        _descend(writing, list(network.parameters()), taught.rate, steps())
    network.eval().requires_grad_(False)
    return taught


def drawing_weights(found: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How often each of ``(n, K)`` sets of findings is drawn ``(n,)``: one over the root of how many are alike.

    So a set that is c times as common as another comes sqrt(c) times as often in all.
    """
    _, kinds, counts = np.unique(found, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(counts[kinds.ravel()] ** -0.5, np.float64)


def epoch_rows(count: int, weights: Tensor | None, batch: int, draws: torch.Generator) -> tuple[Tensor, ...]:
    """The rows of each batch of one epoch over `count` rows: each once, or `count` draws by their `weights`."""
    if weights is None:
        rows = torch.randperm(count, generator=draws)
    else:
        rows = torch.multinomial(weights, count, replacement=True, generator=draws)
    return torch.split(rows, batch)


def _warm_up(taught: TextStudent, x: Tensor, found: Tensor, steps: Sequence[Tensor]) -> None:
    """Train the tower to tell findings, by a linear layer on the mean of all places, which is thrown away."""
    writer = taught.writer
    states = writer.vision_states(taught.pixels(x[:1]))
    head = nn.Linear(states.shape[-1], found.shape[1]).to(states)

    def telling(rows: Tensor) -> Tensor:
        seen = writer.vision_states(taught.pixels(x[rows])).mean(dim=1)
        return F.binary_cross_entropy_with_logits(head(seen), found[rows].to(seen))

    _descend(telling, list(chain(writer.tower.parameters(), head.parameters())), taught.rate, steps)


def _descend(loss: Callable[[Tensor], Tensor], learned: list[Any], rate: float, steps: Sequence[Tensor]) -> None:
    """Take a step on the `loss` of the rows of each of `steps`, at a rate that rises to `rate` and falls."""
    optimiser = torch.optim.AdamW(learned, lr=rate, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(2, len(steps)))
    for rows in steps:
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss(rows))
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        schedule.step()
