"""Audits of private trainings: a correct one is never refuted, a broken one is refused, and refuted where it is forced.

Each training of a small network on cardiotocograms or blood cells has `CANARIES` made-up rows, each in by a fair coin,
and one run is audited by the loss of each canary under the finished model. Broken trainings claim what the correct one
would have; the hooks that break them are the tests' (`support.private_training`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from claim import Claim
from private_training import SUBJECTS
from support.private_training import BROKEN, Broken, broken_training
from torch import nn

from medward.attacks.audit.guesses import detectable_bound, fixed_bound
from medward.attacks.audit.one_run import one_run_bound
from medward.attacks.audit.one_run_tradeoff import one_run_tradeoff_bound
from medward.guard.certificate import PrivacyCertificate
from medward.guard.data.canaries import plant_canaries
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden.private.method import PrivateTraining

CLAIMS = ("private_audit_correct", "private_audit_broken")

SEED, TRAININGS, CANARIES, RISK = 0, 24, 1000, 0.05
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


def audited(epsilon: float, seed: int, network: Any = None, **settings: Any) -> dict[str, Any]:
    """One training with canaries, and the bounds that the losses of these give."""
    subject = SUBJECTS["fetal-ctg"]()
    began = time.perf_counter()
    _, canaries = plant_canaries(subject.rows, CANARIES, seed=seed)
    method = PrivateTraining(target_epsilon=epsilon, unit="row", canaries=canaries, **settings)
    done = method.harden(
        subject.network() if network is None else network, subject.rows, subject.test, low=None, high=None, seed=seed
    )
    assert isinstance(done.certificate, PrivacyCertificate)
    return {
        **bounds_of(done.network, Split(canaries.inputs, canaries.labels), canaries.included, done.certificate),
        "balanced_accuracy": done.certificate.measured["after"],
        "seconds": time.perf_counter() - began,
    }


def bounds_of(network: nn.Module, rows: Split, included: Any, certificate: PrivacyCertificate) -> dict[str, Any]:
    """The claimed epsilon, what each bound refutes, and the most that it could have."""
    with torch.no_grad():
        logits = network(torch.from_numpy(rows.inputs))
        losses = nn.functional.cross_entropy(logits, torch.from_numpy(np.asarray(rows.labels)), reduction="none")
    scores = -losses.double().numpy()
    found: dict[str, Any] = {"epsilon": certificate.epsilon, "delta": certificate.delta}
    for name, bound in BOUNDS.items():
        found[name] = fixed_bound(bound, scores, included, risk=RISK, delta=certificate.delta)
        found[f"{name}, detectable"] = detectable_bound(bound, len(scores), risk=RISK, delta=certificate.delta)
    return found


def broken_run(kind: Broken) -> dict[str, Any]:
    """What the guard says of one broken training, and what the audit finds where it is forced through."""
    settings: dict[str, Any] = {"epochs": 60.0, "rate": 0.01}
    epsilon, network = 1.0, None
    if kind == "shuffled batches":
        settings |= {"epochs": 1.0, "batch": 20.0}
    refusal = ""
    try:
        with broken_training(kind):
            audited(epsilon, SEED, network, **settings)
    except MedwardError as error:
        refusal = str(error)
    with broken_training(kind, force=True):
        return {**audited(epsilon, SEED, network, **settings), "refusal": refusal}
