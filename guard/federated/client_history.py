"""What an audit log says of each client of a federation: when it was taken, suspected or refused, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.federated.robust_feddetect import Suspicion
from medward.guard.federated.round_record import ROUND_EVENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRound:
    """A client round says what one round's record says of one client; None where it says nothing.

    `weight` is its share of the round's aggregate, `length` how long its update came, in lengths of the median one,
    `trust` what the detector left of its weight, `peak` the view in which it stood out most, and how much. `spared` is
    set where it was as suspicious as others that were flagged, `epsilon` is what the client says its training spent.
    """

    round: int
    weight: float | None = None
    length: float | None = None
    trust: float | None = None
    peak: tuple[str, float] | None = None
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
    def longest(self) -> float | None:
        """The length of its longest update, in lengths of the round's median one; None where none was compared."""
        return max((each.length for each in self.rounds if each.length is not None), default=None)

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

    `repeated` counts rounds whose number had been there before: a server that was started again. `rules` says what
    aggregated in how many rounds, `unchanged` why the model stayed as it was in how many.
    """

    clients: Mapping[str, ClientHistory]
    rounds: int
    last: int
    repeated: int
    unprotected: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, int] = field(default_factory=dict)
    unchanged: Mapping[str, int] = field(default_factory=dict)


def federation_history(records: Iterable[Mapping[str, Any]], source: str) -> FederationHistory:
    """The history that the records of the log called `source` tell; records of other events are passed over.

    Raises `MedwardError` where no record is of a federated round, `IntegrityError` where one cannot be read as such.
    """
    clients: dict[str, list[ClientRound]] = {}
    unprotected: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    unchanged: Counter[str] = Counter()
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
            unprotected.update(map(str, record["unprotected"]))
            rules[str(record["rule"])] += 1
            if record["unchanged"] is not None:
                unchanged[str(record["unchanged"])] += 1
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
        rules=rules,
        unchanged=unchanged,
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
            length=_number(record["lengths"].get(node)),
            trust=_number(record["trust"].get(node)),
            peak=_peak(record["peaks"].get(node)),
            suspicion=suspects.get(node),
            spared=spared.get(node),
            refusal=refusals.get(node),
            epsilon=_number(record["epsilons"].get(node)),
        )
        for node in nodes
    }


def _peak(said: Sequence[Any] | None) -> tuple[str, float] | None:
    if said is None:
        return None
    view, peak = said
    return str(view), float(peak)


def _number(said: float | None) -> float | None:
    return None if said is None else float(said)


def _suspicion(said: Mapping[str, Any]) -> Suspicion:
    return Suspicion(
        node=str(said["node"]), view=str(said["view"]), peak=float(said["peak"]), threshold=float(said["threshold"])
    )
