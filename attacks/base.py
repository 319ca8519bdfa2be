"""The attack contracts: what the attacker may do, what it holds, what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medward.attacks.target import Oracle, Target
from medward.attacks.threat import Access, ThreatModel
from medward.guard.certify.certifier import Certifier
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.types import Array, Ints

__all__ = [
    "ACCURACY",
    "LABEL_F1",
    "PER_CLASS",
    "TABULATED",
    "Access",
    "Attack",
    "AttackData",
    "AttackResult",
    "Attempt",
    "Examination",
    "ThreatModel",
]

PER_CLASS = " to class "
"""In the name of a curve: what one class of many attains at full size, at its last point."""
ACCURACY = ", accuracy"
"""Ends the name of a curve of accuracy on true labels, which stands beside one of agreement and is not drawn."""
TABULATED = ", tabulated"
"""Ends the name of a curve of what is judged or told in words, which is not drawn."""
LABEL_F1 = ", label F1"
"""In the name of a curve of how well findings are named, which stands beside one of agreement and is not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """An examination is a model made by the examiner, of which it is known beforehand what an attack must find.

    `prepare` makes it: how it answers, and what attackers of it hold.
    """

    name: str
    prepare: Callable[[], tuple[Oracle, AttackData]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackData:
    """What the attacker holds and what it is judged on; the two never share a row.

    `craft`: labelled rows for building an attack. `test`: held-out rows it is judged on. `pool`: the thief's
    unlabelled public inputs. `members`/`nonmembers`: candidates, one half each of a coin flip made before
    training; `shadow`: rows from the same source that are neither. `reference`: the undefended model's
    decisions ``(n,)`` on `test`, and `outputs` what it decided them by, for judging only; no attack learns from
    them. `flags` say why what is measured on these rows cannot be trusted, if so, and `notes` in sentences what else a
    reader must know of them. `shortages` say, before anything is run, of which rows there are too few for the bound.
    `examinations` show whether an attack finds what there is, and nothing else; so does `control`, which gives the
    attack that is run besides on the bare model, if the result of the last one there says too little, after how many.
    `certifier` is what certifies the deployment's answers, and `certified_radius (n,)` how far answers on `test` are
    certified, in its units, None where nothing may be concluded from that; for judging only.
    """

    craft: Split
    test: Split
    pool: Array | None = None
    members: Split | None = None
    nonmembers: Split | None = None
    shadow: Split | None = None
    reference: Ints | None = None
    outputs: Array | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shortages: tuple[str, ...] = ()
    examinations: tuple[Examination, ...] = ()
    control: Callable[[Attack, AttackResult, int], Attack | None] | None = None
    certifier: Certifier | None = None
    certified_radius: Array | None = None


def without_proofs(data: AttackData, contradicted: Sequence[str]) -> AttackData:
    """The same data where attacks `contradicted` what certificates prove: nothing follows from them for any other."""
    said = f"Nothing is held by proof: {', '.join(contradicted)} contradicted the bounds."
    return replace(data, certifier=None, certified_radius=None, notes=(*data.notes, said))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An evasion attack within one radius, judged on all of its rows.

    `fooled (n,)` are the rows whose decision changed, `noisy (n,)` those that random noise of that radius changed,
    `decided (n,)` the classes the rows were decided as before, `classes (n,)` those that they count in where shares are
    balanced (see `attacks.evasion.fooled_share`), None of a model without classes. `refused (n,)` are the rows not
    fooled that were refused under attack, None where nobody counted; `denied (n,)` those that were certified and are
    not under attack, None where nobody certifies. `changed (n,)` are the rows whose answer changed, certified or not,
    and `certified (n,)` those that were certified before. Attempts of a targeted attack may differ in their rows: those
    of the class it aims at are left out.
    """

    radius: float
    fooled: NDArray[np.bool_]
    noisy: NDArray[np.bool_]
    decided: Ints
    classes: Ints | None = None
    refused: NDArray[np.bool_] | None = None
    denied: NDArray[np.bool_] | None = None
    changed: NDArray[np.bool_] | None = None
    certified: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackResult:
    """An attack result holds what came of one run.

    `outcome (n,)` is per row: evasion, was this held-out row fooled; extraction, does the clone agree with the
    model on it; membership, the score of each candidate (larger says member), with `truth (n,)` the members.
    `baseline` is the same quantity without the attack (random noise of the same norm; a no-victim clone; the scores of
    a guesser who sees candidates and not the model). `without_target` are a membership attack's scores of its shadows
    or references alone; `groups (n,)` say which candidates are one patient's. `judged (n,)` are the places in "test" of
    the rows of `outcome`, where an attack knows them and they are not all.
    `contradictions` counts answers that left as certified and were not the model's own on the row they were made of.
    `ways` are, of an attack that tries several, the shares of rows that each won first.
    `attempts` are what evasion is judged by, one for each radius that the attacker chose one change for; `outcome` and
    `baseline` are then those of the attempt that fooled most. `curves` maps a name to (x, y) points for the report,
    `images` a name to an array worth looking at.
    """

    outcome: NDArray[np.generic]
    baseline: NDArray[np.generic] | None = None
    truth: NDArray[np.bool_] | None = None
    without_target: Array | None = None
    groups: Ints | None = None
    judged: Ints | None = None
    attempts: tuple[Attempt, ...] = ()
    ways: Mapping[str, float] = field(default_factory=dict)
    contradictions: int = 0
    queries: int = 0
    gradients: int = 0
    flags: tuple[str, ...] = ()
    curves: Mapping[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    images: Mapping[str, Array] = field(default_factory=dict)


class Attack(Protocol):
    """One technique. Settings live in the object; `run` gives the same result for the same seed."""

    @property
    def name(self) -> str:
        """What reports, journals and ``--attacks`` call it."""
        ...

    @property
    def family(self) -> str:
        """What is lost when it succeeds: the name of a family in `attacks.families`."""
        ...

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may do."""
        ...

    def adaptive(self, policy: Policy) -> Attack | None:
        """The same attacker, who knows the guard and its `policy`; None if there is none, and then nothing is HELD."""
        ...

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Attack `target`; one outcome per row or per candidate."""
        ...
