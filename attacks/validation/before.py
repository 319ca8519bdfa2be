"""The model as it was before training defended it, beside the deployed one: how alike the two decide."""

from __future__ import annotations

from medward.attacks.base import AttackData
from medward.attacks.intervals import rate_interval
from medward.attacks.learners.table import chance_accuracy, matches_labels, task_balanced_accuracy
from medward.attacks.validation.deployment import PRIVACY, ModelBefore
from medward.attacks.validation.record import TwinFacts
from medward.guard.tasks.base import Task

ALIKE, WORSE, CHANCE = 0.7, 0.1, 0.1
"""How much the model before must decide like the deployed model, how much less accurate it may be, how much better than
chance it must be in balanced accuracy."""


def compare_decisions(before: ModelBefore, theirs: AttackData, own: AttackData, task: Task) -> TwinFacts:
    """What the report says of the model before: how alike the two decide the test rows, and what training cost."""
    truth = own.test.labels
    if theirs.outputs is None or own.outputs is None or theirs.reference is None or own.reference is None:
        raise RuntimeError("shared rows know what the model says of them")
    known = truth is not None
    return TwinFacts(
        digest=before.digest,
        claim=before.claim,
        white_box=before.network is not None,
        agreement=rate_interval(theirs.reference == own.reference),
        accuracy=rate_interval(matches_labels(task, theirs.outputs, truth)) if known else None,
        balanced=task_balanced_accuracy(task, theirs.outputs, truth) if known else None,
        deployed_accuracy=rate_interval(matches_labels(task, own.outputs, truth)) if known else None,
    )


def doubt_before(model: ModelBefore, twin: TwinFacts, data: AttackData, task: Task) -> str:
    """Why fooling the twin shows nothing, if so: a weaker model would lend its weakness, one at chance falls to all.

    Noise in training may cost many decisions; that the model is the one before, its certificate says there.
    """
    if model.certified and model.claim == PRIVACY:
        return ""
    if twin.agreement.value < ALIKE:
        return f"not the model before hardening: it decides only {twin.agreement.value:.0%} of rows as the deployed one"
    before, after = twin.accuracy, twin.deployed_accuracy
    if before is not None and after is not None and before.value < after.value - WORSE:
        return f"not the model before hardening: accuracy {before.value:.0%}, the deployed one {after.value:.0%}"
    chance = chance_accuracy(task, data.test.labels)
    if twin.balanced is not None and twin.balanced <= chance + CHANCE:
        return (
            f"the model before hardening is at chance: balanced accuracy {twin.balanced:.0%}, more than "
            f"{chance + CHANCE:.0%} is needed before fooling it shows anything"
        )
    return ""
