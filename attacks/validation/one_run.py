"""One run of one attack, packed for the journal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medward.attacks.base import Attack, AttackData, AttackResult, Examination
from medward.attacks.target import AccessDeniedError, BudgetSpentError, Target
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.family import Family
from medward.attacks.validation.finding import Arm
from medward.attacks.validation.journal import pack_result
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array


def run_attack(family: Family, attack: Attack, arm: Arm, deployment: Deployment, data: AttackData, seed: int) -> Any:
    """One arm of one attack, packed for the journal. An attack that cannot run is a flag, not a crash."""
    target = family.target(deployment, arm, attack, data)
    try:
        result = _checked(attack.run(target, data, seed=seed), arm)
    except (MedwardError, AccessDeniedError, BudgetSpentError) as error:
        result = AttackResult(outcome=np.zeros(0, bool), flags=(f"the {arm} run could not be done: {error}",))
    images = {**result.images, **_example(result, data.test.inputs, target.spec)}
    queries = max(result.queries, target.queries)
    return pack_result(replace(result, queries=queries, contradictions=target.contradictions, images=images))


def examine_attack(attack: Attack, examination: Examination, spec: ModelSpec, seed: int) -> Any:
    """One attack on a model of the examiner, packed for the journal; judged on no row where it cannot run."""
    try:
        oracle, data = examination.prepare()
        result = _checked(attack.run(Target(spec, oracle, attack.threat), data, seed=seed), "undefended")
    except (MedwardError, AccessDeniedError, BudgetSpentError) as error:
        result = AttackResult(outcome=np.zeros(0, bool), flags=(f"{examination.name} could not be examined: {error}",))
    return pack_result(replace(result, curves={}, images={}))


def _checked(result: AttackResult, arm: Arm) -> AttackResult:
    """`result`, or one judged on no row and flagged when an outcome of it is not a finite number."""
    for what, values in (("outcomes", result.outcome), ("baseline outcomes", result.baseline)):
        if values is not None and (bad := int((~np.isfinite(values)).sum())):
            flag = f"{bad} of {len(values)} {what} of the {arm} run are not finite numbers"
            return replace(result, outcome=np.zeros(0, bool), baseline=None, flags=(*result.flags, flag))
    return result


def _example(result: AttackResult, inputs: Array, spec: ModelSpec) -> dict[str, Array]:
    """The first fooled image without and with a universal perturbation, if there is one."""
    delta = result.images.get("perturbation")
    if spec.modality != "image" or delta is None or delta.shape != spec.shape:
        return {}
    fooled = int(np.argmax(result.outcome)) if len(result.outcome) == len(inputs) else 0
    clean = inputs[fooled]
    return {"clean": clean, "perturbed": np.clip(clean + delta, spec.low, spec.high)}
