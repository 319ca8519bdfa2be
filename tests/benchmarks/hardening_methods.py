"""Every method of hardening on one model: what it keeps, certifies and withstands, whose rows show, and its time.

The small CNN of `training_interactions`, which knows its 800 training images well, is hardened by each method for the
radius that it is for in the default policy, and trained anew with differential privacy. All models are attacked bare,
at the policy's radii, on rows that nothing was trained, chosen or calibrated on. Each training is kept under out/ by
its settings and recalled, so a killed measurement goes on.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claim import Claim
from subjects import plain
from training_interactions import SEED, SIZES, few_rows, knowing_network

import medward
from medward.attacks.base import AttackData
from medward.attacks.benchmarks.victims import accuracy
from medward.attacks.families import find_family
from medward.attacks.suite import chosen_attacks
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.journal import code_version, unpack_result
from medward.attacks.validation.one_run import run_attack
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.bundle.folder import Bundle
from medward.guard.certify.certifier import Certifier
from medward.guard.data.split import Split
from medward.guard.harden import HARDENERS
from medward.guard.harden.certified.training import CertifiedTraining
from medward.guard.profile import forward_batches

CLAIMS = ("hardening_methods",)

SHARED, SINGLE, EPOCHS = 10 / 255, 4 / 255, 20
"""The radii of the default policy, of one change for all and of a change of each, and epochs of robust methods."""
TRIED = ("uap", "pgd", "membership-loss")
CELLS = Path(__file__).parents[2] / "out" / "hardening_methods"
KINDS: dict[str, Any] = {
    "retraining": SHARED,
    "uat": SHARED,
    "pgd": SINGLE,
    "trades": SINGLE,
    "certified, small": SINGLE,
    "dp, epsilon 8": 8.0,
    "dp, epsilon 1": 1.0,
}
"""Each method, with its radius or its epsilon."""


def measure() -> Iterator[Claim]:
    """One claim: the table; met where no attack on the certified model exceeds what bounds leave open."""
    torch.set_num_threads(1)
    splits = few_rows()
    network = knowing_network(splits)
    rows = {name: recalled(name, network, splits) for name in ("before", *KINDS)}
    certified = rows["certified, small"]
    room = certified["pgd"]["low"] - (1 - certified["certified"])
    yield Claim(
        claim=CLAIMS[0],
        value=room,
        target="<= 0: at its lower end PGD changes no more answers of the certified model than are not certified",
        met=room <= 0,
        n=SIZES["test"],
        seed=SEED,
        details={"methods": rows, "rows": SIZES},
    )


def recalled(name: str, network: torch.nn.Module, splits: dict[str, Split]) -> dict[str, Any]:
    """One model's row from disk, else measured and kept under a name of all that it rests on."""
    rests_on = json.dumps([name, KINDS.get(name), EPOCHS, SIZES, SEED, TRIED, code_version()])
    file = CELLS / f"{hashlib.sha256(rests_on.encode()).hexdigest()[:16]}.json"
    if not file.is_file():
        CELLS.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(measured(name, network, splits), indent=1) + "\n")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def measured(name: str, network: torch.nn.Module, splits: dict[str, Split]) -> dict[str, Any]:
    """Clean balanced accuracy, the certified share, shares fooled, the AUC of membership, and CPU seconds."""
    certifying = name.startswith("certified")
    policy = medward.Policy(on_error="withhold", certify={"enabled": certifying, "radius": 255 * SINGLE})
    with tempfile.TemporaryDirectory() as folder:
        model, seconds = (network, 0.0) if name == "before" else hardened(name, network, splits, Path(folder))
        bundle = medward.protect(
            model,
            splits["calibration"],
            policy,
            Path(folder) / "bundle",
            classes=("normal", "pneumonia"),
            output="logits",
            low=0.0,
            high=1.0,
        )
        test = splits["test"]
        scores = forward_batches(bundle.model, test.inputs).scores
        certifier = Certifier.of(bundle.bounds, bundle.policy, bundle.model.spec)
        return {
            "clean": float(accuracy(np.asarray(test.labels), bundle.model.spec.decide(scores))[1]),
            "certified": None if certifier is None else float(certifier.certify(test.inputs, scores).holds.mean()),
            "cpu_seconds": seconds,
            **attacked(bundle, splits),
        }


def hardened(name: str, network: torch.nn.Module, splits: dict[str, Split], folder: Path) -> tuple[str, float]:
    """The file of the hardened model, and the CPU seconds that `medward harden` took, its certificate included."""
    value = KINDS[name]
    method: Any
    if name.startswith("dp"):
        method = medward.PrivateTraining(target_epsilon=value, unit="row")
    elif name.startswith("certified"):
        method = CertifiedTraining(architecture="small", epsilon=value)
    else:
        known = HARDENERS[name]
        method = replace(known, epsilon=value, training=replace(known.training, epochs=EPOCHS))
    start = time.process_time()
    trained = {part: splits[part] for part in ("train", "selection")}
    medward.harden(network, trained, folder / "hardened", method, low=0.0, high=1.0, seed=SEED)
    return str(folder / "hardened" / "model.onnx"), time.process_time() - start


def attacked(bundle: Bundle, splits: dict[str, Split]) -> dict[str, Any]:
    """What each attack achieves on the bare model, with its flags."""
    spec = bundle.model.spec
    fitted = conform_splits({part: splits[part] for part in ("train", "holdout", "test")}, spec)
    shared = share_rows(bundle.model, fitted, seed=SEED)
    seen, reason = white_box(bundle.path / "model.onnx", bundle.model.predict, splits["calibration"].inputs)
    assert seen is not None, reason
    deployment = Deployment(bundle=bundle, network=seen)
    found: dict[str, Any] = {}
    for attack in chosen_attacks(spec, TRIED, None, None, threat=bundle.policy.threat):
        family = find_family(attack.family)
        held = family.holdings(deployment, shared)
        assert isinstance(held, AttackData), held
        result = unpack_result(run_attack(family, attack, "undefended", deployment, held, SEED))
        found[attack.name] = {**(plain(family.achieved(result, SEED)) or {}), "flags": result.flags}
    return found
