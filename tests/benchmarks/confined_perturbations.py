"""What forgiving markings leaves open: universal perturbations confined to a small part of the image.

The direction monitor looks past what stands out in a few places, so an attacker may put all of a perturbation there,
of any size: one patch in a corner or in the middle, or spots that are spread as the monitor's own buckets lie. The
victim's gradients are known. Queries are counted until the whole guard is at 1e-3, not the direction monitor alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from claim import Claim
from stealing import watched

from medward.attacks.benchmarks.victims import train_victim
from medward.attacks.validation.ordinary.measure import WatchedGuard
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.losses import cross_entropy
from medward.guard.policy import Policy

CLAIMS = ("confined_perturbations_unnoticed",)
POLICY = Policy(on_error="withhold")
ALPHA, PATIENCE, ACCOUNTS = 1e-3, 300, 12
STEPS, BATCH, RATE = 300, 50, 0.05
PATCHES = (3, 5, 8)  # twenty-eighths of a side
SPOTS = (0.05, 0.1)  # of the image


def measure() -> Iterator[Claim]:
    """The highest fooling rate of all that the median account is not noticed with."""
    found = [each for name in watched.TASKS for each in confined(name)]
    hidden = [each["fooling"] for each in found if each["median"] is None]
    yield Claim(
        claim=CLAIMS[0],
        value=max(hidden, default=0.0),
        target=f"reported: the highest fooling rate of one that {PATIENCE} requests do not give away",
        met=True,
        n=ACCOUNTS,
        seed=0,
        details={"alpha": ALPHA, "perturbations": found},
    )


def confined(name: str) -> Iterator[dict[str, Any]]:
    """Of each place and size: the share of answers changed, and requests until the median account is noticed."""
    model, task = watched.victim(name)
    network = train_victim(task, seed=0)
    _, profile, traffic = watched.calibrated(name, 0, POLICY.monitor.calibration_risk)
    guard = WatchedGuard.of(model, POLICY, profile)
    before = network_decisions(network, torch.from_numpy(traffic.inputs))
    side = task.shape[-1]
    for what, where in masks(side, profile.fitted["residuals"].order, len(profile.fitted["residuals"].center)).items():
        change = crafted(network, torch.from_numpy(task.splits["train"].inputs), where)
        sent = change(traffic.inputs)
        after = network_decisions(network, torch.from_numpy(sent))
        counts = [queries(guard, sent, account) for account in range(ACCOUNTS)]
        middle = float(np.quantile(counts, 0.5, method="higher"))
        yield {
            "set": name,
            "where": what,
            "area": float(where.mean()),
            "fooling": float((after != before).float().mean()),
            "median": middle if math.isfinite(middle) else None,
        }


def masks(side: int, order: np.ndarray, buckets: int) -> dict[str, np.ndarray]:
    """Where perturbations are: ``(1, side, side)`` of 0 and 1."""
    made = {}
    for size in (max(2, round(each * side / 28)) for each in PATCHES):
        middle = (side - size) // 2
        for what, start in (("corner", 2), ("middle", middle)):
            made[f"{size} px in the {what}"] = mask = np.zeros((1, side, side), np.float32)
            mask[:, start : start + size, start : start + size] = 1
    for share in SPOTS:
        chosen = np.random.default_rng(0).permutation(buckets)[: int(share * buckets)]
        made[f"spots on {share:.0%}"] = mask = np.zeros((1, side, side), np.float32)
        mask.reshape(-1)[order.reshape(-1, buckets)[:, chosen]] = 1
    return made


def crafted(network: Any, images: torch.Tensor, where: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Replaces what is `where` by what changes most answers, whatever values that takes: Adam on the cross-entropy."""
    generator, mask = torch.Generator().manual_seed(0), torch.from_numpy(where)
    drawn = torch.full((1, *images.shape[1:]), 0.5, requires_grad=True)
    decided = network_decisions(network, images)
    optimizer = torch.optim.Adam([drawn], lr=RATE)
    for _ in range(STEPS):
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        loss = -cross_entropy(network(images[rows] * (1 - mask) + mask * drawn), decided[rows]).clamp(max=9.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            drawn.clamp_(0, 1)
    found = drawn.detach().numpy()
    return lambda sent: (sent * (1 - where) + where * found).astype(np.float32)


def queries(guard: WatchedGuard, sent: np.ndarray, account: int) -> float:
    """Requests of one account until the guard is at `ALPHA`; infinite for never."""
    order = np.random.default_rng(account).permutation(len(sent))[:PATIENCE]
    sight, digests = guard.see(sent[order])
    state: Any = None
    for query in range(len(order)):
        seen = {part: [column[query]] for part, column in sight.items()}
        state, (_, verdict, _) = guard.monitors.watch([digests[query]], seen, state)
        if verdict.evidence["peak"] >= -math.log(ALPHA):
            return query + 1
    return math.inf
