"""A private training cut into rounds, as a client of a federation runs it: between rounds others change the weights.

Each step is a use of the same mechanism on the same rows, whatever weights it starts from, so the privacy losses of all
rounds compose as those of one long training. A round counts as spent before it begins: one that is killed, or whose
weights never arrive, is spent all the same. Nothing but a file can hold that count: what Flower keeps for a client is
in memory, and of one run only.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.files import write_durably
from medward.guard.harden.private.cross_check import cross_checked_epsilon
from medward.guard.harden.private.ledger import rows_digest
from medward.guard.harden.private.per_row import RowLosses, row_count
from medward.guard.harden.private.settings import PrivateSettings, plan_training
from medward.guard.harden.private.training import train_privately
from medward.guard.harden.private.units import unit_numbers
from medward.guard.models.base import first_line, read_json_object
from medward.guard.statistics.privacy_accounting import GaussianMechanism, spent_epsilon
from medward.guard.types import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySpending:
    """A privacy spending says what `rounds` rounds have spent so far: `epsilon` at `delta`, and how many are `left`."""

    rounds: int
    epsilon: float
    delta: float
    left: int


class PrivateRounds:
    """Private rounds train on the same rows again and again, and all of them together spend the target epsilon at most.

    `settings` are of all rounds together, but for `epochs`, which are of one; the noise is chosen so that `rounds`
    rounds spend `target_epsilon`. `ledger` is the file that counts them: the budget is that of the rows, so every
    training on them, of any run, must count in the same file. `rows`, `units` and `loss_of_rows` are as
    `train_privately` takes them.

    Guarantee: to whoever sees the weights after every round, and chose those before it, the presence of a unit is
    hidden within (epsilon, delta). A round that fails says so by failing, which its noise does not cover: it is
    counted, and no other is run until a person has looked.
    """

    def __init__(
        self,
        rows: Mapping[str, Tensor],
        units: Tensor | Ints | None,
        loss_of_rows: RowLosses,
        settings: PrivateSettings,
        *,
        rounds: int,
        ledger: Path,
    ) -> None:
        if rounds < 1:
            raise MedwardError(f"rounds: must be at least 1, got {rounds}")
        if settings.checkpoint is not None:
            raise MedwardError(
                "checkpoint: a round that was killed counts as spent and is not gone on with; leave it out"
            )
        self.rows, self.units, self.loss_of_rows, self.settings = dict(rows), units, loss_of_rows, settings
        self.rounds, self.ledger = rounds, Path(ledger)
        owners = unit_numbers(units, row_count(self.rows))
        self.plan = plan_training(settings, int(owners.max(initial=-1)) + 1, rounds=rounds)
        self.epsilon = cross_checked_epsilon(self.plan.mechanism, self.plan.delta)
        self._written: dict[str, JsonValue] = {
            **json.loads(json.dumps(dataclasses.asdict(self.plan))),
            "rounds": rounds,
            "clip": settings.clip,
            "rows": rows_digest(self.rows, owners),
        }

    def spending(self) -> PrivacySpending:
        """What is spent so far. Raises `MedwardError` for a ledger of another training, or none."""
        return self._spending(self._read().spent)

    def train(self, module: nn.Module) -> PrivacySpending:
        """Train `module` in place for one round, and say what is spent with it.

        Raises `MedwardError`, with nothing trained, where every round is spent or an earlier one failed.
        """
        number = self._begin()
        seed, mechanism = self.settings.noise_seed, self._mechanism(1)
        settings = dataclasses.replace(self.settings, noise_seed=None if seed is None else seed + number)
        plan = dataclasses.replace(self.plan, mechanism=mechanism)
        try:
            train_privately(module, self.rows, self.units, self.loss_of_rows, settings, plan=plan)
        except Exception as error:
            with self._locked():
                self._write(_Entry(self._read().spent, f"round {number}: {first_line(error)}"))
            raise
        return self._spending(number)

    def _begin(self) -> int:
        """Count one round as spent, and give its number."""
        with self._locked():
            entry = self._read()
            if entry.failed is not None:
                raise MedwardError(
                    f"{self.ledger}: an earlier round failed, which noise does not cover ({entry.failed}); find out "
                    'why, then set "failed" to null there'
                )
            if entry.spent >= self.rounds:
                raise MedwardError(
                    f"privacy: all {self.rounds} rounds that epsilon {self.settings.target_epsilon:g} allows are "
                    "spent; nothing more is trained on these rows"
                )
            self._write(_Entry(entry.spent + 1, None))
            return entry.spent + 1

    def _mechanism(self, rounds: int) -> GaussianMechanism:
        whole = self.plan.mechanism
        return dataclasses.replace(whole, steps=rounds * (whole.steps // self.rounds))

    def _spending(self, spent: int) -> PrivacySpending:
        epsilon = spent_epsilon(self._mechanism(spent), self.plan.delta)
        return PrivacySpending(rounds=spent, epsilon=epsilon, delta=self.plan.delta, left=max(0, self.rounds - spent))

    def _read(self) -> _Entry:
        if not self.ledger.exists():
            return _Entry(0, None)
        found = read_json_object(self.ledger)
        plan, spent, failed = found.get("plan"), found.get("spent"), found.get("failed")
        if not isinstance(plan, dict) or not isinstance(spent, int) or not isinstance(failed, str | None):
            raise MedwardError(f"{self.ledger}: is no ledger of private rounds; give the one that counts these rows")
        if differs := sorted(name for name in {**plan, **self._written} if plan.get(name) != self._written.get(name)):
            raise MedwardError(
                f"{self.ledger}: is of another training, with other {', '.join(differs)}; both are spent, so go on "
                "with what it began with, or give another ledger and add both epsilons"
            )
        return _Entry(spent, failed)

    def _write(self, entry: _Entry) -> None:
        said = {"plan": self._written, "spent": entry.spent, "failed": entry.failed}
        write_durably(self.ledger, json.dumps(said, indent=2).encode(), mode=0o600)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Held by one process alone: two that counted the same round would both spend it."""
        self.ledger.parent.mkdir(parents=True, exist_ok=True)
        with self.ledger.with_name(f"{self.ledger.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True, slots=True)
class _Entry:
    spent: int
    failed: str | None
