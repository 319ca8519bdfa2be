"""Which rows several tries have won: over the radii that are judged, and over the searches on a network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medward.attacks.evasion.asking import AskedRows, Bools
from medward.attacks.evasion.fooled_share import larger_share
from medward.attacks.whitebox.ascent import Ascent
from medward.guard.types import Ints


class Envelope:
    """An envelope holds which rows each radius in turn, or one before it, fools.

    Rows still `standing` are all that need be asked. `classes (n,)` are those that the rows count in, where they are
    balanced; `uncertified (n,)` those of which nothing was proven as they were, None where nobody certifies.
    """

    def __init__(self, x: Tensor, classes: Ints | None, uncertified: Bools | None = None) -> None:
        self.classes = classes
        self._before = uncertified
        self._shares: dict[float, float] = {}
        self._fooled, self._refused, self._unproven, self._changed = torch.zeros(
            (4, len(x)), dtype=torch.bool, device=x.device
        )

    @property
    def radii(self) -> list[float]:
        """The radii so far."""
        return list(self._shares)

    @property
    def standing(self) -> Tensor:
        """The rows that nothing has fooled yet, as indices."""
        return torch.nonzero(~self._fooled)[:, 0]

    @property
    def fooled(self) -> Bools:
        """The rows ``(n,)`` that any radius so far fools."""
        return np.asarray(self._fooled.cpu().numpy())

    @property
    def refused(self) -> Bools:
        """The rows ``(n,)`` that no radius so far fools, and some had refused."""
        return np.asarray((self._refused & ~self._fooled).cpu().numpy())

    @property
    def denied(self) -> Bools | None:
        """The rows ``(n,)`` that were certified, that no radius so far fools and of which some took the proof."""
        unproven = np.asarray(self._unproven.cpu().numpy())
        return AskedRows(self.fooled, self.refused, unproven, self.changed).denied(self._before)

    @property
    def changed(self) -> Bools:
        """The rows ``(n,)`` whose answer any radius so far changed, certified or not."""
        return np.asarray(self._changed.cpu().numpy())

    @property
    def certified(self) -> Bools | None:
        """The rows ``(n,)`` that were certified as they were; None where nobody certifies."""
        return None if self._before is None else ~self._before

    def deny(self, found: AskedRows) -> None:
        """Take up which of all rows another search left without a proof, and of which it changed the answer."""
        self._unproven |= torch.as_tensor(found.uncertified, device=self._fooled.device)
        self._changed |= torch.as_tensor(found.changed, device=self._fooled.device)

    def add(self, radius: float, found: AskedRows, rows: Tensor) -> None:
        """Take up what came of some of the standing `rows` (indices) at `radius`, in their order."""
        self._fooled[rows] |= torch.as_tensor(found.fooled, device=self._fooled.device)
        self._refused[rows] |= torch.as_tensor(found.refused, device=self._fooled.device)
        self._unproven[rows] |= torch.as_tensor(found.uncertified, device=self._fooled.device)
        self._changed[rows] |= torch.as_tensor(found.changed, device=self._fooled.device)
        self._shares[radius] = larger_share(self.fooled, self.classes)

    def curve(self, start: float) -> tuple[list[float], list[float]]:
        """The share fooled by radii up to each, as it is judged, from `start` at a radius of zero."""
        return [0.0, *self.radii], [start, *self._shares.values()]


class Tally:
    """A tally is the worst case per row over several searches; with `stop` later ones run on rows still `standing`.

    A row that no search won keeps the iterate that ranked highest; without `stop` every row does.
    """

    def __init__(self, x: Tensor, *, stop: bool = True) -> None:
        self.best = Ascent.nothing(x)
        self._stop = stop

    @property
    def standing(self) -> Tensor:
        """The rows to try next, as indices."""
        if self._stop:
            return torch.nonzero(~self.best.won)[:, 0]
        return torch.arange(len(self.best.won), device=self.best.won.device)

    def add(self, rows: Tensor, found: Ascent) -> None:
        """Take up what a search on `rows` found."""
        best = self.best
        better = (found.value > best.value[rows]) | (found.won & ~best.won[rows])
        already = float(best.won.float().sum()) - float(best.won[rows].float().sum())
        best.adversarial[rows[better]], best.value[rows[better]] = found.adversarial[better], found.value[better]
        best.won[rows] |= found.won
        best.gradients += found.gradients
        best.queries += found.queries
        best.history.extend((already + share * len(rows)) / len(best.won) for share in found.history)
