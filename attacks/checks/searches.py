"""Does the search do what a search must? Short searches on a few rows, compared row by row (C3 to C6, C8, C12).

Reference: Carlini et al., "On evaluating adversarial robustness", 2019, sec. 5; Andriushchenko, Croce, Flammarion,
Hein, "Square attack", ECCV 2020 (the search without gradients, cut to a few queries).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from medward.attacks.whitebox.ascent import projected_ascent
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import ClassChange
from medward.attacks.whitebox.forward import batched_scores
from medward.attacks.whitebox.imitation import fit_numbers
from medward.attacks.whitebox.network import ExpectedOverRandomness
from medward.attacks.whitebox.search import Search
from medward.attacks.whitebox.surrogate import fit_classifier
from medward.guard.types import Modality

_ROWS = 64  # rows that each search is run on
_STEPS = 20
QUERIES = 60  # of each row by the search without gradients
PATCH = 0.3  # side of a changed square, or share of changed features
SURROGATE_ROWS = 256
SEEDS = 3
SEED_ROWS = 32
SHIFT_CHECK = "all values made larger or smaller alike"
TWIN_CHECK = "transfer from the model before hardening"
_TOLERANCE = 0.05


def weaker_than(white: Tensor, other: Tensor, name: str) -> str | None:
    """C5, C8: on the same rows ``(n,)`` a search that must not be stronger wins more often (paired, two sigma)."""
    if not _ahead(other, white):
        return None
    rates = f"{float(white.float().mean()):.0%} against {float(other.float().mean()):.0%}"
    return f"weaker than {name}: the white-box attack wins on {rates} of rows; its gradients lead it astray"


def beyond_per_image(universal: Tensor, white: Tensor) -> str | None:
    """C8: one change shared by all rows wins where a search for each row, in the same ball, does not."""
    if not _ahead(universal, white):
        return None
    rates = f"{float(universal.float().mean()):.0%} against {float(white.float().mean()):.0%}"
    return f"per-image search weaker than the universal one: it wins on {rates} of rows at the same radius"


def not_doubled(once: Tensor, twice: Tensor) -> str | None:
    """C4: the same search with twice the steps wins clearly more of the same rows ``(n,)``."""
    if not _ahead(twice, once):
        return None
    rates = f"{float(once.float().mean()):.0%} to {float(twice.float().mean()):.0%}"
    return f"not converged: twice the steps raise success from {rates}; give it more steps"


def forgotten_successes(won: Tensor, kept: Tensor) -> str | None:
    """C3: rows ``(n,)`` that were won on the way and are not when their examples are decided again."""
    lost = int((won & ~kept).sum())
    if lost <= max(1.0, _TOLERANCE * int(won.sum())):
        return None
    return (
        f"lost examples: {lost} of {int(won.sum())} rows that the search won are decided as before when asked again; "
        "keep the best iterate, and let no row's answer depend on its batch"
    )


def survives_anything(rate: float) -> str | None:
    """C6: with an unbounded perturbation every model must fall."""
    if rate >= 1 - _TOLERANCE:
        return None
    return f"unbounded perturbations fool only {rate:.0%} of rows, all expected; the attack is not working"


def seed_dependent(rates: Sequence[float], n: int) -> str | None:
    """C12: the same search on the same `n` rows wins far more with one seed than with another."""
    worst, best = min(rates), max(rates)
    if best - worst <= max(2 * _TOLERANCE, 2 * math.sqrt(0.5 / max(n, 1))):
        return None
    return f"depends on its seed: {worst:.0%} to {best:.0%} over {len(rates)} seeds; give it more restarts"


def search_flags(
    search: Search,
    x: Tensor,
    y: Tensor,
    *,
    craft: Tensor,
    modality: Modality,
    seed: int,
    twin: nn.Module | None = None,
    adversarial: Tensor | None = None,
    universal: bool = False,
    steps: int | None = None,
) -> tuple[str, ...]:
    """C3 to C6, C8 and C12 on the first `_ROWS` rows.

    Examples are transferred from a surrogate and, where there is one, from the `twin`: the network before hardening.
    With `adversarial`, what a run made of the same rows, that run is what others must not outdo; if `universal`, it
    must not outdo a search for each row. With its `steps` a search of twice as many is made.
    """
    x, y, ball = x[:_ROWS], y[:_ROWS], search.ball
    flags = [survives_anything(float(_unbounded(search, x, y, craft).float().mean()))]
    if not ball.empty:
        white, examples = rows_won_by_ascent(search, x, y, _STEPS)
        if not isinstance(search.network, ExpectedOverRandomness):  # its next draws decide examples on the edge anew
            flags.append(forgotten_successes(white, search.won(examples.flip(0), y.flip(0)).flip(0)))
        made = None if adversarial is None else search.won(adversarial[:_ROWS], y)
        if made is not None and universal:
            flags.append(beyond_per_image(made, white))
        elif made is not None:
            if steps:
                twice = made.clone()
                twice[~made] = rows_won_by_ascent(search, x[~made], y[~made], 2 * steps)[0]
                flags.append(not_doubled(made, twice))
            white = made
        noisy = ball.usable(ball.clip(x + ball.surface(tuple(x.shape), search.generator)), x)
        others = {
            "random noise": search.won(noisy, y),
            "a single step": rows_won_by_ascent(search, x, y, 1, anew=False)[0],
            "a search without gradients": rows_won_blindly(search, x, y),
            "transfer": _transferred(_surrogate(search, craft, modality, seed), search, x, y),
        }
        if twin is not None:
            others[TWIN_CHECK] = _transferred(twin, search, x, y)
        flags += [weaker_than(white, won, name) for name, won in others.items()]
        flags.append(seed_dependent(_by_seed(search, x, y, seed), min(len(x), SEED_ROWS)))
    return tuple(flag for flag in flags if flag)


def rows_won_by_ascent(search: Search, x: Tensor, y: Tensor, steps: int, *, anew: bool = True) -> tuple[Tensor, Tensor]:
    """Which rows ``(n,)`` fall to an ascent on any loss of the criterion, and the examples ``(n, *shape)``.

    Each starts at the row itself and then, to start `anew`, from a random point of the ball.
    """
    won, examples = torch.zeros(len(x), dtype=torch.bool, device=x.device), x.clone()
    for random_start, loss in itertools.product((False, True)[: 1 + anew], search.criterion.losses.values()):
        rest = torch.nonzero(~won)[:, 0]
        if len(rest):
            found = projected_ascent(search, x[rest], y[rest], loss=loss, steps=steps, random_start=random_start)
            won[rest], examples[rest] = found.won, found.adversarial
    return won, examples


@torch.no_grad()
def rows_won_blindly(search: Search, x: Tensor, y: Tensor) -> Tensor:
    """Which rows ``(n,)`` fall to `QUERIES` random changes of a patch each, kept where they raise the margin."""
    ball, generator = search.ball, search.generator
    current = ball.project(x + ball.surface(tuple(x.shape), generator), x)
    best = search.margins(current, y)
    for _ in range(QUERIES):
        rows = torch.nonzero(best <= 0)[:, 0]
        if not len(rows):
            break
        clean = x[rows]
        change = torch.where(_patch(clean, generator), _flat(clean, ball, generator), current[rows] - clean)
        tried = ball.usable(ball.project(clean + change, clean), clean)
        value = search.margins(tried, y[rows])
        better = value > best[rows]
        current[rows[better]], best[rows[better]] = tried[better], value[better]
    return best > 0


def _patch(x: Tensor, generator: torch.Generator) -> Tensor:
    """A random square of every image, or random features of every row, as booleans that broadcast to `x`."""
    if x.ndim < 4:
        return (torch.rand(tuple(x.shape), generator=generator) < PATCH).to(x.device)
    corners = torch.rand((len(x), 2), generator=generator) * (1 - PATCH)
    inside = [
        (places >= corner[:, None]) & (places <= corner[:, None] + PATCH)
        for corner, places in zip(corners.T, [torch.linspace(0, 1, size)[None] for size in x.shape[2:]], strict=True)
    ]
    square: Tensor = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return square.to(x.device)


def _flat(x: Tensor, ball: Ball, generator: torch.Generator) -> Tensor:
    """One value for all pixels of an image's channel, each feature of a row its own; as large as the ball allows."""
    shape = (*x.shape[:2], *[1] * (x.ndim - 2))
    return ball.surface(shape, generator).expand_as(x) if x.ndim == 4 else ball.surface(shape, generator)


