"""The peers' own membership scores, called on logits that all are given alike; nothing of theirs is in this repository.

LeakPro's attack classes are made without their constructors, which want its own data handlers, and given the logits of
target and shadows where they would read them from its cache. Privacy Meter's RMIA is a function. ART trains its attack
models on half of the candidates whose membership it is told, as its interface asks, and is scored on the others.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MISSING = (
    "membership peers: {error}; install them with `pip install --no-deps --target DIR adversarial-robustness-toolbox"
    "==1.20.1`, clone github.com/aidotse/LeakPro (c47752fa) and github.com/privacytrustlab/ml_privacy_meter (e384af8) "
    "and set MEDWARD_PEERS to the three folders, separated by {separator!r}"
)
CLIP = 1e-6


@dataclass(frozen=True)
class Observed:
    """What every attacker sees of one target: logits of the target ``(n, K)`` and of shadows ``(m, n, K)``.

    `shadow_members (m, n)` says which shadow trained on which candidate, `population` rows are candidates of nobody:
    their logits and labels are for RMIA. `truth (n,)` are the target's members, for ART's fitting half and for judging.
    """

    labels: NDArray[np.int64]
    target: Array
    shadows: Array
    shadow_members: Mask
    truth: Mask
    population_labels: NDArray[np.int64]
    population_target: Array
    population_shadows: Array


def leakpro_scores(seen: Observed) -> dict[str, Array]:
    """LeakPro's LiRA, RMIA and BASE, online and offline, at its default settings."""
    found = {}
    for online in (True, False):
        mode = "online" if online else "offline"
        found[f"LeakPro LiRA {mode}"] = _leakpro_lira(seen, online)
        found[f"LeakPro RMIA {mode}"] = _leakpro_rmia(seen, online)
        if online or len({*(~seen.shadow_members).sum(axis=0)}) == 1:
            found[f"LeakPro BASE {mode}"] = _leakpro_base(seen, online)
    return found


def privacy_meter_scores(seen: Observed) -> dict[str, Array]:
    """Privacy Meter's offline RMIA at its default a = 0.3."""
    rmia = importlib.import_module("modules.mia.attacks.rmia")
    rows = np.arange(len(seen.labels))
    target = _softmax(seen.target)[rows, seen.labels]
    shadows = _softmax(seen.shadows)[:, rows, seen.labels].T
    points = np.arange(len(seen.population_labels))
    z_target = _softmax(seen.population_target)[points, seen.population_labels]
    z_shadows = _softmax(seen.population_shadows)[:, points, seen.population_labels].T
    scores = rmia.run_rmia(target, shadows, seen.shadow_members.T, z_target, z_shadows, 0.3)
    return {"Privacy Meter RMIA offline": np.asarray(scores)}


