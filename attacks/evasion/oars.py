"""OARS: where a defense refuses near-duplicates, ask only about what it does not take for one.

Around a search by random noise: the answers to an input plus noise tell, by their correlation with it, in which
direction another class lies, and a step of one radius that way is the candidate. Questions need not lie within the
radius, only the candidate does. So a refusal that shows is an oracle: the least strength of noise that is not refused
is found by bisection, and refused noise is drawn anew. Noise comes in blocks, since fine noise leaves an image what it
was to whoever looks for near-duplicates. `foresee` is the attacker's own copy of the defense, fitted on data like its
owner's but without its secrets: noise that it would refuse is drawn anew without asking, so that no refusal need show,
and a candidate that it would refuse is kept unasked.

Reference: Feng, Hooda, Mangaokar, Fawaz, Jha, Prakash, "Stateful defenses for machine learning models are not yet
secure against black-box attacks", CCS 2023 (step sizes by bisection, refused directions drawn anew); Ilyas, Engstrom,
Athalye, Lin, "Black-box adversarial attacks with limited queries and information", ICML 2018 (the search, which here
stays at the input, so that all its questions count at every step).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from medward.attacks.base import Access
from medward.attacks.evasion.asking import BlackBoxSearch
from medward.attacks.evasion.black_box import BlackBox
from medward.attacks.whitebox.ascent import Ascent

CELLS = 14  # blocks of noise along an image's side
EVERY = 25  # answers between two candidates
STRONGEST = 32.0  # noise, in radii
_PROBES = 4  # questions at each strength that is tried
_BISECTIONS = 5  # of the strength, on a logarithmic scale
PATIENCE = 5  # refusals in a row before the strength is looked for anew
TRIES = 20  # draws of noise at most until one is foreseen to pass

Foresee = Callable[[Tensor], bool]
"""Whether the attacker expects the point ``(1, *shape)`` to be refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OARS(BlackBox):
    """OARS attack: asks only about what a near-duplicate index does not know again."""

    @property
    def technique(self) -> str:
        """``oars``."""
        return "oars"

    @property
    def access(self) -> Access:
        """It is shown scores."""
        return Access.SCORES

    def search(self, search: BlackBoxSearch, x: Tensor, y: Tensor) -> Ascent:
        """The search on every row, one after the other."""
        return oars(search, x, y, queries=self.queries)


def oars(
    search: BlackBoxSearch, x: Tensor, y: Tensor, *, queries: int = 1000, foresee: Foresee | None = None
) -> Ascent:
    """Search from rows `x (n, *shape)` answered with `y (n,)`, at most `queries` questions each; a refusal counts.

    A row wins, and is done, when a candidate is answered as a success; one that never does keeps its latest.
    Where scores are hidden success takes their place.
    """
    found = Ascent.nothing(x)
    if search.ball.empty or queries < 1:
        return found
    for row in range(len(x)):
        mine = _RowSearch(search, x[row : row + 1], y[row : row + 1], queries, foresee)
        mine.run()
        found.adversarial[row], found.won[row] = mine.candidate[0], mine.won
        found.value[row] = mine.value
        found.queries += mine.asked
    return found


class _RowSearch:
    """One row: what noise was answered how, the candidate it points to, and the strength of noise in radii."""

    def __init__(self, search: BlackBoxSearch, x: Tensor, y: Tensor, queries: int, foresee: Foresee | None) -> None:
        self._search, self._x, self._y, self._queries, self._foresee = search, x, y, queries, foresee
        self._ball, self._generator = search.ball, search.generator
        self._changes: list[Tensor] = []
        self._values: list[float] = []
        self._strength = 1.0
        self.candidate, self.value, self.won, self.asked = x.clone(), -torch.inf, False, 0

    def run(self) -> None:
        """Ask about noise, and every so often about the candidate."""
        refused = 0
        while self._left and not self.won:
            refused = 0 if self._probe(self._strength) else refused + 1
            if refused == PATIENCE:
                before, refused = self.asked, 0
                self._strength = self._bisected()
                if self.asked == before:
                    break  # whatever could be asked is foreseen to fail
            elif not refused and len(self._values) % EVERY == 0:
                self._step()

    @property
    def _left(self) -> int:
        return self._queries - self.asked

    def _bisected(self) -> float:
        """The least strength, from the present one, at which at least half of the noise passes."""
        low, high = self._strength, STRONGEST
        for _ in range(_BISECTIONS):
            middle = float((low * high) ** 0.5)
            passed = sum(self._probe(middle) for _ in range(_PROBES))
            low, high = (low, middle) if passed >= _PROBES / 2 else (middle, high)
        return high

    def _probe(self, strength: float) -> bool:
        """Ask about noise of this strength, if any is foreseen to pass; whether it was answered."""
        for _ in range(TRIES):
            point = self._ball.usable(self._ball.clip(self._x + strength * self._noise()), self._x)
            if self._foresee is None or not self._foresee(point):
                break
        else:
            return False
        value, answered, _ = self._answer(point)
        if answered:
            self._changes.append(point - self._x)
            self._values.append(value)
        return answered

    def _step(self) -> None:
        """Take the point a radius away in the direction that all answers so far point to, and ask if that is wise."""
        values = torch.tensor(self._values, device=self._x.device)
        weights = (values - values.mean()).view(-1, *[1] * (self._x.ndim - 1))
        slope = (weights * torch.cat(self._changes)).mean(dim=0, keepdim=True)
        self.candidate = self._ball.usable(self._ball.clip(self._x + self._ball.step(slope)), self._x)
        if self._foresee is not None and self._foresee(self.candidate):
            return
        self.value, _, self.won = self._answer(self.candidate)

    def _answer(self, point: Tensor) -> tuple[float, bool, bool]:
        """How near the answer is to a success, whether there is one (not where nothing is left to ask), and success."""
        if self._left < 1:
            return -torch.inf, False, False
        self.asked += 1
        scores, decided = self._search.ask(point)
        value, answered = float(self._search.criterion.margin(scores, self._y)[0]), int(decided[0]) >= 0
        won = bool(self._search.criterion.answered(scores, decided, self._y)[0])
        if answered and value != value:  # hidden
            value = 1.0 if won else -1.0
        return value, answered, won

    def _noise(self) -> Tensor:
        shape = tuple(self._x.shape)
        if len(shape) != 4:
            return self._ball.surface(shape, self._generator)
        cells = tuple(min(CELLS, side) for side in shape[2:])
        blocks = torch.randint(0, 2, (*shape[:2], *cells), generator=self._generator).float() * 2 - 1
        return self._ball.step(F.interpolate(blocks.to(self._x.device), size=shape[2:]))
