"""HopSkipJump: walk along the decision boundary towards the input, by labels alone.

From an input answered with another class the walk goes to the boundary by bisection, estimates the boundary's
slope there from random steps to either side, jumps and bisects again. It ends when the distance is within the
radius. Distances are in radii, so a table's features count by their own spread and immutable ones not at all.

Reference: Chen, Jordan, Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack", S&P 2020,
alg. 2; eq. 9 and 16 (slope and its baseline), sec. 4.3 (step and probe sizes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medward.attacks.base import Access
from medward.attacks.evasion.asking import BlackBoxSearch
from medward.attacks.evasion.black_box import BlackBox
from medward.attacks.whitebox.ascent import Ascent
from medward.attacks.whitebox.ball import Ball

_PROBES = 30  # questions of the first slope; the t-th takes sqrt(t) times as many
STARTS = 12  # tries, each with noise twice as strong, to find another class at all
_BISECTIONS = 10  # they place a point to a thousandth of the way
JUMPS = 8  # a jump is halved so often before the row stays where it was


@dataclass(frozen=True, slots=True, kw_only=True)
class HopSkipJump(BlackBox):
    """HopSkipJump attack: walks along the decision boundary by labels alone."""

    @property
    def technique(self) -> str:
        """``hopskipjump``."""
        return "hopskipjump"

    @property
    def access(self) -> Access:
        """It is shown labels."""
        return Access.LABELS

    def search(self, search: BlackBoxSearch, x: Tensor, y: Tensor) -> Ascent:
        """The walk from every row."""
        return hopskipjump(search, x, y, queries=self.queries)


@dataclass(slots=True)
class _Asker:
    """Asks about changes `z (n, *shape)` in radii, for rows by index, as long as a row's budget lasts."""

    search: BlackBoxSearch
    x: Tensor
    y: Tensor
    left: Tensor

    @property
    def ball(self) -> Ball:
        return self.search.ball

    def points(self, rows: Tensor, z: Tensor) -> Tensor:
        x = self.x[rows]
        return self.ball.usable(self.ball.clip(x + self.ball.radius * z), x)

    def adversarial(self, rows: Tensor, z: Tensor) -> Tensor:
        """Which changes ``(m,)`` are answered as a success; False, unasked, where the budget is spent."""
        out = torch.zeros(len(rows), dtype=torch.bool, device=self.x.device)
        paid = self.left[rows] > 0
        if paid.any():
            some = rows[paid]
            scores, decided = self.search.ask(self.points(some, z[paid]))
            self.left[some] -= 1
            out[paid] = self.search.criterion.answered(scores, decided, self.y[some])
        return out


def hopskipjump(search: BlackBoxSearch, x: Tensor, y: Tensor, *, queries: int = 1000) -> Ascent:
    """Walk from rows `x (n, *shape)` answered with `y (n,)`, at most `queries` questions each.

    A row wins, and is done, at its first point within the radius that is answered as a success. A withheld
    answer counts as unchanged. A row that never wins keeps `x`, since its nearest point is outside.
    `history` has a value per jump.
    """
    found, generator = Ascent.nothing(x), search.generator
    if search.ball.empty or queries < 1 or not len(x):
        return found
    asker = _Asker(search, x, y, torch.full((len(x),), queries, device=x.device))
    z, alive = _starts(asker, generator)
    rows = torch.nonzero(alive)[:, 0]
    z[rows] = _bisected(asker, rows, z[rows])
    rows = _settle(asker, found, rows, z)
    turn = 1
    while len(rows):
        here = z[rows]
        direction = _slope(asker, rows, here, math.ceil(_PROBES * math.sqrt(turn)), turn, generator)
        z[rows] = _jump(asker, rows, here, direction, turn)
        z[rows] = _bisected(asker, rows, z[rows])
        rows = _settle(asker, found, rows, z)
        rows = rows[asker.left[rows] > 0]
        found.history.append(float(found.won.float().mean()))
        turn += 1
    found.queries = int((queries - asker.left).sum())
    return found


