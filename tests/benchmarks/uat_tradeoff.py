"""Universal adversarial training on NIH: what clean accuracy buys, by the margin it is trained at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from claim import Claim
from uat import EPSILON, SEEDS, crafted, hit, unseen

from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import accuracy, train_victim
from medward.attacks.whitebox.ascent import network_decisions
from medward.guard.harden import HARDENERS

CLAIMS = ("uat_tradeoff_nih_cxr",)

MARGINS = (0.3, 0.6, 1.0, 1.4)


def measure() -> Iterator[Claim]:
    """Per margin and seed: clean balanced accuracy, and fooling by the worst fresh perturbation at 10/255."""
    points: dict[str, list[dict[str, float]]] = {f"{margin:g}": [] for margin in MARGINS}
    for seed in SEEDS["nih-cxr"]:
        task = load_task("nih-cxr", seed=seed)
        splits, twin = task.splits, train_victim(task, seed=seed)
        x, labels = unseen(task)
        before = accuracy(labels, network_decisions(twin, x).numpy())[1]
        for margin in MARGINS:
            network = (
                replace(HARDENERS["uat"], epsilon=EPSILON, margin=margin)
                .harden(twin, splits["train"], splits["selection"], low=task.low, high=task.high, seed=seed)
                .network
            )
            own = network_decisions(network, x)
            hits = [
                hit(network, goal, delta, x, own, labels)
                for goal, delta in crafted(network, task, EPSILON, seed).items()
            ]
            clean = accuracy(labels, own.numpy())[1]
            points[f"{margin:g}"].append(
                {
                    "clean": clean,
                    "lost": before - clean,
                    "fooled": max(float(each.fooled.mean()) for each in hits),
                    "balanced_accuracy_under_the_worst": min(each.balanced for each in hits),
                }
            )
    means = {
        margin: {key: float(np.mean([each[key] for each in found])) for key in found[0]}
        for margin, found in points.items()
    }
    cheap = {margin: mean["fooled"] for margin, mean in means.items() if mean["lost"] <= 0.02}
    yield Claim(
        claim="uat_tradeoff_nih_cxr",
        value=min(cheap.values()) if cheap else 1.0,
        target="reported: the least fooling (mean of seeds) among margins that cost <= 0.02 of clean balanced accuracy",
        met=bool(cheap),
        n=len(SEEDS["nih-cxr"]),
        details={"margins": means, "seeds": points},
    )
