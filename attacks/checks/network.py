"""What is wrong with a network as something to attack by gradients, and with what an attack made of its rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medward.attacks.checks.gradients import gradient_flags
from medward.attacks.checks.runs import lost_when_stored, one_answer, out_of_bounds
from medward.attacks.checks.searches import search_flags
from medward.attacks.whitebox.search import Search
from medward.guard.types import Modality

CHECKED_ROWS = 96  # rows each network check looks at


def evasion_flags(
    search: Search,
    x: Tensor,
    y: Tensor,
    *,
    craft: Tensor,
    modality: Modality,
    seed: int,
    thorough: bool = True,
    twin: nn.Module | None = None,
    adversarial: Tensor | None = None,
    universal: bool = False,
    steps: int | None = None,
) -> tuple[str, ...]:
    """C1 to C6, C8, C9, C12 and C13, as far as they need the network.

    `x (n, *shape)` are rows that the search's network decides as `y (n,)`; `craft` are other rows, for the transfer
    surrogate; `twin` is the network before hardening, another source of transfer.
    `adversarial` is what a run of so many `steps` made of the same rows, `universal` when one change serves them all.
    Without `thorough` only the checks that cost a few passes are made (C1, C2, C9, C13).
    """
    x, y = x[:CHECKED_ROWS], y[:CHECKED_ROWS]
    flags = [*gradient_flags(search, x, y), scores_are_probabilities(search.network, x)]
    flags.append(one_answer(torch.cat([y, search.decided(craft[:CHECKED_ROWS])]) if len(craft) else y))
    if adversarial is not None:
        adversarial = adversarial[:CHECKED_ROWS]
        flags.append(out_of_bounds(adversarial, x, search.ball))
        if modality == "image":
            flags.append(lost_when_stored(search, adversarial, y))
    if thorough:
        flags += search_flags(
            search,
            x,
            y,
            craft=craft,
            modality=modality,
            seed=seed,
            twin=twin,
            adversarial=adversarial,
            universal=universal,
            steps=steps,
        )
    return tuple(flag for flag in flags if flag)


def scores_are_probabilities(network: nn.Module, x: Tensor) -> str | None:
    """C9: scores that are probabilities; attacks need logits or log-probabilities."""
    with torch.no_grad():
        scores = network(x)
    if scores.ndim != 2 or scores.shape[1] < 2:
        return None
    sums_to_one = torch.allclose(scores.sum(dim=1), torch.ones(len(x), device=x.device), atol=1e-3)
    return "the network returns probabilities, not logits" if sums_to_one and bool((scores >= 0).all()) else None