def _starts(asker: _Asker, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Changes of another class, from noise of growing strength, and the rows ``(n,)`` that have one."""
    z = torch.zeros_like(asker.x)
    alive = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    movable = (asker.ball.radius > 0).float()
    for strength in range(STARTS):
        rows = torch.nonzero(~alive)[:, 0]
        if not len(rows):
            break
        noise = (torch.rand((len(rows), *z.shape[1:]), generator=generator) * 2 - 1).to(z.device)
        tried = movable * noise * 2**strength
        if asker.ball.norm == "2":
            tried = tried / _lengths(tried, "2").clamp_min(1e-12) * 2**strength
        # What the valid range cuts off is no part of the change.
        tried = _change(asker, rows, tried)
        good = asker.adversarial(rows, tried)
        z[rows[good]], alive[rows[good]] = tried[good], True
    return z, alive


def _change(asker: _Asker, rows: Tensor, z: Tensor) -> Tensor:
    """`z` as far as the valid range lets it be, in radii."""
    x, ball = asker.x[rows], asker.ball
    moved = ball.clip(x + ball.radius * z) - x
    return torch.where(ball.radius > 0, moved / ball.radius.clamp_min(1e-12), 0.0)


def _bisected(asker: _Asker, rows: Tensor, z: Tensor) -> Tensor:
    """Changes at the boundary, still of another class: along the line to the input, or for "inf" by clipping."""
    norm = asker.ball.norm
    high = _lengths(z, norm)
    low = torch.zeros_like(high)
    best, full = z.clone(), high.clone()
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        tried = (
            z * (middle / full.clamp_min(1e-12)) if norm == "2" else torch.maximum(torch.minimum(z, middle), -middle)
        )
        good = asker.adversarial(rows, tried)
        best[good] = tried[good]
        wide = good.view(-1, *[1] * (z.ndim - 1))
        high, low = torch.where(wide, middle, high), torch.where(wide, low, middle)
    return best


def _settle(asker: _Asker, found: Ascent, rows: Tensor, z: Tensor) -> Tensor:
    """Try each row's change cut down to the radius; rows that win are written down, the others returned."""
    change = z[rows]
    length = _lengths(change, asker.ball.norm)
    cut = change.clamp(-1, 1) if asker.ball.norm == "inf" else change / length.clamp_min(1.0)
    # Inside already means asked already: the boundary search keeps only points that were answered.
    near = (length <= 1).flatten()
    win = near | asker.adversarial(rows, cut)
    won = rows[win]
    x = asker.x[won]
    found.adversarial[won] = asker.ball.usable(asker.ball.project(x + asker.ball.radius * cut[win], x), x)
    found.won[won] = True
    found.value[rows] = -length.flatten()
    return rows[~win]


def _slope(asker: _Asker, rows: Tensor, z: Tensor, probes: int, turn: int, generator: torch.Generator) -> Tensor:
    """The direction ``(m, *shape)`` in which the other class lies, estimated from `probes` questions per row."""
    norm = asker.ball.norm
    movable = (asker.ball.radius > 0).float().expand(z.shape[1:])
    size = float(movable.sum())
    reach = _lengths(z, norm) / (math.sqrt(size) if norm == "2" else size) if turn > 1 else 0.1 * _lengths(z, norm)
    total, sides, count = torch.zeros_like(z), torch.zeros_like(z), 0.0
    answers = torch.zeros(len(rows), device=z.device)
    for _ in range(probes):
        noise = torch.randn(z.shape, generator=generator).to(z.device) * movable
        noise = noise / _lengths(noise, "2").clamp_min(1e-12)
        step = reach * noise if norm == "2" else reach * noise * math.sqrt(size)
        sign = asker.adversarial(rows, z + step).float() * 2 - 1
        total += sign.view(-1, *[1] * (z.ndim - 1)) * noise
        sides += noise
        answers += sign
        count += 1
    mean = (answers / count).view(-1, *[1] * (z.ndim - 1))
    slope = torch.where(mean.abs() == 1, mean * sides, total - mean * sides)
    return slope.sign() * movable if norm == "inf" else slope / _lengths(slope, "2").clamp_min(1e-12)


def _jump(asker: _Asker, rows: Tensor, z: Tensor, direction: Tensor, turn: int) -> Tensor:
    """As far along `direction` as keeps the other class, at first the distance over sqrt(turn)."""
    step = _lengths(z, asker.ball.norm) / math.sqrt(turn)
    out, waiting = z.clone(), torch.ones(len(rows), dtype=torch.bool, device=z.device)
    for _ in range(JUMPS):
        some = torch.nonzero(waiting)[:, 0]
        if not len(some):
            break
        tried = _change(asker, rows[some], z[some] + step[some] * direction[some])
        good = asker.adversarial(rows[some], tried)
        out[some[good]] = tried[good]
        waiting[some[good]] = False
        step = step / 2
    return out


def _lengths(z: Tensor, norm: str) -> Tensor:
    flat = z.flatten(1)
    length = flat.square().sum(dim=1).sqrt() if norm == "2" else flat.abs().amax(dim=1)
    return length.view(-1, *[1] * (z.ndim - 1))
