"""What an audit log says of each client of a federation: when it was taken, suspected or refused, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.federated.robust_feddetect import Suspicion
from medward.guard.federated.round_record import ROUND_EVENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRound:
    """A client round says what one round's record says of one client; None where it says nothing.

    `weight` is its share of the round's aggregate, `trust` what the detector left of its weight. `spared` is set where
    it was as suspicious as others that were flagged, `epsilon` is what the client says its training has spent.
    """

    round: int
    weight: float | None = None
    trust: float | None = None
    suspicion: Suspicion | None = None
    spared: Suspicion | None = None
    refusal: str | None = None
    epsilon: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHistory:
    """A client history holds the rounds in which one client sent something, in the log's order."""

    node: str
    rounds: tuple[ClientRound, ...]

    @property
    def suspected(self) -> tuple[ClientRound, ...]:
        """The rounds in which it was flagged."""
        return tuple(each for each in self.rounds if each.suspicion is not None)

    @property
    def refused(self) -> tuple[ClientRound, ...]:
        """The rounds in which its update was refused."""
        return tuple(each for each in self.rounds if each.refusal is not None)

    @property
    def weight(self) -> float | None:
        """Its share of the last aggregate that its update was admitted to; None where it never was."""
        return next((each.weight for each in reversed(self.rounds) if each.weight is not None), None)

    @property
    def epsilon(self) -> float | None:
        """What it last said that its training has spent; None where it never did."""
        return next((each.epsilon for each in reversed(self.rounds) if each.epsilon is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationHistory:
    """A federation history holds each client's, how many rounds there were, and what was not guarded in how many.

    `repeated` counts rounds whose number had been there before: a server that was started again.
    """

    clients: Mapping[str, ClientHistory]
    rounds: int
    last: int
    repeated: int
    unprotected: Mapping[str, int] = field(default_factory=dict)


def federation_history(records: Iterable[Mapping[str, Any]], source: str) -> FederationHistory:
    """The history that the records of the log called `source` tell; records of other events are passed over.

    Raises `MedwardError` where no record is of a federated round, `IntegrityError` where one cannot be read as such.
    """
    clients: dict[str, list[ClientRound]] = {}
    unprotected: dict[str, int] = {}
    numbers: list[int] = []
    seen = 0
    for record in records:
        seen += 1
        if record.get("event") != ROUND_EVENT:
            continue
        try:
            numbers.append(int(record["round"]))
            for node, each in _client_rounds(record).items():
                clients.setdefault(node, []).append(each)
            for sentence in record["unprotected"]:
                unprotected[sentence] = unprotected.get(sentence, 0) + 1
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(
                f"{source}: record {record.get('seq')} is no record of a federated round: {error!r}"
            ) from None
    if not numbers:
        raise MedwardError(
            f"{source}: none of its {seen} records is of a federated round; give the log of a federation's server"
        )
    return FederationHistory(
        clients={node: ClientHistory(node=node, rounds=tuple(rounds)) for node, rounds in clients.items()},
        rounds=len(numbers),
        last=numbers[-1],
        repeated=len(numbers) - len(set(numbers)),
        unprotected=unprotected,
    )


def _client_rounds(record: Mapping[str, Any]) -> dict[str, ClientRound]:
    suspects, spared = ({each["node"]: _suspicion(each) for each in record[name]} for name in ("suspects", "spared"))
    refusals: dict[str, str] = {}
    for each in record["refusals"]:
        refusals[each["node"]] = "; ".join(filter(None, (refusals.get(each["node"]), each["reason"])))
    nodes = dict.fromkeys([*record["weights"], *record["trust"], *suspects, *spared, *refusals])
    return {
        node: ClientRound(
            round=int(record["round"]),
            weight=_number(record["weights"].get(node)),
            trust=_number(record["trust"].get(node)),
            suspicion=suspects.get(node),
            spared=spared.get(node),
            refusal=refusals.get(node),
            epsilon=_number(record["epsilons"].get(node)),
        )
        for node in nodes
    }


def _number(said: float | None) -> float | None:
    return None if said is None else float(said)


def _suspicion(said: Mapping[str, Any]) -> Suspicion:
    return Suspicion(
        node=str(said["node"]), view=str(said["view"]), peak=float(said["peak"]), threshold=float(said["threshold"])
    )
