"""Training with differential privacy: any torch module, any columns of rows, one loss for each row.

Each step draws units by independent coins, clips the gradient of each, adds noise to the sum, and moves the weights by
that alone. What comes out is a function of noisy sums, whatever the optimiser and however iterates are averaged.

Reference: Abadi et al., "Deep learning with differential privacy", CCS 2016.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.harden.network import state_digest
from medward.guard.harden.private import mechanism as steps
from medward.guard.harden.private.cross_check import cross_checked_epsilon
from medward.guard.harden.private.hazards import check_module, refuse_loader, training_mode
from medward.guard.harden.private.ledger import Ledger, LedgerEntry
from medward.guard.harden.private.per_row import GradientsPerRow, RowLosses, Rows, row_count, take_rows
from medward.guard.harden.private.positions import expand_positions
from medward.guard.harden.private.randomness import Randomness
from medward.guard.harden.private.sampling import Draw, PoissonSampler
from medward.guard.harden.private.settings import PrivatePlan, PrivateSettings, plan_training
from medward.guard.harden.private.units import unit_numbers
from medward.guard.harden.private.weights_move import WeightsWatch, set_gradient
from medward.guard.statistics.privacy_accounting import spent_epsilon
from medward.guard.types import Ints

_log = logging.getLogger("medward.harden")
_WHERE = ("checkpoint", "save_every", "device", "rows_at_once")  # settings that change no weight

Progress = Callable[[int, int, float], None]
"""Called after each expected pass with steps done, steps in all, and the epsilon of the steps done."""
Views = Callable[[Rows, torch.Generator], Rows]
"""Makes other views of rows, each of its own row alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRun:
    """A private run is the trained module, in eval mode, with what was spent on it.

    `randomness` says whether noise came from a secret key ("secret") or from one that can be guessed ("seeded").
    """

    module: nn.Module
    plan: PrivatePlan
    epsilon: float
    trained: int
    randomness: str


def train_privately(
    module: nn.Module,
    rows: Tensor | Mapping[str, Tensor],
    units: Tensor | Ints | None,
    loss_of_rows: RowLosses,
    settings: PrivateSettings,
    *,
    other_mechanisms: tuple[float, ...] = (),
    views: Views | None = None,
    context: Mapping[str, JsonValue] | None = None,
    progress: Progress | None = None,
) -> PrivateRun:
    """Train `module` in place on `rows`, so that each unit's presence is hidden as `settings` say.

    `rows` are tensors ``(n, ...)`` by name (one tensor: "x") on the CPU; `units (n,)` are patients, None where each row
    is one. ``loss_of_rows(module, rows)`` gives the loss ``(n,)`` of each row, of that row alone. Weights that do not
    require a gradient stay as they are, to the bit. `other_mechanisms` are noise multipliers of what else looks at all
    units once, and is composed. `views` may augment rows: each view is of its own row, so the bound is the same.
    `context` is what else a checkpoint must agree in to be gone on with.

    Raises `MedwardError` for every hazard that is known (`hazards`, `per_row`, `weights_move`), for a target that
    cannot be reached, and for a checkpoint of another training.
    """
    refuse_loader(rows)
    columns = {"x": rows} if isinstance(rows, Tensor) else dict(rows)
    owners = unit_numbers(units, row_count(columns))
    plan = plan_training(settings, int(owners.max(initial=-1)) + 1, other_mechanisms)
    epsilon = cross_checked_epsilon(plan.mechanism, plan.delta)
    trained = {name: each for name, each in module.named_parameters() if each.requires_grad}
    if not trained:
        raise MedwardError("model: no weight requires a gradient, so there is nothing to train")
    device = torch.device(settings.device)
    sample = {name: each[:4].to(device) for name, each in columns.items()}
    module.to(device)
    training_mode(module)
    hooks = expand_positions(module)
    gradients = None
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            check_module(module, loss_of_rows, sample)
            gradients = GradientsPerRow(module, loss_of_rows, sample)
            _Loop(module, columns, owners, gradients, settings, plan, views, progress, context or {}).run()
    finally:
        for hook in hooks:
            hook.remove()
        if gradients is not None:
            gradients.close()
    return PrivateRun(
        module=module.eval(),
        plan=plan,
        epsilon=epsilon,
        trained=sum(each.numel() for each in trained.values()),
        randomness="secret" if settings.noise_seed is None else "seeded",
    )


