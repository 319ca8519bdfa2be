"""The loop of private training: one use of the mechanism after another, written down so that a kill loses none."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from medward.guard.harden.private import mechanism as steps
from medward.guard.harden.private.ledger import Ledger, LedgerEntry, ledger_plan
from medward.guard.harden.private.per_row import Columns, GradientsPerRow, columns_at
from medward.guard.harden.private.randomness import Randomness
from medward.guard.harden.private.sampling import Draw, PoissonSampler
from medward.guard.harden.private.settings import PrivatePlan, PrivateSettings
from medward.guard.harden.private.views import Views
from medward.guard.harden.private.weights_move import WeightsWatch, set_gradient
from medward.guard.statistics.privacy_accounting import spent_epsilon
from medward.guard.types import Ints

_log = logging.getLogger("medward.harden")

TrainingProgress = Callable[[int, int, float], None]
"""Called after each expected pass with steps done, steps in all, and the epsilon of the steps done."""


_TRIED = 10  # steps between two trials of what the largest gradient alone comes to


class PrivateLoop:
    """A private loop holds what changes from step to step, so that it can be written down and taken up again."""

    def __init__(
        self,
        module: nn.Module,
        rows: Columns,
        owners: Ints,
        gradients: GradientsPerRow,
        settings: PrivateSettings,
        plan: PrivatePlan,
        views: Views | None,
        progress: TrainingProgress | None,
        context: Mapping[str, JsonValue],
    ) -> None:
        self.module, self.rows, self.gradients = module, rows, gradients
        self.settings, self.plan, self.views, self.progress = settings, plan, views, progress
        self.trained = gradients.parameters
        self.device = torch.device(settings.device)
        self.ledger = None
        if settings.checkpoint is not None:
            written = {**context, **ledger_plan(module, rows, owners, settings, plan)}
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
                optimiser.load_state_dict(copy.deepcopy(entry.state["optimiser"]))  # which it would share
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
                over = self.done == total
                self.progress(self.done, total, spent_epsilon(done, self.plan.delta, quickly=not over))
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
            found = self.gradients.of(self._batch(part, step))
            summed += steps.clipped_sum(found, owners, len(part.units), clip)
            if step % _TRIED == 0:
                self.watch.check_clip(steps.largest_contribution(found, owners, len(part.units), clip))
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

    def _batch(self, part: Draw, step: int) -> Columns:
        found: Columns = columns_at(self.rows, torch.from_numpy(part.rows))
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
