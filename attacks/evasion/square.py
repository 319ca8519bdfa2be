"""The Square attack: random search with squares of change, by scores alone.

A square of the change is set anew, by chance; it stays when the margin does not fall. The squares
shrink as questions are spent. For tables a random part of the coordinates takes the place of a square.
Under the norm "2" the square holds a peaked bump, as in the paper's alg. 3, and the whole change is scaled
back to the radius, where the paper moves mass from a second square.

Reference: Andriushchenko, Croce, Flammarion, Hein, "Square attack: a query-efficient black-box adversarial
attack via random search", ECCV 2020, alg. 1 to 3; schedule and margin as in AutoAttack (p = 0.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medward.attacks.base import Access
from medward.attacks.evasion.asking import BlackBoxSearch
from medward.attacks.evasion.black_box import BlackBox
from medward.attacks.whitebox.ascent import Ascent
from medward.attacks.whitebox.ball import Ball

_FIRST = 0.8  # the share of the input that the first squares cover
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # questions, of 10,000, after which the share halves


@dataclass(frozen=True, slots=True, kw_only=True)
class Square(BlackBox):
    """Square attack: random search with squares of change, by scores alone."""

    @property
    def technique(self) -> str:
        """``square``."""
        return "square"

    @property
    def access(self) -> Access:
        """It is shown scores."""
        return Access.SCORES

    def search(self, search: BlackBoxSearch, x: Tensor, y: Tensor) -> Ascent:
        """Random search on every row."""
        return square(search, x, y, queries=self.queries)


def square(search: BlackBoxSearch, x: Tensor, y: Tensor, *, queries: int = 5000, rescale: bool = True) -> Ascent:
    """Search from rows `x (n, *shape)` answered with `y (n,)`, at most `queries` questions each.

    A row wins, and is done, when an answer to it counts for the criterion; a withheld answer is never better than what
    was there. With `rescale` the squares shrink over the budget at hand, else as for 10,000 questions.
    """
    found, ball, generator = Ascent.nothing(x), search.ball, search.generator
    if ball.empty or not len(x):
        return found
    rows = torch.arange(len(x), device=x.device)
    change = torch.zeros_like(x)
    for query in range(queries):
        mine = x[rows]
        if query == 0:
            proposed = _first(ball, tuple(mine.shape), generator)
        else:
            share = _FIRST / 2 ** sum(query * (10000 / queries if rescale else 1) > after for after in HALVINGS)
            proposed = _next(ball, change[rows], share, generator)
        point = ball.usable(ball.project(mine + proposed, mine), mine)
        scores, decided = search.ask(point)
        found.queries += len(rows)
        value = search.criterion.margin(scores, y[rows])
        value = torch.where((decided >= 0) & torch.isfinite(value), value, -torch.inf)
        win = search.criterion.answered(scores, decided, y[rows])
        better = (value >= found.value[rows]) | win
        chosen = rows[better]
        found.adversarial[chosen], found.value[chosen] = point[better], value[better]
        change[chosen] = (point - mine)[better]
        found.won[rows] |= win
        found.history.append(float(found.won.float().mean()))
        rows = rows[~win]
        if not len(rows):
            break
    return found


def _first(ball: Ball, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Where the search starts: stripes down an image, random signs in a table."""
    striped = (*shape[:2], 1, shape[3]) if len(shape) == 4 and ball.norm == "inf" else shape
    return (
        ball.radius * _signs(striped, generator, ball).expand(shape)
        if ball.norm == "inf"
        else _sized(ball, ball.radius * _signs(shape, generator, ball))
    )


def _next(ball: Ball, change: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """`change (n, *shape)` with one part of it, `share` of the whole, drawn anew in every row."""
    n, *shape = change.shape
    if len(shape) == 3:
        inside, bump = _squares(n, shape[1], shape[2], share, generator)
        signs = _signs((n, shape[0], 1, 1), generator, ball)
    else:
        # At least one coordinate, the one drawn lowest, is always in.
        draw = torch.rand((n, *shape), generator=generator)
        inside = draw <= draw.flatten(1).amin(dim=1).clamp_min(share).view(-1, *[1] * len(shape))
        bump, signs = inside.float(), _signs((n, *shape), generator, ball)
    inside, bump = inside.to(change.device), bump.to(change.device)
    if ball.norm == "inf":
        return torch.where(inside, ball.radius * signs, change)
    whole = torch.where(ball.radius > 0, change / ball.radius.clamp_min(1e-12), 0.0)
    mass = (whole.square() * inside).flatten(1).sum(dim=1).sqrt().view(-1, *[1] * len(shape))
    # The part takes the mass it had, and at least its share of the whole.
    fresh = bump * signs * mass.clamp_min(share**0.5)
    return _sized(ball, ball.radius * torch.where(inside, fresh, whole))


def _squares(n: int, height: int, width: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each row a square of `share` of the image: its mask and, of length 1, a bump in it: ``(n, 1, h, w)``."""
    side = min(max(round((share * height * width) ** 0.5), 1), height, width)
    top = torch.randint(0, height - side + 1, (n, 1, 1, 1), generator=generator)
    left = torch.randint(0, width - side + 1, (n, 1, 1, 1), generator=generator)
    down = torch.arange(height).view(1, 1, -1, 1) - top
    across = torch.arange(width).view(1, 1, 1, -1) - left
    inside = (down >= 0) & (down < side) & (across >= 0) & (across < side)
    middle = (side - 1) / 2
    far = torch.maximum((down - middle).abs(), (across - middle).abs())
    bump = torch.where(inside, 1 / (1 + far).square(), 0.0)
    return inside, bump / bump.square().sum(dim=(2, 3), keepdim=True).sqrt()


def _sized(ball: Ball, change: Tensor) -> Tensor:
    """`change` scaled to the radius."""
    return change / ball.size(change).clamp_min(1e-12)


def _signs(shape: tuple[int, ...], generator: torch.Generator, ball: Ball) -> Tensor:
    return (torch.randint(0, 2, shape, generator=generator).float() * 2 - 1).to(ball.radius.device)
