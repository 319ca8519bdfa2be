"""A federation with malicious clients in it, round after round: what each learns, sends and says, and what the server
makes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from medward.attacks.benchmarks.generators.base import FederatedModel, Learned
from medward.attacks.poisoning.backdoor import Backdoor
from medward.attacks.poisoning.crafted import CraftedUpdate
from medward.attacks.poisoning.label_flip import LabelFlip
from medward.attacks.poisoning.scaled_replacement import ScaledReplacement
from medward.attacks.poisoning.triggers.base import Trigger
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import RoundResult
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.update import ClientUpdate, ModelParameters, is_learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Malice:
    """Malice is what a malicious client does from round `begin` on; before it behaves.

    Its rows: `trigger` marks all of them, `backdoor` some and relabels these, `label_flip` relabels without a mark.
    What it sends: `crafted` makes that from honest updates, `scaled` from its own. When it `lies`, it reports the
    median metrics of honest clients as its own; it says that it has `claimed` rows, where that is given. Raises
    `MedwardError` for more than one of either.
    """

    trigger: Trigger | None = None
    backdoor: Backdoor | None = None
    label_flip: LabelFlip | None = None
    crafted: CraftedUpdate | None = None
    scaled: ScaledReplacement | None = None
    lies: bool = False
    claimed: int | None = None
    begin: int = 1

    def __post_init__(self) -> None:
        for names in (("trigger", "backdoor", "label_flip"), ("crafted", "scaled")):
            given = [name for name in names if getattr(self, name) is not None]
            if len(given) > 1:
                raise MedwardError(f"malice: takes one of {', '.join(names)}, got {' and '.join(given)}")
        if self.begin < 1:
            raise MedwardError(f"malice: begins in round 1 or later, got {self.begin}")

    def poisoned(self, rows: Split, seed: int) -> Split:
        """What is learned from instead of `rows`."""
        if self.trigger is not None:
            return replace(rows, inputs=self.trigger.mark(np.asarray(rows.inputs)))
        if self.backdoor is not None:
            return self.backdoor.poisoned(rows, seed)
        return rows if self.label_flip is None else self.label_flip.poisoned(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client of a federation: its name, its rows, and its malice, if any."""

    node: str
    rows: Split
    malice: Malice | None = None


class Server(Protocol):
    """A server turns what clients sent into the next model; its first state is a `FederationState`."""

    def step(
        self,
        state: Any,
        start: ModelParameters,
        updates: Sequence[ClientUpdate],
        selected: Collection[str],
        server: ModelParameters | None = None,
    ) -> tuple[Any, RoundResult]:
        """One round (`guard.federated.aggregator.Aggregator.step`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationRound:
    """What happened in one round: the model after it, what was sent, and the server's result."""

    round: int
    updates: tuple[ClientUpdate, ...]
    result: RoundResult
    state: Any = field(repr=False)


def federate(
    model: FederatedModel,
    clients: Sequence[Client],
    server: Server,
    *,
    rounds: int,
    seed: int,
    server_rows: Split | None = None,
) -> Iterator[FederationRound]:
    """Train for `rounds`, every client in every round; the same seed gives the same federation.

    From `server_rows` the server learns a model of its own each round, for rules that compare with one.
    """
    parameters: ModelParameters = model.initial(seed)
    state: Any = FederationState()
    memories, own_memory = [None] * len(clients), None
    nodes = [client.node for client in clients]
    for number in range(1, rounds + 1):
        acting = [_acting(client.malice, number) for client in clients]
        learned: list[Learned] = []
        for place, (client, malice) in enumerate(zip(clients, acting, strict=True)):
            chance = _seed(seed, number, place)
            rows = client.rows if malice is None else malice.poisoned(client.rows, chance)
            learned.append(model.learn(parameters, rows, memories[place], chance))
            memories[place] = learned[-1].memory
        own = None
        if server_rows is not None:
            told = model.learn(parameters, server_rows, own_memory, _seed(seed, number, len(clients)))
            own, own_memory = told.parameters, told.memory
        updates = _sent(clients, parameters, learned, acting)
        state, result = server.step(state, parameters, updates, nodes, own)
        parameters = result.parameters
        yield FederationRound(round=number, updates=tuple(updates), result=result, state=state)


def _acting(malice: Malice | None, number: int) -> Malice | None:
    return malice if malice is not None and number >= malice.begin else None


def _sent(
    clients: Sequence[Client], start: ModelParameters, learned: Sequence[Learned], acting: Sequence[Malice | None]
) -> list[ClientUpdate]:
    """What each client sends: the malicious know all honest updates, and metrics, of the round."""
    honest = [each for each, malice in zip(learned, acting, strict=True) if malice is None] or list(learned)
    counts = {"clients": len(clients), "malicious": sum(malice is not None for malice in acting)}
    changes = np.zeros((0, 0))
    if any(malice is not None and malice.crafted is not None for malice in acting):
        changes = np.stack([flat_change(start, each.parameters) for each in honest])
    sent = []
    for client, own, malice in zip(clients, learned, acting, strict=True):
        parameters, metrics = own.parameters, dict(own.metrics)
        if malice is not None and malice.crafted is not None:
            parameters = moved(start, malice.crafted.craft(changes, **counts))
        elif malice is not None and malice.scaled is not None:
            parameters = moved(start, malice.scaled.scaled(flat_change(start, own.parameters), **counts))
        if malice is not None and malice.lies:
            metrics = _median_metrics(honest)
        examples = len(client.rows) if malice is None or malice.claimed is None else malice.claimed
        sent.append(ClientUpdate(node=client.node, parameters=parameters, examples=examples, metrics=metrics))
    return sent


def _median_metrics(learned: Sequence[Learned]) -> dict[str, float]:
    said: dict[str, list[float]] = {}
    for each in learned:
        for name, value in each.metrics.items():
            said.setdefault(name, []).append(value)
    return {name: float(np.median(values)) for name, values in said.items()}


def flat_change(start: ModelParameters, parameters: ModelParameters) -> np.ndarray:
    """(d,): what changed in the learned arrays."""
    changes = [
        np.ravel(np.asarray(new, np.float64) - old)
        for old, new in zip(start, parameters, strict=True)
        if is_learned(old)
    ]
    return np.concatenate(changes)


def moved(start: ModelParameters, change: np.ndarray) -> list[np.ndarray]:
    """`start` with its learned arrays moved by a change (d,)."""
    after, place = [], 0
    for array in start:
        size = array.size if is_learned(array) else 0
        step = change[place : place + size].reshape(array.shape) if size else 0
        after.append(np.asarray(array + step, array.dtype))
        place += size
    return after


def _seed(seed: int, number: int, place: int) -> int:
    return int(np.random.SeedSequence([seed, number, place]).generate_state(1)[0])
