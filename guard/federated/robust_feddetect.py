"""RobustFedDetect: weights fall for clients that keep differing where chance would not, and rise again when they stop.

FedDetect flags whoever is an outlier this round, believes what a client says of its own loss, and never forgives.
Here the server looks for itself (`image_evidence`, `update_evidence`), averages what each client differs by over
rounds (`standing`), and flags it by an absolute threshold: without an attacker nobody has to be an outlier. Chance
averages out; a poisoned client's difference does not, for its purpose is to move the model. What clients say of their
losses is one view among others, and only a large loss counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.standing import Standing, stand
from medward.guard.types import Array

_LEAST_ROUNDS = 3  # of its warm-up in which a client was seen before it is flagged
_LOST = 0.5  # trust below which a client counts as distrusted

ClientViews = Mapping[str, Array]
"""What one client differs by from the others, a vector for each view; 1 is about the most that is ordinary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecord:
    """A client's record: its standing in each view, how many flags still count, and the rounds it was seen in."""

    standings: Mapping[str, Standing] = field(default_factory=dict)
    flags: float = 0.0
    rounds: int = 0

    @property
    def peak(self) -> tuple[str, float]:
        """The view in which it stands out most, and its peak there."""
        return max(((view, each.peak) for view, each in self.standings.items()), key=lambda each: each[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A suspicion says which view a client was flagged by, its peak there, and what is ordinary at most."""

    node: str
    view: str
    peak: float
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientJudgement:
    """A judgement holds the share of its weight that each client keeps, and why some keep less.

    `spared` were as suspicious, and were left alone because more than `most_suspects` would have been distrusted.
    `peaks` are the view in which each client stands out most, and how much; `young` are those still in their warm-up.
    """

    trust: Mapping[str, float]
    suspects: tuple[Suspicion, ...] = ()
    spared: tuple[Suspicion, ...] = ()
    peaks: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    young: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustFedDetect:
    """RobustFedDetect multiplies a client's weight by `decay` to the power c (c + 1) / 2, c being its flags that count.

    A client is flagged in a round when its standing difference peaks above `threshold` in some view, and above `beyond`
    times the median client's peak, for where all differ much nobody is told. What came before counts `memory` times as
    much each round. In its first `warm_up` rounds a client is flagged above `early` times the threshold only, from the
    third on, for young models differ by chance; what it differed by then is forgotten afterwards.

    Flags fade by `forgiving` a round, so that who stops is trusted again; below `floor` a client counts nothing, and is
    still looked at. At most `most_suspects` of a round's clients are flagged, those with the highest peaks, and fewer
    while others have lost half of their trust.
    """

    warm_up: int = 8
    early: float = 2.5
    threshold: float = 1.0
    beyond: float = 2.0
    memory: float = 0.85
    decay: float = 0.5
    forgiving: float = 0.9
    floor: float = 0.01
    most_suspects: float = 0.45

    def __post_init__(self) -> None:
        for name in ("memory", "decay", "forgiving", "most_suspects"):
            if not 0 < getattr(self, name) < 1:
                raise MedwardError(f"{name}: must be above 0 and below 1, got {getattr(self, name):g}")
        if not 0 <= self.floor < 1 or self.threshold <= 0 or min(self.beyond, self.early, self.warm_up) < 1:
            raise MedwardError(
                f"floor must be in [0, 1), threshold above 0, beyond, early and warm-up 1 or more; got {self.floor:g}, "
                f"{self.threshold:g}, {self.beyond:g}, {self.early:g}, {self.warm_up}"
            )

    def judge(
        self, records: Mapping[str, ClientRecord], evidence: Mapping[str, ClientViews]
    ) -> tuple[dict[str, ClientRecord], ClientJudgement]:
        """The records after a round in which the server saw `evidence`, and its judgement of the clients in it.

        Clients that were absent keep their records. Raises `MedwardError` where two clients are seen in unlike views.
        """
        _check_views(evidence)
        seen = {node: self._seen(records.get(node, ClientRecord()), evidence[node]) for node in evidence}
        ordinary = self.beyond * float(np.median([record.peak[1] for record in seen.values()]))
        found = sorted(
            (_suspicion(node, record, max(self._threshold(record.rounds), ordinary)) for node, record in seen.items()),
            key=lambda each: -each.peak,
        )
        above = [each for each in found if each.peak > each.threshold]
        room = self._room(seen, {each.node for each in above})
        suspects, spared = tuple(above[:room]), tuple(above[room:])
        flagged = {each.node for each in suspects}
        after = {
            node: replace(record, flags=self.forgiving * record.flags + (node in flagged))
            for node, record in seen.items()
        }
        return {**records, **after}, ClientJudgement(
            trust={node: self.trust(record.flags) for node, record in after.items()},
            suspects=suspects,
            spared=spared,
            peaks={node: record.peak for node, record in seen.items()},
            young=tuple(node for node, record in seen.items() if record.rounds <= self.warm_up),
        )

    def trust(self, flags: float) -> float:
        """The share of its weight that a client with so many flags keeps; nothing below the floor."""
        kept = float(self.decay ** (flags * (flags + 1) / 2))
        return kept if kept >= self.floor else 0.0

    def _seen(self, record: ClientRecord, away: ClientViews) -> ClientRecord:
        before = {} if record.rounds == self.warm_up else record.standings
        standings = {view: stand(before.get(view), each, self.memory) for view, each in away.items()}
        return ClientRecord(standings=standings, flags=record.flags, rounds=record.rounds + 1)

    def _threshold(self, rounds: int) -> float:
        """What a client seen in so many rounds is flagged above."""
        if rounds > self.warm_up:
            return self.threshold
        return self.threshold * self.early if rounds >= _LEAST_ROUNDS else float("inf")

    def _room(self, seen: Mapping[str, ClientRecord], above: Collection[str]) -> int:
        """How many may be flagged, so that malicious clients cannot first be distrusted and then have others follow."""
        lost = sum(self.trust(record.flags) < _LOST for node, record in seen.items() if node not in above)
        return max(0, int(self.most_suspects * len(seen)) - lost)


def _suspicion(node: str, record: ClientRecord, threshold: float) -> Suspicion:
    view, peak = record.peak
    return Suspicion(node=node, view=view, peak=peak, threshold=threshold)


def _check_views(evidence: Mapping[str, ClientViews]) -> None:
    names = {tuple(sorted(views)) for views in evidence.values()}
    if len(names) != 1 or not next(iter(names)):
        raise MedwardError(f"evidence: every client is seen in the same views, one at least; got {sorted(names)}")


def records_to_json(records: Mapping[str, ClientRecord]) -> dict[str, Any]:
    """The records as JSON has them."""
    return {
        node: {
            "flags": record.flags,
            "rounds": record.rounds,
            "standings": {view: [each.values.tolist(), each.weight] for view, each in record.standings.items()},
        }
        for node, record in records.items()
    }


def records_from_json(kept: Mapping[str, Any]) -> dict[str, ClientRecord]:
    """The records that `records_to_json` wrote."""
    return {
        node: ClientRecord(
            flags=float(record["flags"]),
            rounds=int(record["rounds"]),
            standings={
                view: Standing(np.asarray(values, np.float64), float(weight))
                for view, (values, weight) in record["standings"].items()
            },
        )
        for node, record in kept.items()
    }
