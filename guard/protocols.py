"""The contracts. Each folder of ``guard/`` holds implementations of one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from guard.types import Array, Level, ModelSpec, Observation, Outputs, Verdict

S = TypeVar("S")
R = TypeVar("R")
Json = Any
"""What a store keeps: None, bool, int, float, str, and lists and dicts of them."""


class Model(Protocol):
    """Something that turns a checked batch into scores."""

    @property
    def spec(self) -> ModelSpec:
        """What inputs it takes and what its scores are."""
        ...

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to scores ``(n, classes)`` in one forward pass."""
        ...


class Screen(Protocol):
    """One input at a time: how strange is it?"""

    @property
    def name(self) -> str:
        """The embedding or technique, unique in a profile."""
        ...

    def score(self, inputs: Any, outputs: Any, xp: Any = ...) -> Any:
        """Map a batch and its outputs, as `ModelSpec.judged` gives them, to ``(n,)``; larger is stranger.

        The mathematics uses only operations that NumPy and torch share under the namespace `xp`, so that a
        detector-aware attack differentiates the deployed code itself and not a copy of it.
        """
        ...

    def arrays(self) -> dict[str, Array]:
        """What was fitted, as plain arrays; the class's ``from_arrays`` reads them back."""
        ...


class Monitor(Protocol[S]):
    """One account over time. Pure: state in, state out; the state is JSON and bounded in size."""

    @property
    def name(self) -> str:
        """What its verdicts are signed with."""
        ...

    def start(self) -> S:
        """The state of an account that has asked nothing."""
        ...

    def step(self, state: S, observation: Observation) -> tuple[S, Verdict]:
        """The state after one more query, and what it means."""
        ...


class OutputFilter(Protocol):
    """What leaves. Never changes the decision."""

    @property
    def name(self) -> str:
        """The technique."""
        ...

    def release(self, scores: Array, level: Level) -> Array:
        """Map ``(n, classes)`` to ``(n, classes)`` at `level`; NaN marks what does not leave."""
        ...


class Store(Protocol):
    """Where monitors keep an account's state."""

    def transact(self, key: str, step: Callable[[Json], tuple[Json, R]], *, ttl: float | None = None) -> R:
        """Atomically replace the state under `key` (None when absent or expired) by ``step(state)[0]``.

        Returns ``step(state)[1]``. `step` must be pure: it may run again when two writers collide. `ttl` is
        in seconds from this write; None keeps the state for ever. Raises `UnavailableError`.
        """
        ...

    def transact_all(
        self, keys: Sequence[str], step: Callable[[list[Json]], tuple[list[Json], R]], *, ttl: float | None = None
    ) -> R:
        """Like `transact` over several distinct keys: the states of all are replaced together, or none is.

        `step` takes the states in the order of `keys` and returns as many. Raises `MedwardError` when it does not.
        """
        ...

    def get(self, key: str) -> Json:
        """The state under `key`, None when absent or expired."""
        ...

    def now(self) -> float:
        """Seconds as all who share the states count them, whatever this process's clock says; what a state is dated by.

        Raises `UnavailableError`.
        """
        ...

    def delete(self, key: str) -> None:
        """Forget `key`; no error when it is absent."""
        ...

    def close(self) -> None:
        """Let go of files; later calls raise `UnavailableError`."""
        ...
