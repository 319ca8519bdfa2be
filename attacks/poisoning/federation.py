"""A federation with malicious clients in it, round after round: what each learns, sends and says, and what the server makes of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from medward.attacks.benchmarks.generators.base import Generator, Learned
from medward.attacks.poisoning.crafted import CraftedUpdate
from medward.attacks.poisoning.scaled_replacement import ScaledReplacement
from medward.attacks.poisoning.triggers.base import Trigger
from medward.guard.data.split import Split
from medward.guard.federated.aggregator import FederationState, RoundResult
from medward.guard.federated.update import ClientUpdate, Parameters, is_learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Malice:
    """Malice is what a malicious client does from round `begin` on; before it behaves.

    `trigger` marks all of its rows. `crafted` makes what it sends from honest updates, `scaled` from its own. When it
    `lies`, it reports the median loss of honest clients as its own.
    """

    trigger: Trigger | None = None
    crafted: CraftedUpdate | None = None
    scaled: ScaledReplacement | None = None
    lies: bool = False
    begin: int = 1


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
        start: Parameters,
        updates: Sequence[ClientUpdate],
        selected: Collection[str],
        server: Parameters | None = None,
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
    generator: Generator,
    clients: Sequence[Client],
    server: Server,
    *,
    rounds: int,
    seed: int,
    server_rows: Split | None = None,
) -> Iterator[FederationRound]:
    """Train for `rounds`, every client in every round; the same seed gives the same federation.

    With `server_rows` the server trains as a client does, for a rule that compares clients with it.
    """
    parameters: Parameters = generator.initial(seed)
    state: Any = FederationState()
    memories, own_memory = [None] * len(clients), None
    nodes = [client.node for client in clients]
    for number in range(1, rounds + 1):
        learned: list[Learned] = []
        for place, client in enumerate(clients):
            rows = _marked(client, number)
            learned.append(generator.learn(parameters, rows, memories[place], _seed(seed, number, place)))
            memories[place] = learned[-1].memory
        updates = _sent(clients, parameters, learned, number)
        own = None
        if server_rows is not None:
            trained = generator.learn(parameters, server_rows, own_memory, _seed(seed, number, len(clients)))
            own, own_memory = trained.parameters, trained.memory
        state, result = server.step(state, parameters, updates, nodes, own)
        parameters = result.parameters
        yield FederationRound(round=number, updates=tuple(updates), result=result, state=state)


def _marked(client: Client, number: int) -> Split:
    malice = client.malice
    if malice is None or malice.trigger is None or number < malice.begin:
        return client.rows
    return replace(client.rows, inputs=malice.trigger.mark(np.asarray(client.rows.inputs)))


def _sent(clients: Sequence[Client], start: Parameters, learned: Sequence[Learned], number: int) -> list[ClientUpdate]:
    """What each client sends: the malicious know all honest updates, and losses, of the round."""
    acts = [client.malice is not None and number >= client.malice.begin for client in clients]
    honest = [each for each, act in zip(learned, acts, strict=True) if not act] or list(learned)
    counts: dict[str, Any] = {"clients": len(clients), "malicious": sum(acts)}
    sent = []
    for client, own, act in zip(clients, learned, acts, strict=True):
        parameters, metrics = own.parameters, dict(own.metrics)
        if act and client.malice is not None:
            if client.malice.crafted is not None:
                changes = np.stack([flat_change(start, each.parameters) for each in honest])
                parameters = moved(start, client.malice.crafted.craft(changes, **counts))
            elif client.malice.scaled is not None:
                change = client.malice.scaled.scaled(flat_change(start, own.parameters), **counts)
                parameters = moved(start, change)
            if client.malice.lies:
                metrics = {name: float(np.median([each.metrics[name] for each in honest])) for name in own.metrics}
        sent.append(ClientUpdate(node=client.node, parameters=parameters, examples=len(client.rows), metrics=metrics))
    return sent


def flat_change(start: Parameters, parameters: Parameters) -> np.ndarray:
    """(d,): what changed in the learned arrays."""
    changes = [
        np.ravel(np.asarray(new, np.float64) - old)
        for old, new in zip(start, parameters, strict=True)
        if is_learned(old)
    ]
    return np.concatenate(changes)


def moved(start: Parameters, change: np.ndarray) -> list[np.ndarray]:
    """`start` with its learned arrays moved by a change (d,)."""
    after, place = [], 0
    for array in start:
        size = array.size if is_learned(array) else 0
        step = change[place : place + size].reshape(array.shape) if size else 0
        after.append((array + step).astype(array.dtype))
        place += size
    return after


def _seed(seed: int, number: int, place: int) -> int:
    return int(np.random.SeedSequence([seed, number, place]).generate_state(1)[0])
