"""Audits of private trainings: a correct one is never refuted, a broken one is refused, and refuted where it is forced.

Each training of a small network on cardiotocograms has made-up rows, each in by a fair coin, and one run is audited by
the loss of each canary under the finished model; batch statistics are audited by what they hold of each canary. Broken
trainings claim what the correct one would have; the hooks that break them are the tests' (`support.private_training`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from claim import Claim
from private_training import SUBJECTS
from scipy.ndimage import gaussian_filter
from support.private_training import BROKEN, Broken, broken_training
from torch import nn

from medward.attacks.audit.guesses import detectable_bound, fixed_bound
from medward.attacks.audit.one_run import one_run_bound
from medward.attacks.audit.one_run_tradeoff import one_run_tradeoff_bound
from medward.guard.data.canaries import CanarySet, plant_canaries
from medward.guard.errors import MedwardError
from medward.guard.harden.private.method import PrivateTraining

CLAIMS = ("private_audit_correct", "private_audit_broken")

SEED, TRAININGS, CANARIES, FEW, RISK = 0, 24, 1000, 300, 0.05
EPSILONS = (1.0, 3.0, 8.0)
BOUNDS = {"one run": one_run_bound, "one run, trade-off": one_run_tradeoff_bound}


def measure() -> Iterator[Claim]:
    """Both claims."""
    torch.set_num_threads(1)
    runs = [audited(EPSILONS[each % len(EPSILONS)], SEED + each) for each in range(TRAININGS)]
    above = [run for run in runs if any(run[name] > run["epsilon"] for name in BOUNDS)]
    yield Claim(
        claim="private_audit_correct",
        value=len(above),
        target="0 of at least 20 correct trainings whose lower bound (95 %) exceeds the claimed epsilon",
        met=not above and len(runs) >= 20,
        n=len(runs),
        seed=SEED,
        details={"canaries": CANARIES, "runs": runs},
    )
    broken = {kind: broken_run(kind) for kind in BROKEN}
    caught = [kind for kind, run in broken.items() if any(run[name] > run["epsilon"] for name in BOUNDS)]
    refused = [kind for kind, run in broken.items() if run["refusal"]]
    yield Claim(
        claim="private_audit_broken",
        value=len(caught),
        target="all 4 broken trainings refused by the guard; at least 3 caught by the audit where they are forced",
        met=len(refused) == len(BROKEN) and len(caught) >= 3,
        n=len(BROKEN),
        seed=SEED,
        details={"canaries": CANARIES, "caught": caught, "runs": broken},
    )


def audited(epsilon: float, seed: int, canary_count: int = CANARIES, **settings: Any) -> dict[str, Any]:
    """One training with canaries on cardiotocograms, and the bounds that the losses of these give."""
    subject = SUBJECTS["fetal-ctg"]()
    _, canaries = plant_canaries(subject.rows, canary_count, seed=seed)
    method = PrivateTraining(target_epsilon=epsilon, unit="row", canaries=canaries, **settings)
    network = nn.Sequential(nn.Linear(21, 256), nn.ReLU(), nn.Linear(256, 3))
    done = method.harden(network, subject.rows, subject.test, low=None, high=None, seed=seed)
    return {**bounds_of(-canary_losses(done.network, canaries), canaries, done.certificate), **_accuracy(done)}


def audited_statistics(epsilon: float, seed: int, canary_count: int = FEW) -> dict[str, Any]:
    """One training of a net that normalises pixels by the batch, audited by what its running mean holds of each canary.

    Canaries are noise, and chest images are smooth: what is not smooth in the mean leans to the canaries that went by.
    """
    subject = SUBJECTS["pneumoniamnist"]()
    rows = subject.rows.take(np.arange(600))
    _, canaries = plant_canaries(rows, canary_count, seed=seed)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 2))
    method = PrivateTraining(target_epsilon=epsilon, unit="row", canaries=canaries, start="pretrained", batch=len(rows))
    done = method.harden(network, rows, subject.test, low=0.0, high=1.0, seed=seed)
    held = dict(done.network.named_buffers())
    mean = next(value for name, value in held.items() if name.endswith("running_mean")).double().numpy()
    rough = (mean.reshape(28, 28) - gaussian_filter(mean.reshape(28, 28), 1.0)).ravel()
    scores = (canaries.inputs.reshape(canary_count, -1).astype(np.float64) - 0.5) @ rough
    return {**bounds_of(scores, canaries, done.certificate), **_accuracy(done)}


def canary_losses(network: nn.Module, canaries: CanarySet) -> Any:
    """Cross-entropy of each canary, in double precision."""
    with torch.no_grad():
        logits = network(torch.from_numpy(canaries.inputs)).double()
    return nn.functional.cross_entropy(logits, torch.from_numpy(np.asarray(canaries.labels)), reduction="none").numpy()


def bounds_of(scores: Any, canaries: CanarySet, certificate: Any) -> dict[str, Any]:
    """The claimed epsilon, what each bound refutes, and the most that it could have."""
    found: dict[str, Any] = {"epsilon": certificate.epsilon, "delta": certificate.delta, "canaries": len(scores)}
    for name, bound in BOUNDS.items():
        found[name] = fixed_bound(bound, scores, canaries.included, risk=RISK, delta=certificate.delta)
        found[f"{name}, detectable"] = detectable_bound(bound, len(scores), risk=RISK, delta=certificate.delta)
    return found


def broken_run(kind: Broken) -> dict[str, Any]:
    """What the guard says of a broken training, what the audit finds where it is forced, and if nothing is broken."""
    settings: dict[str, Any] = {"canary_count": FEW, "epochs": 250.0}
    if kind == "shuffled batches":
        settings |= {"epochs": 4.0, "batch": 8.0, "rate": 0.5, "average": 0.0}
    run = (
        partial(audited_statistics, 1.0, SEED)
        if kind == "batch statistics"
        else partial(audited, 1.0, SEED, **settings)
    )
    correct = run()
    refusal = ""
    try:
        with broken_training(kind):
            run()
    except MedwardError as error:
        refusal = str(error)
    with broken_training(kind, force=True):
        return {**run(), "refusal": refusal, "correct": {name: correct[name] for name in BOUNDS}}


def _accuracy(done: Any) -> dict[str, float]:
    return {"balanced_accuracy": done.certificate.measured["after"]}
