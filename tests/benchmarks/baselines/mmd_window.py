"""Windowed maximum mean discrepancy: are an account's last queries distributed as benign ones are?

Queries are taken in windows that do not overlap. The statistic is the unbiased estimate of MMD^2 between a window and a
batch of as many benign rows, averaged over `REPEATS` such batches; the kernel is the mean of Gaussians of 0.5, 1, 2 and
4 times the median benign distance. The threshold is a percentile of the same estimate between two benign batches.
Between windows nothing is remembered: a full window above the threshold alarms, and the next starts anew.

The settings are those of the authors' code, where a window is 1,500 queries. Batches are drawn from a bank of `BANK`
drawn once, theirs anew for every window; that is all that differs.

Reference: arXiv 2606.05725 (windowed MMD against model extraction); Gretton et al., "A kernel two-sample test", JMLR
13, 2012, for the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medward.guard.types import Array, Ints

WINDOW = 1500
WIDTHS = (0.5, 1.0, 2.0, 4.0)
REPEATS, NULLS, PERCENTILE = 20, 1000, 95.0
BANK = 500
MEASURED = 2000  # rows that the median distance is of, at most

MmdState = tuple[int, tuple[Array, ...]]
"""One account: windows so far, and the rows of the one that fills."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MmdWindow:
    """The rule. ``reference (n, d)`` are benign rows; ``bank (b, n)`` says how often each is in each batch.

    `norms (b,)` are the batches' own mean kernels, `threshold` what a statistic must exceed.
    """

    reference: Array
    window: int
    widths: tuple[float, ...]
    bank: Array
    norms: Array
    threshold: float
    seed: int

    @classmethod
    def fit(cls, reference: Array, *, window: int = WINDOW, seed: int = 0) -> MmdWindow:
        """Draw the batches and set the threshold on benign rows alone. Rows come twice where there are too few."""
        rng = np.random.default_rng(seed)
        some = rng.permutation(len(reference))[:MEASURED]
        median = np.sqrt(np.median(_positive(squared_distances(reference[some], reference[some]))))
        widths = tuple(float(width * median) for width in WIDTHS)
        gram = kernel(reference, reference, widths)
        first, second = (np.zeros((NULLS, len(reference))) for _ in range(2))
        for i in range(NULLS):
            pair = two_batches(len(reference), window, rng)
            first[i], second[i] = (np.bincount(each, minlength=len(reference)) for each in pair)
        between = ((first @ gram) * second).sum(axis=1) / window**2
        nulls = within(first, gram) + within(second, gram) - 2 * between
        drawn = [np.bincount(batch(len(reference), window, rng), minlength=len(reference)) for _ in range(BANK)]
        bank = np.array(drawn, np.float64)
        return cls(
            reference=reference,
            window=window,
            widths=widths,
            bank=bank,
            norms=within(bank, gram),
            threshold=float(np.percentile(nulls, PERCENTILE)),
            seed=seed,
        )

    def start(self) -> MmdState:
        """An account that has asked nothing."""
        return 0, ()

    def step(self, state: MmdState, features: Array, label: int) -> tuple[MmdState, bool]:
        """One more query, as the embedding ``(d,)``; the label is not used."""
        number, rows = state[0], (*state[1], features)
        if len(rows) < self.window:
            return (number, rows), False
        full = np.stack(rows)
        picks = np.random.default_rng((self.seed, number)).integers(len(self.bank), size=(1, REPEATS))
        gram = kernel(full, full, self.widths)
        score = self.scores(np.ones((1, len(full))), gram, self.cross(full), picks)
        return (number + 1, ()), bool(score[0] > self.threshold)

    def cross(self, rows: Array) -> Array:
        """The mean kernel ``(p, b)`` of each of ``rows (p, d)`` with each batch of the bank."""
        return np.asarray(kernel(rows, self.reference, self.widths) @ self.bank.T / self.window)

    def scores(self, counts: Array, gram: Array, cross: Array, picks: Ints) -> Array:
        """The statistics ``(w,)`` of windows that hold each of p rows ``counts (w, p)`` times.

        ``gram (p, p)`` and ``cross (p, b)`` are of the p rows; ``picks (w, r)`` the batches a window is compared with.
        """
        between = np.take_along_axis(counts @ cross, picks, axis=1) / self.window
        return np.asarray(within(counts, gram) + (self.norms[picks] - 2 * between).mean(axis=1))


def within(counts: Array, gram: Array) -> Array:
    """The mean kernel ``(w,)`` of two different rows of each window ``counts (w, p)``, no row being its own pair."""
    size = counts.sum(axis=1)
    return np.asarray((((counts @ gram) * counts).sum(axis=1) - size) / (size * (size - 1)))


def kernel(rows: Array, others: Array, widths: tuple[float, ...]) -> Array:
    """The mean of Gaussian kernels ``(n, m)``."""
    squares = squared_distances(rows, others)
    return np.asarray(sum(np.exp(-squares / (2 * width**2)) for width in widths) / len(widths))


def squared_distances(rows: Array, others: Array) -> Array:
    """Between each of ``rows (n, d)`` and each of ``others (m, d)``."""
    rows, others = np.asarray(rows, np.float64), np.asarray(others, np.float64)
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T
    return np.asarray(np.maximum(squares, 0))


def batch(n: int, size: int, rng: np.random.Generator) -> Ints:
    """`size` of n rows; different ones where there are enough."""
    return rng.permutation(n)[:size] if n >= size else rng.integers(n, size=size)


def two_batches(n: int, size: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Two of them, which share no row where there are enough."""
    if n < 2 * size:
        return batch(n, size, rng), batch(n, size, rng)
    drawn = batch(n, 2 * size, rng)
    return drawn[:size], drawn[size:]


def _positive(squares: Array) -> Array:
    above = squares[np.triu_indices(len(squares), 1)]
    return above[above > 0] if (above > 0).any() else np.ones(1)
