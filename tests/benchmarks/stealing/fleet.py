"""Thousands of accounts through the monitors at once: the arithmetic of `Monitors.watch`, account by account.

Every operation is the deployed one with a leading axis for the accounts. `peaks` is compared with the deployed step on
the first queries of some accounts of every run (see `stealing_benign`). The index of near-duplicates is not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.monitors.base import ANSWER_MARKS, CONTENT_CODES
from medward.guard.monitors.coverage import LENGTH, SMOOTHING, Coverage, cell_payoffs, usual_shares
from medward.guard.monitors.direction_bet import DirectionBet
from medward.guard.monitors.repeats import ALIKE, FIRST_INPUTS, REMEMBERED_INPUTS
from medward.guard.monitors.shared_perturbation import (
    CHAINS,
    EPOCH,
    GRAIN,
    RECENT,
    SCORE_DECIMALS,
    SIDE,
    SharedPerturbation,
    epoch_risk,
)
from medward.guard.monitors.shared_perturbation import CODES as KNOWN
from medward.guard.monitors.sketch import AROUND, MARKED_SHARE, MOST_LEFT_OUT, STANDS_OUT
from medward.guard.monitors.strangeness import RankBet
from medward.guard.statistics.binomial import tolerance_rank
from medward.guard.statistics.conformal import rank_within, split_risk
from medward.guard.statistics.eprocess import CAP, DOWN, EProcess
from medward.guard.statistics.rank_accounts import RankAccounts
from medward.guard.statistics.strata import STRATUM

Pool = Mapping[str, np.ndarray]
"""What each part sees of every row that can be asked, "codes" as unsigned integers, and the strata if there are any."""
BLOCK = 250  # accounts whose calibration scores are sorted at a time


def peaks(monitors: AccountMonitors, pool: Pool, rows: np.ndarray) -> np.ndarray:
    """The largest log wealth ``(accounts,)`` of accounts that ask ``rows (accounts, queries)`` of `pool`."""
    most = np.zeros(len(rows))
    for wealth in log_wealth(monitors, pool, rows):
        most = np.maximum(most, wealth)
    return most


def first_alarms(
    monitors: AccountMonitors, pool: Pool, rows: np.ndarray, alpha: float, *, repeats: bool = True
) -> list[int | None]:
    """By account the query at which its wealth first reaches 1 / `alpha`; None where it never does.

    Without `repeats` a row that is asked again stands for another input like it.
    """
    first: list[int | None] = [None] * len(rows)
    for query, wealth in enumerate(log_wealth(monitors, pool, rows, repeats=repeats), 1):
        for account in np.flatnonzero(wealth >= -np.log(alpha)):
            first[account] = first[account] or query
        if all(first):
            break
    return first


def log_wealth(
    monitors: AccountMonitors, pool: Pool, rows: np.ndarray, *, repeats: bool = True
) -> Iterator[np.ndarray]:
    """Log wealth ``(accounts,)`` after each query of accounts that ask ``rows (accounts, queries)`` of `pool`."""
    accounts, queries = rows.shape
    memory = _Repeats(accounts, monitors.radius)
    watched = {
        bet.part.name: _Watched(bet.directions, accounts) for bet in monitors.bets if isinstance(bet, DirectionBet)
    }
    bettors = {bet.part.name: _bettor(bet, accounts) for bet in monitors.bets}
    strata = pool.get(STRATUM, np.zeros(len(pool["strange"]), np.int64))
    for n in range(1, queries + 1):
        row = rows[:, n - 1]
        codes = pool[CONTENT_CODES][row] if CONTENT_CODES in pool else None
        marks = pool[ANSWER_MARKS][row] if ANSWER_MARKS in pool else np.zeros(accounts)
        exact, near = memory.step(row if repeats else np.full(accounts, -2 - n), codes, marks)
        together, alone = np.zeros(accounts), np.zeros(accounts)
        for part, weight in zip(monitors.combined.parts, monitors.combined.weights, strict=True):
            value = pool[part.name][row]
            if part.name in watched:
                value = watched[part.name].step(value, codes if part.name == "shared" else None, strata[row])
            ignored = exact if part.name == "shared" else exact | near
            own = weight * bettors[part.name].step(n, value, ignored, strata[row])
            if part.conditional:
                together += own
            else:
                alone = np.maximum(alone, own)
        yield np.log(np.maximum(together, alone))


def _bettor(bet: Any, accounts: int) -> _Bets | _Cells | _Ranks:
    if isinstance(bet, RankBet):
        return _Ranks(bet, accounts)
    return _Cells(bet.part, accounts) if bet.part.name == "coverage" else _Bets(bet.part, accounts)


def _late(wealth: np.ndarray, n: int, factors: np.ndarray) -> np.ndarray:
    return (np.minimum(factors * (wealth + 1 / (n * (n + 1))), CAP) * DOWN).astype(np.float32).astype(np.float64)


@dataclass(slots=True)
class _Bets:
    """`EProcess`."""

    part: EProcess
    accounts: int
    table: np.ndarray = field(init=False)
    wealth: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        values = (*self.part.levels, 1.0)
        strata = range(1 + len(self.part.rare))
        self.table = np.array([[self.part.factors(value, stratum) for value in values] for stratum in strata])
        self.wealth = np.zeros((self.accounts, self.table.shape[2]))

    def step(self, n: int, value: np.ndarray, ignored: np.ndarray, stratum: np.ndarray) -> np.ndarray:
        which = np.searchsorted((*self.part.levels, 1.0), np.where(ignored, 1.0, value))
        self.wealth = _late(self.wealth, n, self.table[stratum if self.part.rare else 0, which])
        return self.wealth.mean(axis=1)


@dataclass(slots=True)
class _Ranks:
    """`RankBet` and `RankEProcess`."""

    bet: RankBet
    accounts: int
    own: RankAccounts = field(init=False)

    def __post_init__(self) -> None:
        self.own = RankAccounts(self.bet.part, self.accounts)

    def step(self, n: int, value: np.ndarray, ignored: np.ndarray, stratum: np.ndarray) -> np.ndarray:
        _, cells = self.bet.values(None, value.tolist(), [""] * len(value), stratum.tolist())
        return self.own.step(np.where(ignored, self.bet.part.cells.repeat, np.array(cells, np.int64)), stratum)


@dataclass(slots=True)
class _Cells:
    """`Coverage`."""

    part: Coverage
    accounts: int
    wealth: np.ndarray = field(init=False)
    shares: np.ndarray = field(init=False)
    known: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.wealth = np.zeros((self.accounts, len(SMOOTHING)))
        self.shares = np.zeros((self.accounts, len(self.part.counts)))
        self.known = np.zeros(self.accounts, np.int64)

    def step(self, n: int, value: np.ndarray, ignored: np.ndarray, stratum: np.ndarray) -> np.ndarray:
        total = self.shares.sum(axis=1, keepdims=True)
        shares = self.shares / np.where(total > 0, total, 1)
        known = np.minimum(self.known, LENGTH)[:, None, None]
        weights = np.array(SMOOTHING)[None, :, None]
        pays, least = cell_payoffs(
            (known * shares[:, None] + weights * usual_shares(self.part.counts)) / (known + weights), self.bounds
        )
        cell = np.where(ignored, 0, value).astype(np.int64)
        own = np.take_along_axis(pays, cell[:, None, None], axis=2)[:, :, 0]
        self.wealth = _late(self.wealth, n, np.where(ignored[:, None], least, own))
        rate = 1 / np.minimum(self.known + 1, LENGTH)
        shares *= (1 - rate)[:, None]
        shares[np.arange(self.accounts), cell] += rate
        learnt = shares.astype(np.float16).astype(np.float64)
        self.shares = np.where(ignored[:, None], self.shares, learnt)
        self.known += ~ignored
        return self.wealth.mean(axis=1)

    @property
    def bounds(self) -> np.ndarray:
        return self.part.bounds


@dataclass(slots=True)
class _Watched:
    """`SharedPerturbation`."""

    part: SharedPerturbation
    accounts: int
    n: int = 0
    means: np.ndarray = field(init=False)
    directions: np.ndarray = field(init=False)
    cuts: np.ndarray = field(init=False)
    codes: np.ndarray = field(init=False)
    used: np.ndarray = field(init=False)
    last: np.ndarray = field(init=False)
    first: np.ndarray = field(init=False)
    near: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        width = self.part.reference.shape[1]
        places = np.zeros((0, 2)) if self.part.places is None else self.part.places
        self.near = np.abs(places[:, None] - places).max(axis=2, initial=0) <= AROUND
        self.means = np.zeros((self.accounts, 2, width), np.float32)
        self.directions = np.zeros_like(self.means)
        self.cuts = np.full((self.accounts, self.part.count, len(self.part.levels)), np.inf)
        self.codes = np.zeros((self.accounts, CHAINS, KNOWN), np.uint64)
        self.used = np.full((self.accounts, CHAINS, KNOWN), -1)  # when each code was last seen, -1 for no code
        self.last = np.full((self.accounts, CHAINS), -1)
        self.first = np.zeros((self.accounts, CHAINS, width), np.int8)

    def step(self, vectors: np.ndarray, codes: np.ndarray | None, stratum: np.ndarray) -> np.ndarray:
        if self.n and (self.n < EPOCH or self.n % EPOCH == 0):
            self.directions = _unit(self._unmarked())
            self.cuts = self._cuts(epoch=self.n - 1 if self.n < EPOCH else EPOCH - 2 + self.n // EPOCH)
        change = vectors if codes is None else self._change(vectors, codes)
        score = self._scores(change)
        if codes is not None:
            score = np.minimum(score, self._scores(vectors))
        own = self.cuts[np.arange(self.accounts), stratum]
        above = np.round(score.astype(np.float64), SCORE_DECIMALS)[:, None] > own + self.part.slack
        values = np.array([*self.part.levels, 1.0])
        p_values = values[np.where(above.any(axis=1), above.argmax(axis=1), len(values) - 1)]
        self.n += 1
        self._learn(change)
        return np.asarray(p_values)

    def _scores(self, vectors: np.ndarray) -> np.ndarray:
        along = np.einsum("aik,ak->ia", self.directions, vectors)
        return np.asarray(np.maximum(along[0], np.abs(along[1])))

    def _learn(self, change: np.ndarray) -> None:
        side = np.where(np.einsum("ak,ak->a", change, self.directions[:, 1]) < 0, -1, 1).astype(np.float32)[:, None]
        rates = np.array([[1 / self.n], [max(1 / self.n, RECENT)]], np.float32)
        turned = np.stack([change, side * change], axis=1)
        self.means = (self.means + rates * (turned - self.means)).astype(np.float16).astype(np.float32)

    def _unmarked(self) -> np.ndarray:
        """`guard.monitors.sketch.without_markings` of all accounts."""
        if self.part.places is None or not len(self.part.places):
            return self.means
        first, second = _marked(self.means[:, 0], self.near), _marked(self.means[:, 1], self.near)
        return np.where(np.stack([first, first | second], axis=1), np.float32(0), self.means)

    def _cuts(self, epoch: int) -> np.ndarray:
        n, levels = len(self.part.reference), self.part.levels
        spent = split_risk(epoch_risk(self.part.risk, epoch), len(levels))
        ranks = [tolerance_rank(n, tau, part) for tau, part in zip(levels, spent, strict=True)]
        cuts = np.full((self.accounts, self.part.count, len(levels)), np.inf)
        wanted = [n - rank for rank in ranks if rank]
        for start in range(0, self.accounts, BLOCK) if wanted else ():
            some = self.directions[start : start + BLOCK]
            along = (some.reshape(-1, some.shape[2]) @ self.part.reference.T).reshape(len(some), 2, n)
            known = np.maximum(along[:, 0], np.abs(along[:, 1]))
            ordered = np.partition(known, wanted, axis=1)
            for j, rank in enumerate(ranks):
                if rank:
                    cuts[start : start + BLOCK, :, j] = ordered[:, n - rank, None]
            for stratum in range(1, self.part.count):
                mine = np.sort(known[:, self.part.strata == stratum], axis=1)
                for j, level in enumerate(levels):
                    rank = rank_within(mine.shape[1], level)
                    own = mine[:, -rank] if rank else np.inf
                    cuts[start : start + BLOCK, stratum, j] = np.maximum(cuts[start : start + BLOCK, stratum, j], own)
        return np.round(cuts, SCORE_DECIMALS)

    def _change(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        everyone = np.arange(self.accounts)
        apart = np.bitwise_count(self.codes ^ codes[:, None, None])
        alike = ((apart <= self.part.radius) & (self.used >= 0)).any(axis=2)
        hit = alike.any(axis=1)
        chain = np.where(hit, np.where(alike, self.last, -2).argmax(axis=1), self.last.argmin(axis=1))
        first = self.first[everyone, chain].astype(np.float32)
        change = np.where(hit[:, None], vectors - first * np.float32(GRAIN), vectors)
        fresh = ~hit
        self.used[everyone[fresh], chain[fresh]] = -1
        self.first[everyone[fresh], chain[fresh]] = np.clip(np.rint(vectors[fresh] / GRAIN), -SIDE, SIDE)
        known = (self.codes[everyone, chain] == codes[:, None]) & (self.used[everyone, chain] >= 0)
        slot = np.where(known.any(axis=1), known.argmax(axis=1), self.used[everyone, chain].argmin(axis=1))
        self.codes[everyone, chain, slot] = codes
        self.used[everyone, chain, slot] = self.n
        self.last[everyone, chain] = self.n
        return change


@dataclass(slots=True)
class _Repeats:
    """`guard.monitors.repeats.find_repeats`, a row standing for its digest."""

    accounts: int
    radius: int
    n: int = 0
    rows: np.ndarray = field(init=False)
    codes: np.ndarray = field(init=False)
    marks: np.ndarray = field(init=False)
    used: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rows = np.full((self.accounts, REMEMBERED_INPUTS), -1)
        self.marks = np.zeros((self.accounts, FIRST_INPUTS))
        self.codes = np.zeros((self.accounts, FIRST_INPUTS), np.uint64)
        self.used = np.full((self.accounts, FIRST_INPUTS), -1)  # when each first was last repeated, -1 for none

    def step(self, rows: np.ndarray, codes: np.ndarray | None, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        exact = (self.rows == rows[:, None]).any(axis=1)
        near = np.zeros(self.accounts, bool)
        if codes is not None:
            alike = (np.bitwise_count(self.codes ^ codes[:, None]) <= self.radius) & (self.used >= 0)
            alike &= np.abs(marks[:, None] - self.marks) <= ALIKE
            near = alike.any(axis=1) & ~exact
            place = np.where(near, np.where(alike, self.used, -1).argmax(axis=1), self.used.argmin(axis=1))
            fresh, asked = np.flatnonzero(~exact & ~near), np.flatnonzero(~exact)
            self.codes[fresh, place[fresh]], self.marks[fresh, place[fresh]] = codes[fresh], marks[fresh]
            self.used[asked, place[asked]] = self.n
        self.rows[:, self.n % REMEMBERED_INPUTS] = rows
        self.n += 1
        return exact, near


def _marked(means: np.ndarray, near: np.ndarray) -> np.ndarray:
    """`guard.monitors.sketch.marked_places` of ``means (accounts, k)``; ``near (k, k)`` says what lies around what."""
    size = np.abs(means)
    accounts, width = size.shape
    largest = np.argsort(-size, axis=1)[:, : int(MARKED_SHARE * width)]
    marks = np.take_along_axis(size, largest, axis=1) > STANDS_OUT * np.median(size, axis=1, keepdims=True)
    gone = np.logical_or.accumulate(near[largest], axis=1)
    last = (marks & (gone.sum(axis=2) <= MOST_LEFT_OUT * width)).sum(axis=1)
    found = np.take_along_axis(gone, np.maximum(last - 1, 0)[:, None, None], axis=1)[:, 0]
    return np.where((last > 0)[:, None], found, np.zeros((accounts, width), bool))


def _unit(means: np.ndarray) -> np.ndarray:
    most = np.abs(means).max(axis=2, keepdims=True)
    steps = np.clip(np.rint(means * (SIDE / np.where(most > 0, most, 1))), -SIDE, SIDE)
    lengths = np.sqrt((steps * steps).sum(axis=2, keepdims=True))
    return np.asarray((steps * ((1 - 1e-6) / np.where(lengths > 0, lengths, 1))).astype(np.float32))