def _surrogate(search: Search, craft: Tensor, modality: Modality, seed: int) -> nn.Module:
    """A small network that learned the decisions of the search's network on rows `craft (n, *shape)`, or its scores.

    Where decisions are no classes it imitates the scores.
    """
    craft = craft[:SURROGATE_ROWS]
    epochs = 8 if modality == "image" else 30
    if not isinstance(search.criterion, ClassChange):
        return fit_numbers(
            craft.cpu().numpy(),
            batched_scores(search.network, craft).cpu().numpy(),
            modality=modality,
            shape=tuple(craft.shape[1:]),
            epochs=epochs,
            seed=seed,
            device=str(craft.device),
        )
    with torch.no_grad():
        classes = search.network(craft[:1]).shape[1]
    return fit_classifier(
        craft.cpu().numpy(),
        search.decided(craft).cpu().numpy(),
        classes=classes,
        modality=modality,
        shape=tuple(craft.shape[1:]),
        epochs=epochs,
        seed=seed,
        device=str(craft.device),
    )


def _transferred(source: nn.Module, search: Search, x: Tensor, y: Tensor) -> Tensor:
    """Which rows ``(n,)`` of the search's network fall to examples that were crafted on `source`."""
    there, loss = replace(search, network=source, stop=False), search.criterion.losses["margin"]
    found = projected_ascent(there, x, y, loss=loss, steps=_STEPS, random_start=False)
    return search.won(found.adversarial, y)


