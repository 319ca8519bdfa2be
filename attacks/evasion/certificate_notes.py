"""What a reader is told of a row of evasion where answers are certified: what counts, of how many rows, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medward.attacks.base import Access, Attack, AttackResult, Attempt
from medward.attacks.evasion.per_image import WhiteBox
from medward.attacks.learners.table import row_groups
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import BEHIND, Arm
from medward.guard.certify.network_bounds import NetworkBounds
from medward.guard.policy import Policy
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel

_UNFOLLOWED, _BY_PRODUCT = "No attacker followed the certificate", "Denial is a by-product"
_FEW = 0.5
"""The share of a class's rows below which it is said how few of them are certified."""


def counted_note(policy: Policy) -> tuple[str, ...]:
    """What counts as fooled where answers are certified, in a sentence."""
    chosen = policy.certify
    if not chosen.enabled:
        return ()
    if chosen.uncertified == "label":
        return ("An answer that is not certified leaves as its label and is one: every changed answer is counted.",)
    kept = "is marked and read by a person" if chosen.uncertified == "mark" else "is withheld"
    return (f"An answer that is not certified {kept}: among all rows, changed answers that are certified are counted.",)


def unfollowed_note(deployment: Deployment) -> tuple[str, ...]:
    """Why no attacker follows the certificate of a deployment by gradients, in a sentence; empty where one can."""
    bundle = deployment.bundle
    if not bundle.policy.certify.enabled or bundle.bounds is None:
        return ()
    if not isinstance(bundle.bounds.bounds.model, NetworkBounds):
        reason = "bounds of trees and linear models are not followed"
    elif not isinstance(bundle.model.spec.task, Classification | Multilabel):
        reason = "certificates of a number are not followed"
    elif deployment.network is None:
        reason = "there is no network to follow"
    else:
        return ()
    return (
        f"{_UNFOLLOWED} by gradients ({reason}): changed answers are judged by it, but nobody "
        "climbed it, and nobody aimed at taking it away.",
    )


def is_about_search(note: str) -> bool:
    """Whether a note says only how well certificates were attacked, which matters to nobody where a proof says more."""
    return note.startswith((_UNFOLLOWED, _BY_PRODUCT))


def byproduct_note(attack: Attack, policy: Policy | None) -> tuple[str, ...]:
    """That an attack does not aim at taking certificates away, in a sentence; empty of one that does."""
    if policy is None or not policy.certify.enabled:
        return ()
    if isinstance(attack, WhiteBox) and attack.access >= Access.GRADIENTS:
        return ()
    return (f"{_BY_PRODUCT} here: this attack does not aim at it; pgd does, where it can follow the certificate.",)


def certified_rows_note(results: Mapping[Arm, AttackResult], task: Task, policy: Policy | None) -> tuple[str, ...]:
    """Of how many rows certificates were there to be attacked, in a sentence, by name the classes with few of them.

    Empty where nothing is certified, and where answers count whether they are certified or not.
    """
    if policy is not None and policy.certify.uncertified == "label":
        return ()
    attempts = next((results[arm].attempts for arm in reversed(BEHIND) if arm in results), ())
    found = largest_attempt(attempts)
    if found is None or found.certified is None:
        return ()
    certified, kinds = found.certified, found.decided if found.classes is None else found.classes
    few = [
        f'; of class "{name}" on {int(certified[rows].sum())} of {int(rows.sum())}'
        for name, rows in row_groups(task, kinds).items()
        if certified[rows].mean() < _FEW
    ]
    return (f"Judged on {int(np.sum(certified))} certified of {len(certified)} rows{''.join(few)}.",)


def largest_attempt(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that was judged on most rows."""
    return max(attempts, key=lambda each: len(each.fooled), default=None)
