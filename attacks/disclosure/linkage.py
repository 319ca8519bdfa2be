"""Linkage: records without names are matched with a register that has them, by what both still say.

Reference: Sweeney, "Simple demographics often identify people uniquely", 2000; Rocher, Hendrickx and de Montjoye,
"Estimating the success of re-identifications in incomplete datasets", Nature Communications 2019.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medward.attacks.intervals import Interval, clopper_pearson
from medward.guard.errors import MedwardError

Record = Mapping[str, Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linkage:
    """A linkage is what an attacker finds who names a person where exactly one fits: the share of records `named`, and
    the share named `rightly`; `baseline` is that share where the register's columns say nothing of each other.
    """

    named: Interval
    rightly: Interval
    baseline: Interval
    by: tuple[str, ...]


def link_records(
    released: Sequence[Record],
    whose: Sequence[Hashable],
    register: Sequence[Record],
    names: Sequence[Hashable],
    by: Sequence[str],
    *,
    seed: int = 0,
) -> Linkage:
    """Match each released record with the `register` (m,) of `names` (m,) on the quasi-identifiers `by`.

    `whose` (n,) says who each record really is of. A person fits who has an entry with the same values. Raises
    `MedwardError` without records, and for a quasi-identifier that one side lacks.
    """
    if not released or not register or len(released) != len(whose) or len(register) != len(names):
        raise MedwardError(
            f"linkage: needs records with owners on both sides, got {len(released)} of {len(whose)} and "
            f"{len(register)} of {len(names)}"
        )
    missing = [key for key in by if any(key not in record for record in (*released, *register))]
    if not by or missing:
        raise MedwardError(f"linkage: needs quasi-identifiers that all records have; {missing or 'none was'} given")
    found = _named(released, register, names, by)
    shuffled = _named(released, _independent(register, by, seed), names, by)
    return Linkage(
        named=clopper_pearson(sum(each is not None for each in found), len(found)),
        rightly=_rightly(found, whose),
        baseline=_rightly(shuffled, whose),
        by=tuple(by),
    )


def _named(
    released: Sequence[Record], register: Sequence[Record], names: Sequence[Hashable], by: Sequence[str]
) -> list[Hashable | None]:
    """Who each record is said to be of; None where nobody or more than one person fits."""
    fitting: dict[tuple[Hashable, ...], set[Hashable]] = defaultdict(set)
    for entry, name in zip(register, names, strict=True):
        fitting[tuple(entry[key] for key in by)].add(name)
    people = [fitting.get(tuple(record[key] for key in by), set()) for record in released]
    return [next(iter(each)) if len(each) == 1 else None for each in people]


def _rightly(found: Sequence[Hashable | None], whose: Sequence[Hashable]) -> Interval:
    return clopper_pearson(sum(said == true for said, true in zip(found, whose, strict=True)), len(found))


def _independent(register: Sequence[Record], by: Sequence[str], seed: int) -> list[Record]:
    """The register with each column shuffled by itself."""
    rng = np.random.default_rng(seed)
    columns = {key: [register[place][key] for place in rng.permutation(len(register))] for key in by}
    return [{key: columns[key][place] for key in by} for place in range(len(register))]