def _by_seed(search: Search, x: Tensor, y: Tensor, seed: int) -> list[float]:
    """Success of the margin's ascent from random starts, by seed."""
    x, y = x[:SEED_ROWS], y[:SEED_ROWS]
    searches = [replace(search, generator=torch.Generator().manual_seed(seed + each)) for each in range(SEEDS)]
    loss = search.criterion.losses["margin"]
    return [float(projected_ascent(each, x, y, loss=loss, steps=_STEPS).won.float().mean()) for each in searches]


def _unbounded(search: Search, x: Tensor, y: Tensor, craft: Tensor) -> Tensor:
    """Which rows fall to an ascent in a ball that holds every valid input, or in a half or an eighth of it.

    It starts at the row itself: a random point so far away is another input, not an example.
    """
    won, everything = torch.zeros(len(x), dtype=torch.bool, device=x.device), _everything(search.ball, craft)
    for factor in (1.0, 0.5, 0.125):
        if not won.all():
            there = replace(search, ball=everything.scaled(factor))
            won[~won] = rows_won_by_ascent(there, x[~won], y[~won], _STEPS, anew=False)[0]
    return won


def _everything(ball: Ball, craft: Tensor) -> Ball:
    """A ball that holds every valid input; for an unbounded range, ten times the spread of `craft`."""
    if ball.low is not None and ball.high is not None:
        return replace(ball, norm="inf", radius=torch.full_like(ball.radius, ball.high - ball.low))
    spread = (craft.amax(dim=0) - craft.amin(dim=0)).amax() if len(craft) else torch.ones((), device=ball.radius.device)
    return replace(ball, norm="inf", radius=torch.full_like(ball.radius, 10 * float(spread)))


def _ahead(first: Tensor, second: Tensor) -> bool:
    """Whether `first` wins clearly more of the same rows ``(n,)`` than `second`: by 5 % of them and two sigma."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    gap = only_first - only_second
    return gap > _TOLERANCE * len(first) and gap > 2 * math.sqrt(only_first + only_second)
