"""Training with differential privacy: any torch module, any columns of rows, one loss for each row.

Each step draws units by independent coins, clips the gradient of each, adds noise to the sum, and moves the weights by
that alone. What comes out is a function of noisy sums, whatever the optimiser and however iterates are averaged.

Reference: Abadi et al., "Deep learning with differential privacy", CCS 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.harden.private.cross_check import cross_checked_epsilon
from medward.guard.harden.private.hazards import check_module, refuse_loader, training_mode
from medward.guard.harden.private.loop import PrivateLoop, TrainingProgress
from medward.guard.harden.private.per_row import GradientsPerRow, RowLosses, row_count
from medward.guard.harden.private.positions import expand_positions
from medward.guard.harden.private.settings import PrivatePlan, PrivateSettings, plan_training
from medward.guard.harden.private.units import unit_numbers
from medward.guard.harden.private.views import Views
from medward.guard.types import Ints


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
    plan: PrivatePlan | None = None,
    other_mechanisms: tuple[float, ...] = (),
    views: Views | None = None,
    context: Mapping[str, JsonValue] | None = None,
    progress: TrainingProgress | None = None,
) -> PrivateRun:
    """Train `module` in place on `rows`, so that each unit's presence is hidden as `settings` say.

    `rows` are tensors ``(n, ...)`` by name (one tensor: "x") on the CPU; `units (n,)` are patients, None where each row
    is one. ``loss_of_rows(module, rows)`` gives the loss ``(n,)`` of each row, of that row alone. Weights that do not
    require a gradient stay as they are, to the bit. A `plan` takes the place of that of `settings`, as for one round of
    a longer training, and epsilon is then of that alone. `other_mechanisms` are noise multipliers of what else looks at
    all units once, and is composed. `views` may augment rows: each view is of its own row, so the bound is the same.
    `context` is what else a checkpoint must agree in to be gone on with.

    Raises `MedwardError` for every hazard that is known (`hazards`, `per_row`, `weights_move`), for a target that
    cannot be reached, and for a checkpoint of another training.
    """
    refuse_loader(rows)
    columns = {"x": rows} if isinstance(rows, Tensor) else dict(rows)
    owners = unit_numbers(units, row_count(columns))
    if plan is None:
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
            PrivateLoop(module, columns, owners, gradients, settings, plan, views, progress, context or {}).run()
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
