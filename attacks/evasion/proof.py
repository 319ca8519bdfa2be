"""What certificates prove of every attack within their radius: no search need be strong where nothing can be found.

Let x be a row, R the policy's radius and x' what an attacker makes of x, no value of which he changes by more than R.
Where x' is certified, the model decides every input within R of x' as it does x', and x is one of them: **a certified
answer is never a changed one**. Where x is certified within 2 R, what bounds say of x' lies within what they say of the
larger box around x (interval arithmetic is inclusion isotonic, up to rounding), so x' is certified, too: **he can take
away no certificate but those that end between R and 2 R**. That screens refuse x' is not bounded by this.

It is as good as the bounds, so they are built anew from the bundle's model, and what attacks find is held against it:
one changed answer among certified ones contradicts it.

Source: Moore, Kearfott and Cloud, "Introduction to interval analysis", SIAM 2009, sec. 5.4 (inclusion isotonicity).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from medward.attacks.base import Attack, AttackData
from medward.attacks.evasion.fooled_share import counted_classes
from medward.attacks.evasion.per_image import PerImage
from medward.attacks.evasion.universal import UniversalAttack
from medward.attacks.intervals import Interval, larger_rate
from medward.attacks.validation.certified_share import patient_classes, rates_by_class
from medward.attacks.validation.deployment import Deployment
from medward.attacks.whitebox.ball import Ball
from medward.guard.bundle.bounds import are_made_anew
from medward.guard.certify.certifier import Certifier
from medward.guard.certify.rounding import rounded_up
from medward.guard.models.base import first_line
from medward.guard.policy import GatePolicy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateProof:
    """A certificate proof bounds what any attack within the certified radius can do to the rows that are judged.

    `deniable` is the share of rows that can lose their certificate at all, plain or balanced over classes, whichever is
    larger, `deniable_classes` that of each class. Changed answers among certified ones there are none.
    """

    deniable: Interval
    deniable_classes: Mapping[str, Interval]

    def bounds_denial(self, gate: GatePolicy) -> bool:
        """Whether nobody can take away more certificates than `gate` allows; of classes the lower ends are asked."""
        classes = self.deniable_classes.values()
        return self.deniable.high <= gate.denied and all(share.low <= gate.denied for share in classes)


def find_certifier(deployment: Deployment) -> tuple[Certifier | None, str]:
    """What certifies the answers of a deployment, if proofs follow from it, else None and why not, in a sentence.

    The reason is empty where nothing is certified, where answers that are not certified count as well, and of models
    that give no classes or findings: a number that was told in cells may seem to move farther than it did.
    """
    bundle = deployment.bundle
    spec, policy = bundle.model.spec, bundle.policy
    if policy.certify.uncertified == "label" or not isinstance(spec.task, Classification | Multilabel):
        return None, ""
    certifier = Certifier.of(bundle.bounds, policy, spec)
    if certifier is None or bundle.bounds is None:
        return None, ""
    if not are_made_anew(bundle.bounds, bundle.model):
        return None, (
            "Nothing is held by proof: the bundle's bounds are not those that this version builds of its model; "
            "protect the model again."
        )
    return certifier, ""


def with_certificates(data: AttackData, deployment: Deployment) -> AttackData:
    """The `data` with what certifies the deployment's answers and how far those on "test" are certified.

    Without, where nothing is proven by them, and then with a note that says why.
    """
    certifier, reason = find_certifier(deployment)
    radius = None
    if certifier is not None and data.outputs is not None:
        try:
            radius = certifier.certify(data.test.inputs, data.outputs).radius
        except Exception as error:  # of whatever runs the bounds; the guard's own answers say so, too
            reason = f"Nothing is held by proof: the bounds fail on rows of test: {first_line(error)}"
    return replace(
        data,
        certifier=None if radius is None else certifier,
        certified_radius=radius,
        notes=(*data.notes, *filter(None, (reason,))),
    )


def find_proof(attack: Attack, data: AttackData, spec: ModelSpec) -> CertificateProof | None:
    """The proof against `attack`, judged on "test" of `data`; None where it goes farther than certificates do.

    Of a table the radius of every column is compared, categories and columns that stay among them.
    """
    certifier, radius, decided = data.certifier, data.certified_radius, data.reference
    if certifier is None or radius is None or decided is None or not len(radius):
        return None
    if not isinstance(attack, PerImage | UniversalAttack) or not _within(attack, data, spec, certifier):
        return None
    deniable = np.asarray((radius >= certifier.asked) & (radius < 2 * certifier.asked))
    labels = data.test.labels
    return CertificateProof(
        deniable=larger_rate([(deniable, counted_classes(spec.task, decided, labels))]),
        deniable_classes=rates_by_class(spec.task, [(deniable, patient_classes(spec.task, decided, labels))]),
    )


def _within(attack: PerImage | UniversalAttack, data: AttackData, spec: ModelSpec, certifier: Certifier) -> bool:
    """Whether the attacker may change no value by more than the policy's radius."""
    held = attack.held(data) if isinstance(attack, UniversalAttack) else data
    ball = Ball.of(spec, held.craft.inputs, attack.epsilon, norm=attack.norm, rules=attack.rules)
    most = rounded_up(np.asarray(certifier.asked * certifier.scale, np.float64))
    return bool((cast(Array, ball.radius.numpy()) <= most).all())
