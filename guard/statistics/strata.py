"""Strata: the classes that are rare in benign inputs, each judged beside its own calibration rows too.

A laboratory that sends platelets only is no thief. What it sends is as benign platelets are, but beside all benign
inputs they are strange together: all of one kind, and often a little odd. So an input of a rare class (by the model's
decision) is ranked among that class alone, which is exact (`guard.statistics.rank_eprocess`), bettors on p-values stake
more where the class is strange more often than all inputs are (`guard.statistics.eprocess`), a direction's cuts are
raised to those of the class (`guard.monitors.shared_perturbation`), and a region's bound is that of the class where it
is likeliest (`guard.monitors.coverage`).

Guarantee, of all but ranks. All that only lowers what a query pays, so the bound on false alarms of i.i.d. benign
accounts stands as it is, whatever the classes, and so it does while an attacker chooses the class of what it asks. For
an account that asks about one rare class, or mixes classes in any way, each benign in itself, an event that is taken to
have level l in a class has probability at most l / `CAUTION` there (ordinary conformal p-values within classes). That
holds on average over calibration draws and not, as for i.i.d. accounts, for all but delta of them: a rare class has too
few rows for that, and a part that waited for them would be blind to whatever the model takes for that class. For the
same reason a level that a class has too few rows for is held to what its rows can show and not left out. How often such
accounts alarm is measured (`specialist_accounts_withheld`).

A class is rare below `RARE_SHARE`; above it what is forgiven as drift, and how conservative the bounds are, was enough
on every data set tried. Classes with too few rows for a level of `LARGEST` are judged with the next rarest; where all
rare ones together have too few, beside all rows only: they are no hole, and a clinic of such a class may be noticed.

Reference: Vovk, Lindsay, Nouretdinov, Gammerman, "Mondrian confidence machine", Royal Holloway 2003 (conformal
prediction within categories).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medward.guard.statistics.conformal import LARGEST, rank_within
from medward.guard.types import Ints, Outputs

RARE_SHARE = 0.25  # of the calibration rows
STRATA_PARTS = ("members",)
STRATUM = "stratum"
"""The key of the rows' strata beside what the parts see."""


def decided_classes(outputs: Outputs) -> Ints:
    """The class ``(n,)`` that the model decides for each row."""
    return np.asarray(np.argmax(outputs.scores, axis=1))


@dataclass(frozen=True, slots=True)
class Strata:
    """The stratum of every class, ``members (K,)``: 0 for what is judged beside all rows only, else 1, 2, ..."""

    members: Ints

    @classmethod
    def fit(cls, classes: Ints, count: int) -> Strata | None:
        """Strata of `count` classes from the decisions on calibration rows `classes (n,)`; None where none is rare."""
        rows, members = np.bincount(classes, minlength=count), np.zeros(count, np.int64)
        rare = [each for each in np.argsort(rows, kind="stable") if rows[each] < RARE_SHARE * len(classes)]
        together: list[int] = []
        for each in rare:
            together.append(each)
            if rank_within(int(rows[together].sum()), LARGEST):
                members[together] = members.max() + 1
                together = []
        return cls(members) if members.any() else None

    @property
    def count(self) -> int:
        """How many there are, stratum 0 included."""
        return int(self.members.max()) + 1

    def of(self, outputs: Outputs) -> Ints:
        """The stratum ``(n,)`` of each row."""
        return np.asarray(self.members[decided_classes(outputs)])

    def arrays(self) -> dict[str, Ints]:
        """What was fitted, by name."""
        return {part: getattr(self, part) for part in STRATA_PARTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Ints]) -> Strata:
        """Read back what `arrays` gave."""
        return cls(**{part: arrays[part] for part in STRATA_PARTS})
