"""What commissioning says of a batch: notes in words, and when a batch counts as strange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medward.guard.commissioning.exceedance import corrected_p_value, exceedance_p_value
from medward.guard.types import Array

STRANGE_BATCH = 1e-3
"""P(an ordinary batch is said anything of): rows exchangeable with the calibration's, all tests together."""
ORDINARY_BATCH = 0.05
"""The same tests must find nothing at this level once a mistake is undone, or it does not explain the batch."""
PAIRED = 0.05
"""How likely chance may make so many rows less strange, of those that a mistake is said of."""
FEWEST_COMPARED = 5

StrangenessOf = Callable[[Array], Array]
"""How strange inputs look to the screens, ``(n,)``, by way of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommissioningNote:
    """A note says of how many rows of how many that they look like `word`, in `words` to a person.

    `explained` says that undoing that made them ordinary; without it the note tells what differs, and not why. `others`
    are words that explain nearly as much.
    """

    word: str
    words: str
    rows: int
    of: int
    kind: str
    explained: bool
    others: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The note as a sentence."""
        rows = self.kind if self.of == 1 else f"{self.kind}s"
        if not self.explained:
            return f"of {self.of} {rows}, {self.rows} {self.words}"
        return f"{self.rows} of {self.of} {rows} {'looks' if self.rows == 1 else 'look'} {self.words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTests:
    """The tests of a batch: what each found, as a p-value, by the name of what it looked at."""

    p_values: Mapping[str, float]

    @property
    def strange(self) -> bool:
        """Whether the batch is strange."""
        return corrected_p_value(self.p_values.values(), len(self.p_values)) <= STRANGE_BATCH

    @property
    def ordinary(self) -> bool:
        """Whether the tests find nothing."""
        return corrected_p_value(self.p_values.values(), len(self.p_values)) > ORDINARY_BATCH

    @property
    def found(self) -> tuple[str, ...]:
        """What the strange batch is strange in, the clearest first."""
        own = sorted(self.p_values.items(), key=lambda each: each[1])
        return tuple(name for name, p in own if p * len(own) <= STRANGE_BATCH)


def both_sides(name: str, batch: Array, benign: Array) -> dict[str, float]:
    """Two tests: whether a batch lies above the ascending `benign` values, and whether below them."""
    return {
        f"{name} above": exceedance_p_value(batch, benign),
        f"{name} below": exceedance_p_value(-batch, -benign[::-1]),
    }
