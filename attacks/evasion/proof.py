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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medward.attacks.base import Attack, AttackData
from medward.attacks.evasion.fooled_share import counted_classes
from medward.attacks.evasion.per_image import PerImage
from medward.attacks.evasion.universal import UniversalAttack
from medward.attacks.intervals import Interval, larger_rate
from medward.attacks.validation.certified_share import patient_classes, rates_by_class
from medward.attacks.validation.deployment import Deployment
from medward.attacks.whitebox.ball import WHOLE_STEP, Ball
from medward.guard.bundle.bounds import are_made_anew
from medward.guard.certify.certifier import Certifier
from medward.guard.certify.rounding import rounded_up
from medward.guard.columns import encoded_names
from medward.guard.models.base import first_line
from medward.guard.policy import GatePolicy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel

_OWN = "medward.attacks."


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateProof:
    """A certificate proof bounds what any attack within the certified radius can do to the rows that are judged.

    `deniable` is the share of the certified rows that can lose their certificate at all, plain or balanced over
    classes, whichever is larger, `deniable_classes` that of each class. Changed answers among certified ones there are
    none.
    """

    deniable: Interval
    deniable_classes: Mapping[str, Interval]

    @property
    def most_deniable(self) -> float:
        """The largest upper end, of all rows and of those of each class: some attacks are judged on single classes."""
        return max(share.high for share in (self.deniable, *self.deniable_classes.values()))

    def bounds_denial(self, gate: GatePolicy) -> bool:
        """Whether nobody can take away more certificates than `gate` allows; of classes the lower ends are asked."""
        classes = self.deniable_classes.values()
        return self.deniable.high <= gate.denied and all(share.low <= gate.denied for share in classes)


def with_certificates(data: AttackData, deployment: Deployment) -> AttackData:
    """The `data` with what certifies the deployment's answers, and how far those on "test" are certified.

    The latter only where proofs follow from it: the bounds are those that this version builds of the model, they do not
    fail, and rows are not all decided alike. A note says where they do not. Nothing is added where nothing is
    certified, where answers that are not certified count as well, and of models that give no classes or findings: a
    number that was told in cells may seem to move farther than it did.
    """
    bundle = deployment.bundle
    spec, policy = bundle.model.spec, bundle.policy
    if policy.certify.uncertified == "label" or not isinstance(spec.task, Classification | Multilabel):
        return data
    certifier = Certifier.of(bundle.bounds, policy, spec)
    if certifier is None or bundle.bounds is None:
        return data
    radius, reason = None, ""
    decided = data.reference
    if not are_made_anew(bundle.bounds, bundle.model):
        reason = "the bundle's bounds are not those that this version builds of its model; protect the model again"
    elif decided is not None and len(decided) and (decided == decided[0]).all():
        reason = "all rows of test are decided alike, and a model with one answer is certified everywhere"
    elif data.outputs is not None:
        try:
            radius = certifier.certify(data.test.inputs, data.outputs).radius
        except Exception as error:  # of whatever runs the bounds; the guard's own answers say so, too
            reason = f"the bounds fail on rows of test: {first_line(error)}"
    note = (f"Nothing is held by proof: {reason}.",) if reason else ()
    return replace(data, certifier=certifier, certified_radius=radius, notes=(*data.notes, *note))


def find_proof(attacks: Sequence[Attack], data: AttackData, spec: ModelSpec) -> CertificateProof | None:
    """The proof against all of `attacks`, judged on "test" of `data`; None where one goes beyond certificates.

    None as well where no row is certified.
    """
    certifier, radius, decided = data.certifier, data.certified_radius, data.reference
    if certifier is None or radius is None or decided is None or not (radius >= certifier.asked).any():
        return None
    if beyond_certificates(attacks, data, spec):
        return None
    sure = radius >= certifier.asked
    deniable, decided = (radius < 2 * certifier.asked)[sure], decided[sure]
    labels = None if data.test.labels is None else np.asarray(data.test.labels)[sure]
    return CertificateProof(
        deniable=larger_rate([(deniable, counted_classes(spec.task, decided, labels))]),
        deniable_classes=rates_by_class(spec.task, [(deniable, patient_classes(spec.task, decided, labels))]),
    )


def beyond_certificates(attacks: Sequence[Attack], data: AttackData, spec: ModelSpec) -> str:
    """Where one of `attacks` goes farther than certificates do, in words; empty where none does.

    The radius of every value is compared, columns of a table that stay among them. Attacks of other packages are taken
    to go beyond, for nobody here knows what they do.
    """
    certifier = data.certifier
    assert certifier is not None
    most = rounded_up(np.asarray(certifier.asked * certifier.scale, np.float64))
    for attack in attacks:
        if not isinstance(attack, PerImage | UniversalAttack) or not type(attack).__module__.startswith(_OWN):
            return f"{attack.name} is of another package"
        held = attack.held(data) if isinstance(attack, UniversalAttack) else data
        ball = Ball.of(spec, held.craft.inputs, attack.epsilon, norm=attack.norm, rules=attack.rules)
        reach = np.asarray(ball.radius.numpy())
        if ball.whole is not None:  # whole steps that are longer than the radius are not taken
            reach = np.where(ball.whole.numpy() & (reach < 1 - WHOLE_STEP), 0.0, reach)
        reach, most = np.broadcast_arrays(reach, most)
        if (reach <= most).all():
            continue
        place = int(np.argmax((reach - most).ravel()))
        names = encoded_names(spec.columns) if spec.modality == "tabular" else ()
        where = f' in "{names[place]}"' if names else ""
        far, near = reach.ravel()[place], most.ravel()[place]
        return f"it goes {far:.3g} far{where} and certificates {near:.3g}, in units of inputs"
    return ""
