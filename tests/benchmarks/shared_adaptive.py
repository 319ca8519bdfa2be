"""The shared-perturbation monitor on PneumoniaMNIST against attackers who know it, at 8/255.

They use many perturbations, either sign of one or of many, begin late, send each image clean first or fade the
perturbation in on copies of it, or craft one whose residual stays short: on the deployed map itself, or on maps made of
the very rows that was fitted on, but with another sketch or with none.
"""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import torch
from claim import Claim
from shared import (
    PATIENCE,
    Scene,
    attacked,
    draw,
    drawn,
    faded,
    fooling,
    perturbation,
    requests,
    summary,
)
from subjects import pneumonia_victim

from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.losses import cross_entropy
from medward.guard.monitors import noise_residuals as residual_module
from medward.guard.monitors.noise_residuals import NoiseResiduals

CLAIMS = (
    "shared_adaptive_pool",
    "shared_adaptive_alternating",
    "shared_adaptive_alternating_pool",
    "shared_adaptive_late",
    "shared_adaptive_late_alternating",
    "shared_adaptive_clean_first",
    "shared_adaptive_fading",
    "shared_adaptive_fading_on_one_image",
    "shared_adaptive_quiet",
    "shared_adaptive_quiet_knows_the_sketch",
)
POOLS = (2, 8, 32)
LATE = 1000
WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.3)


def measure() -> Iterator[Claim]:
    """Requests until each attacker is noticed, and what the quiet ones keep."""
    victim, task = pneumonia_victim()
    pool = [perturbation(task, victim, 8, (None, 0, 1)[i % 3], i) for i in range(max(POOLS))]
    found = {size: attacked(task, victim, drawn([pool[:size]]))[0] for size in POOLS}
    yield requests(
        "shared_adaptive_pool",
        found[max(POOLS)],
        "reported: requests until the alarm, of the largest pool of perturbations at 8/255 in random order",
        pools={str(size): summary(counts) for size, counts in found.items()},
        fooling=float(np.mean([fooling(victim, task, delta) for delta in pool])),
    )
    one, either = pool[:1], [pool[0], -pool[0]]
    signs = [sign * delta for delta in pool for sign in (1, -1)]
    for name, plan, after, what in (
        ("alternating", drawn([either]), 0, "one perturbation at 8/255, either sign at random"),
        ("alternating_pool", drawn([signs]), 0, f"{len(pool)} perturbations at 8/255, either sign, at random"),
        ("late", drawn([one], after=LATE), LATE, f"{LATE} clean requests first, which are not counted"),
        ("late_alternating", drawn([either], after=LATE), LATE, f"{LATE} clean requests first, then either sign"),
        ("clean_first", faded(pool[0], 2), 0, "every image is first sent clean, then with the perturbation at 8/255"),
        ("fading", faded(pool[0], 5), 0, "every image is sent 5 times, the perturbation fading in to 8/255"),
        ("fading_on_one_image", faded(pool[0], 200), 0, "an image is sent 200 times, fading in to 8/255"),
    ):
        counts, strict = attacked(task, victim, plan, after=after)
        details = {"fooling_of_the_other_sign": fooling(victim, task, -pool[0])} if "alternating" in name else {}
        yield requests(f"shared_adaptive_{name}", counts, f"reported: {what}", strict=summary(strict), **details)
    scene = draw(task, victim, 1000)
    known = {
        "the map": scene.residuals,
        "all but the sketch": refit(scene, seed=1),
        "all but the sketch, and hides in every direction": refit(scene, seed=1, width=int(np.prod(task.shape))),
    }
    found = []
    for what, residuals in known.items():
        for weight in WEIGHTS:
            delta = quietest(scene, residuals, 8, weight)
            counts, _ = attacked(task, victim, drawn([[delta]]), accounts=6, draws=1)
            found.append({"knows": what, "weight": weight, "fooling": fooling(victim, task, delta), **summary(counts)})
    for name, knows in (("quiet", list(known)[1:]), ("quiet_knows_the_sketch", list(known)[:1])):
        tried = [each for each in found if each["knows"] in knows]
        yield Claim(
            claim=f"shared_adaptive_{name}",
            value=max((each["fooling"] for each in tried if each["median"] >= PATIENCE), default=0.0),
            target=f"reported: the highest fooling rate at 8/255 that is not noticed within {PATIENCE} requests",
            met=True,
            n=6,
            seed=0,
            details={"perturbations": tried},
        )


def refit(scene: Scene, *, seed: int, width: int = residual_module.SKETCH_WIDTH) -> NoiseResiduals:
    """The map an attacker makes who has the very rows it was fitted on, but not the seed."""
    with patch.object(residual_module, "SKETCH_WIDTH", width):
        return NoiseResiduals.fit(scene.fitted_on, scene.fitted_on[:1], seed=seed)


def quietest(scene: Scene, residuals: NoiseResiduals, radius: int, weight: float, steps: int = 300) -> np.ndarray:
    """A perturbation that also keeps the shift of the monitor's vectors short: Adam on the deployed map itself."""
    generator = torch.Generator().manual_seed(0)
    x = torch.from_numpy(scene.task.splits["train"].inputs)
    y = network_decisions(scene.victim, x)
    delta = torch.zeros((1, *scene.task.shape), requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=radius / 255 / 10)
    for _ in range(steps):
        rows = torch.randint(len(x), (50,), generator=generator)
        inputs = (x[rows] + delta).clamp(0, 1)
        loss = cross_entropy(scene.victim(inputs), y[rows]).clamp(max=9.0).mean()
        moved = residuals.vectors(inputs, torch) - residuals.vectors(x[rows], torch)
        optimizer.zero_grad()
        (weight * moved.mean(dim=0).norm() - loss).backward()
        optimizer.step()
        with torch.no_grad():
            delta.clamp_(-radius / 255, radius / 255)
    return delta.detach()[0].numpy()
