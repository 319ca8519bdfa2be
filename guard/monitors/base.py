"""What a monitor is: a row of the table `guard.monitors.table.MONITORS`, made in one file of pure functions.

Calibration fits something to benign rows (`Fitted`), kept in ``profile.npz``. Each batch is seen through it once, and
every monitor takes its column of what was seen: a value a row, or a vector. Each account then bets on these (`Bet`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from medward.guard.policy import MonitorPolicy, Policy
from medward.guard.screens.fused import FusedScreen
from medward.guard.statistics.combined_eprocess import Part
from medward.guard.types import Array, Ints, Outputs

SCREEN = "screen"
"""The source that the screens of single inputs are."""
CONTENT_CODES = "codes"
"""The key of the content codes of images beside what the monitors see."""
ANSWER_MARKS = "answers"
"""The key of the numbers by which answers are told apart (`guard.monitors.repeats`), where the task knows a border."""
RATIO = 3.0  # at drift 1 a kind of input may be 1 + RATIO times as frequent as in the calibration data

Observations = Mapping[str, Any]
"""By monitor what it sees of a batch, row by row: vectors, p-values or cells. One that is off or failed is missing.

Also the `CONTENT_CODES` of images, the `ANSWER_MARKS` and strangeness of the rows, and their stratum where the profile
has strata.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenignRows:
    """Benign rows are what monitors are calibrated on: `fit` to fit to, `reference` to take thresholds from.

    The `reference` rows take no part in any fit; ``strata (n,)`` are theirs. `screen` is fitted to the rows `fit`.
    `marked` are the rows `fit` as hospitals mark them (`guard.screens.markings`), None where that can't be.
    `seed` makes secret maps: whoever knows it can hide from them.
    """

    fit: tuple[Array, Outputs]
    reference: tuple[Array, Outputs]
    strata: Ints
    screen: FusedScreen
    seed: int
    marked: tuple[Array, Outputs] | None = None


class Fitted(Protocol):
    """What calibration learned for one monitor, or for several that share it."""

    def see(self, inputs: Array, outputs: Outputs) -> Any:
        """What monitors take of a batch; a row's is the same whatever rows are beside it."""
        ...

    def at_risk(self, risk: float, strata: int) -> Self:
        """The same, with thresholds for another part of the calibration risk and so many strata."""
        ...

    def arrays(self) -> Mapping[str, Any]:
        """What was fitted, by name, for the monitor to `read` back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BetSettings:
    """Bet settings are what a policy leaves to one monitor of one path of accounts.

    `risk` is its part of delta, `strata` how many there are, `longest` how many accounts a path has at most. `drift`
    and `contamination` are the policy's.
    """

    risk: float
    drift: float
    contamination: float
    strata: int = 1
    longest: int = 1

    @property
    def ratio(self) -> float:
        """How many times as frequent as in the calibration data a kind of benign input may be."""
        return 1 + RATIO * self.drift

    @classmethod
    def under(cls, policy: MonitorPolicy, share: float, *, strata: int, longest: int) -> BetSettings:
        """The settings of a monitor with `share` of the calibration risk."""
        risk = share * policy.calibration_risk
        return cls(risk=risk, drift=policy.drift, contamination=policy.contamination, strata=strata, longest=longest)


class Bet(Protocol):
    """How one account bets: what it makes of what a monitor sees, and the e-process that takes it."""

    @property
    def part(self) -> Part:
        """The e-process, named as the monitor."""
        ...

    @property
    def repeats(self) -> tuple[str, ...]:
        """Which repeats ("exact", "near") count as unremarkable."""
        ...

    @property
    def repeat_radius(self) -> int:
        """In how many bits the codes of an image and of one that repeats it differ at most; 0 where it knows none."""
        ...

    def values(
        self, state: Any, column: Sequence[Any], codes: Sequence[str], strata: Sequence[int]
    ) -> tuple[Any, list[float]]:
        """The account's own state after a batch, None where it needs none, and what is bet on, row by row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainBet:
    """A plain bet is on what is seen, as it is; the account keeps nothing but its wealth."""

    part: Part
    repeats: tuple[str, ...] = ("exact", "near")
    repeat_radius: int = 0

    def values(
        self,
        state: Any,  # noqa: ARG002 (as every bet)
        column: Sequence[Any],
        codes: Sequence[str],  # noqa: ARG002
        strata: Sequence[int],  # noqa: ARG002
    ) -> tuple[Any, list[float]]:
        """The column as numbers."""
        return None, list(map(float, column))


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """A monitor is a row of the table: its name and share, and the functions that fit, read, see and bet.

    `share` is how much of the capital and of the calibration risk it has beside the others. `fit` learns from benign
    rows, None where the model has nothing to watch; `read` makes the same of arrays named `prefix` + their own name in
    a profile, None where there are none. Monitors of one `source` share what is fitted, which the first of them fits,
    and a failure is reported under that name. `observe` takes its column from what was seen.
    `bet` is how an account bets. `asked` says whether a policy wants it; `switch` is the key that says so, if any: with
    it on, a profile that lacks what is fitted is refused.
    """

    name: str
    share: float
    source: str
    fit: Callable[[BenignRows], Fitted | None]
    read: Callable[[Mapping[str, Any]], Fitted | None]
    observe: Callable[[Any, Any, Policy], Observations]
    bet: Callable[[Any, BetSettings], Bet]
    prefix: str = ""
    switch: str = ""
    asked: Callable[[Policy], bool] = lambda _policy: True