class _Loop:
    """The loop holds what changes from step to step, so that it can be written down and taken up again."""

    def __init__(
        self,
        module: nn.Module,
        rows: Rows,
        owners: Ints,
        gradients: GradientsPerRow,
        settings: PrivateSettings,
        plan: PrivatePlan,
        views: Views | None,
        progress: Progress | None,
        context: Mapping[str, JsonValue],
    ) -> None:
        self.module, self.rows, self.gradients = module, rows, gradients
        self.settings, self.plan, self.views, self.progress = settings, plan, views, progress
        self.trained = gradients.parameters
        self.device = torch.device(settings.device)
        self.ledger = None
        if settings.checkpoint is not None:
            written = {**context, **_written_plan(module, rows, owners, settings, plan)}
            self.ledger = Ledger(path=Path(settings.checkpoint), plan=written)
        entry = None if self.ledger is None else self.ledger.read()
        key = None if entry is None else Randomness(entry.key)
        fresh = Randomness.secret() if settings.noise_seed is None else Randomness.seeded(settings.noise_seed)
        self.randomness = key or fresh
        self.sampler = PoissonSampler(owners, plan.mechanism.sample_rate, settings.rows_per_unit, self.randomness)
        if entry is not None:
            with torch.no_grad():
                for name, each in self.trained.items():
                    each.copy_(entry.state["weights"][name])
        self.optimiser = make_optimiser(list(self.trained.values()), settings)
        self.watch = WeightsWatch(
            module,
            self.trained,
            lambda weights: make_optimiser(weights, settings),
            clip=settings.clip,
            noise_multiplier=plan.mechanism.noise_multiplier,
            sample_rate=plan.mechanism.sample_rate,
            units=plan.units,
        )
        self.averaged = {name: each.detach().clone() for name, each in self.watch.copies.items()}
        self.done = 0
        if entry is not None:
            self.done = entry.step
            for optimiser in (self.optimiser, self.watch.optimiser):
                optimiser.load_state_dict(entry.state["optimiser"])
            self.averaged = {name: each.to(self.device) for name, each in entry.state["averaged"].items()}
            _log.info("goes on after step %d of %d", self.done, plan.mechanism.steps)

    def run(self) -> None:
        """Every step that is left; then the module has the averaged weights."""
        total, every = self.plan.mechanism.steps, self.plan.steps_per_epoch
        if self.done == 0:
            self._record()
        while self.done < total:
            self._step(self.done)
            self.done += 1
            if self.done % self.settings.save_every == 0 and self.done < total:
                self._record()
            if self.progress is not None and (self.done % every == 0 or self.done == total):
                done = dataclasses.replace(self.plan.mechanism, steps=self.done)
                self.progress(self.done, total, spent_epsilon(done, self.plan.delta))
        self.watch.check_still()
        self.watch.check_draws()
        self._record()
        with torch.no_grad():
            for name, each in self.trained.items():
                each.copy_(self.averaged[name])

    def _step(self, step: int) -> None:
        """One use of the mechanism; an empty draw is one too."""
        draw = self.sampler.draw(step)
        torch.manual_seed(self.randomness.seed(step, "dropout"))
        clip, count = self.settings.clip, sum(each.numel() for each in self.trained.values())
        summed = torch.zeros(count, device=self.device, dtype=next(iter(self.trained.values())).dtype)
        for part in draw.parts(self.settings.rows_at_once):
            owners = torch.from_numpy(part.owners).to(self.device)
            summed += steps.clipped_sum(self.gradients.of(self._batch(part, step)), owners, len(part.units), clip)
            self.gradients.clear()
        noise = self.randomness.normals(step, "noise", count) * (self.plan.mechanism.noise_multiplier * clip)
        output = steps.MechanismOutput(
            total=summed, noise=noise.to(summed), drawn=len(draw.units), expected=self.plan.expected
        )
        set_gradient(self.trained.values(), output.gradient)
        self.optimiser.step()
        self.gradients.clear()
        self.watch.follow(output, draw.units)
        keep = min(self.settings.average, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, each in self.watch.copies.items():
                self.averaged[name].lerp_(each, 1 - keep)

    def _batch(self, part: Draw, step: int) -> Rows:
        found: Rows = take_rows(self.rows, torch.from_numpy(part.rows))
        if self.views is not None:
            seed = self.randomness.seed(step, f"views {part.units[0]}")
            found = self.views(found, torch.Generator().manual_seed(seed))
        return {name: each.to(self.device) for name, each in found.items()}

    def _record(self) -> None:
        """Write where training is; at its end without the key."""
        if self.ledger is None:
            return
        over = self.done == self.plan.mechanism.steps
        state = {
            "weights": {name: each.detach().cpu() for name, each in self.watch.copies.items()},
            "averaged": {name: each.cpu() for name, each in self.averaged.items()},
            "optimiser": self.watch.optimiser.state_dict(),
        }
        self.ledger.write(LedgerEntry(step=self.done, key=b"" if over else self.randomness.key, state=state))


def make_optimiser(weights: Sequence[Tensor], settings: PrivateSettings) -> torch.optim.Optimizer:
    """The optimiser of `settings`, which sees noisy gradients alone."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(weights, lr=settings.rate, momentum=settings.momentum)
    return torch.optim.Adam(weights, lr=settings.rate)


def _written_plan(
    module: nn.Module, rows: Rows, owners: Ints, settings: PrivateSettings, plan: PrivatePlan
) -> dict[str, JsonValue]:
    """What a checkpoint must agree in to be gone on with."""
    sha = hashlib.sha256(owners.tobytes())
    for name, each in sorted(rows.items()):
        sha.update(f"{name}{each.dtype}{tuple(each.shape)}".encode())
        sha.update(np.ascontiguousarray(each.cpu().numpy()).tobytes())
    named = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(PrivateSettings)
        if field.name not in _WHERE
    }
    found: dict[str, JsonValue] = json.loads(json.dumps(named))
    return found | {
        "mechanism": json.loads(json.dumps(dataclasses.asdict(plan.mechanism))),
        "delta": plan.delta,
        "rows": sha.hexdigest(),
        "start": state_digest(module),
    }
