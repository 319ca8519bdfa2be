"""RobustFedDetect: weights fall for clients that keep differing where chance would not, and rise again when they stop.

FedDetect flags whoever is an outlier this round, believes what a client says of its own loss, and never forgives.
Here the server looks for itself (`image_evidence`, `update_evidence`), averages what each client differs by over
rounds (`standing`), and flags it by an absolute threshold: without an attacker nobody has to be an outlier. Chance
averages out; a poisoned client's difference does not, for its purpose is to move the model. What clients say of their
losses is one view among others, and only a large loss counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.standing import Standing, stand
from medward.guard.types import Array

ClientViews = Mapping[str, Array]
"""What one client differs by from the others, a vector for each view; 1 is about the most that is ordinary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecord:
    """A client's record: its standing in each view, how many flags still count, and the rounds it was seen in."""

    standings: Mapping[str, Standing] = field(default_factory=dict)
    flags: float = 0.0
    rounds: int = 0

    @property
    def peak(self) -> tuple[float, str]:
        """The highest peak of its standings, and in which view; 0 before it has any."""
        return max(((each.peak, view) for view, each in self.standings.items()), default=(0.0, ""))


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

    `spared` were as suspicious, and were left alone because more than `most_suspects` would have been flagged.
    """

    trust: Mapping[str, float]
    suspects: tuple[Suspicion, ...] = ()
    spared: tuple[Suspicion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustFedDetect:
    """RobustFedDetect multiplies a client's weight by `decay` to the power c (c + 1) / 2, c being its flags that count.

    A client is flagged in a round when its standing difference peaks above `threshold` in some view, and above `beyond`
    times the median client's peak, for where all differ much nobody is told. Rounds count from `warm_up` rounds of
    its own on, for young models differ by chance, and what came before counts `memory` times as much each round.
    Flags fade by `forgiving` a round, so that who stops is trusted again; below `floor` a client counts nothing, and
    is still looked at. At most `most_suspects` of a round's clients are flagged, those with the highest peaks.
    """

    warm_up: int = 8
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
        if not 0 <= self.floor < 1 or self.threshold <= 0 or self.beyond < 1 or self.warm_up < 1:
            raise MedwardError(
                f"floor must be in [0, 1), threshold above 0, beyond and warm-up 1 or more; got {self.floor:g}, "
                f"{self.threshold:g}, {self.beyond:g}, {self.warm_up}"
            )

    def judge(
        self, records: Mapping[str, ClientRecord], evidence: Mapping[str, ClientViews]
    ) -> tuple[dict[str, ClientRecord], ClientJudgement]:
        """The records after a round in which the server saw `evidence`, and its judgement of the clients in it.

        Clients that were absent keep their records. Raises `MedwardError` where two clients are seen in unlike views.
        """
        _check_views(evidence)
        seen = {node: self._seen(records.get(node, ClientRecord()), evidence[node]) for node in evidence}
        ordinary = self.beyond * float(np.median([record.peak[0] for record in seen.values()]))
        threshold = max(self.threshold, ordinary)
        found = sorted(
            (_suspicion(node, record, threshold) for node, record in seen.items()), key=lambda each: -each.peak
        )
        above = [each for each in found if each.peak > each.threshold]
        most = int(self.most_suspects * len(evidence))
        suspects, spared = tuple(above[:most]), tuple(above[most:])
        flagged = {each.node for each in suspects}
        after = {
            node: ClientRecord(
                standings=record.standings,
                flags=self.forgiving * record.flags + (node in flagged),
                rounds=record.rounds,
            )
            for node, record in seen.items()
        }
        trust = {node: self.trust(record.flags) for node, record in after.items()}
        return {**records, **after}, ClientJudgement(trust=trust, suspects=suspects, spared=spared)

    def trust(self, flags: float) -> float:
        """The share of its weight that a client with so many flags keeps; nothing below the floor."""
        kept = float(self.decay ** (flags * (flags + 1) / 2))
        return kept if kept >= self.floor else 0.0

    def _seen(self, record: ClientRecord, away: ClientViews) -> ClientRecord:
        standings = dict(record.standings)
        if record.rounds >= self.warm_up:
            standings = {view: stand(record.standings.get(view), each, self.memory) for view, each in away.items()}
        return ClientRecord(standings=standings, flags=record.flags, rounds=record.rounds + 1)


def _suspicion(node: str, record: ClientRecord, threshold: float) -> Suspicion:
    peak, view = record.peak
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