def art_scores(seen: Observed, seed: int) -> tuple[dict[str, Array], Mask]:
    """ART's black-box attack models; also the candidates ``(n,)`` that none of them was fitted on."""
    inference = importlib.import_module("art.attacks.inference.membership_inference")
    estimators = importlib.import_module("art.estimators.classification")
    rng = np.random.default_rng(seed)
    known = np.zeros(len(seen.labels), bool)
    for side in (True, False):
        rows = np.flatnonzero(seen.truth == side)
        known[rng.permutation(rows)[: len(rows) // 2]] = True
    likely = _softmax(seen.target).astype(np.float32)
    classes = likely.shape[1]
    stand_in = estimators.BlackBoxClassifier(lambda x: np.asarray(x), (classes,), classes)  # rows are their own answers
    members, others = known & seen.truth, known & ~seen.truth
    found = {}
    for kind in ("rf", "gb", "nn"):
        np.random.seed(seed)  # noqa: NPY002  (ART draws from it)
        attack = inference.MembershipInferenceBlackBox(stand_in, attack_model_type=kind)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attack.fit(likely[members], seen.labels[members], likely[others], seen.labels[others])
            scores = attack.infer(likely, seen.labels, probabilities=True)
        found[f"ART black box {kind}"] = np.asarray(scores, np.float64).reshape(len(likely), -1)[:, -1]
    return found, ~known


def open_leakpro() -> None:
    """Let LeakPro's attacks be imported without the top of its package, which wants torchvision and text models."""
    if "leakpro" in sys.modules:
        return
    folder = next((Path(each) / "leakpro" for each in sys.path if (Path(each) / "leakpro").is_dir()), None)
    if folder is None:
        raise ModuleNotFoundError("No module named 'leakpro'")
    package = types.ModuleType("leakpro")
    package.__path__ = [str(folder)]
    sys.modules["leakpro"] = package


def _leakpro_attack(name: str, attribute: str, seen: Observed, fields: Mapping[str, Any]) -> Any:
    known = getattr(importlib.import_module(f"leakpro.attacks.mia_attacks.{name}"), attribute)
    audit = {
        "data": np.arange(len(seen.labels)),
        "in_members": np.flatnonzero(seen.truth),
        "out_members": np.flatnonzero(~seen.truth),
    }
    settings = types.SimpleNamespace(model_dump=dict)
    filled = type(attribute, (known,), {"audit_dataset": audit, "configs": settings, **fields})
    return object.__new__(filled)


def _in_order(attack: Any, seen: Observed) -> Array:
    scores = np.zeros(len(seen.labels))
    scores[seen.truth] = np.asarray(attack.in_member_signals, np.float64).ravel()
    scores[~seen.truth] = np.asarray(attack.out_member_signals, np.float64).ravel()
    return scores


def _leakpro_lira(seen: Observed, online: bool) -> Array:
    attack = _leakpro_attack(
        "lira",
        "AttackLiRA",
        seen,
        {
            "online": online,
            "var_calculation": "carlini",
            "num_shadow_models": len(seen.shadows),
            "fix_var_threshold": 32,
            "out_indices": ~seen.shadow_members,
        },
    )
    attack.target_logits = attack.rescale_logits(seen.target.copy(), seen.labels)
    attack.shadow_models_logits = np.stack([attack.rescale_logits(each.copy(), seen.labels) for each in seen.shadows])
    attack.run_attack()
    return _in_order(attack, seen)


def _leakpro_rmia(seen: Observed, online: bool) -> Array:
    temperature, offline_a, tiny = 2.0, 0.33, 1e-6
    points = np.arange(len(seen.population_labels))
    z_target = _softmax(seen.population_target / temperature)[points, seen.population_labels][None]
    z_shadows = _softmax(seen.population_shadows / temperature)[:, points, seen.population_labels]
    p_z = z_shadows.mean(axis=0, keepdims=True)
    p_z = p_z if online else 0.5 * ((offline_a + 1) * p_z + (1 - offline_a))
    attack = _leakpro_attack(
        "rmia",
        "AttackRMIA",
        seen,
        {
            "online": online,
            "temperature": temperature,
            "gamma": 2.0,
            "offline_a": offline_a,
            "epsilon": tiny,
            "ground_truth_indices": seen.labels,
            "logits_theta": seen.target,
            "logits_shadow_models": list(seen.shadows),
            "out_indices": ~seen.shadow_members,
            "ratio_z": z_target / (p_z + tiny),
        },
    )
    attack._run_attack()
    return _in_order(attack, seen)


def _leakpro_base(seen: Observed, online: bool) -> Array:
    home = importlib.import_module("leakpro.attacks.mia_attacks.base")
    attack = _leakpro_attack(
        "base",
        "AttackBASE",
        seen,
        {
            "online": online,
            "temperature": 2.0,
            "offline_scale_factor": 0.33,
            "num_shadow_models": len(seen.shadows),
            "out_indices": ~seen.shadow_members,
            "shadow_model_indices": list(range(len(seen.shadows))),
            "handler": types.SimpleNamespace(get_labels=lambda rows: seen.labels[np.asarray(rows)]),
        },
    )
    cache = types.SimpleNamespace(
        load_logits=lambda indx=None, name=None: seen.target if indx is None else seen.shadows[indx],
        target_model_hash="",
    )
    kept, home.ShadowModelHandler = home.ShadowModelHandler, lambda: cache
    try:
        attack.run_attack()
    finally:
        home.ShadowModelHandler = kept
    return _in_order(attack, seen)


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
