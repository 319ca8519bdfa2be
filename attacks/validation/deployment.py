"""What is validated: a bundle, its model as a network, and the same model without the defense that training gave it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from medward.attacks.base import Attack
from medward.attacks.target import Clock, Decide, Oracle, Target, guarded_oracle, open_oracle
from medward.attacks.validation.finding import Arm
from medward.attacks.validation.traffic import DeclaredTraffic
from medward.attacks.validation.transcript import Transcripts
from medward.guard.accounts.budget import Offers
from medward.guard.accounts.stores import MemoryStore
from medward.guard.answering import release_settings
from medward.guard.bundle.folder import Bundle
from medward.guard.certificate import PrivacyCertificate
from medward.guard.certify.certifier import Certifier
from medward.guard.data.canaries import CanarySet
from medward.guard.data.coin_flip import MembershipManifest
from medward.guard.models.base import Model, WrappedModel
from medward.guard.pipeline import Guard
from medward.guard.tasks.base import offers
from medward.guard.tasks.opaque import Opaque
from medward.guard.types import Array, Ints

if TYPE_CHECKING:
    import torch

ROBUSTNESS, PRIVACY = "robustness", "privacy"
"""The claims of certificates of hardening; see `guard.certificate`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBefore:
    """The model as it was before training defended it: `model` under the bundle's specification, and its SHA-256.

    `network` is the same model as a torch module in eval mode, None for `no_network`'s reason. `claim` is what the
    certificate says that training brought; only families that this defends against are judged on the model before.
    `certified` says whether the certificate names the very file that this model was given as.
    """

    model: Model
    digest: str
    network: torch.nn.Module | None = None
    no_network: str = "no differentiable form of it was given"
    claim: str = ROBUSTNESS
    certified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployment is what a validation is about: a `bundle` and what its attackers may know of it.

    `network` is the deployed model as a torch module in eval mode, None for `no_network`'s reason. `before` is the
    model without its training-time defense, where there is one. `decide` reads the outputs of an opaque model; without
    it there is no decision that an attack could change. `privacy` is the certificate of its training, `manifest` and
    `canaries` who was trained on by the coin, where there are any. `traffic` is what the site said of its own.
    `transcripts` are what its guard was asked already.
    """

    bundle: Bundle
    network: torch.nn.Module | None = None
    no_network: str = "no differentiable form of the model was given"
    before: ModelBefore | None = None
    decide: Decide | None = None
    privacy: PrivacyCertificate | None = None
    manifest: MembershipManifest | None = None
    canaries: CanarySet | None = None
    traffic: DeclaredTraffic | None = None
    transcripts: Transcripts = field(default_factory=Transcripts, repr=False, compare=False)

    @property
    def readable(self) -> bool:
        """Whether anybody can say what the model decides: its task, or `decide`."""
        return self.decide is not None or not isinstance(self.bundle.model.spec.task, Opaque)

    def decided(self, outputs: Array) -> Ints:
        """The decisions ``(n,)`` on a model's outputs."""
        return (self.decide or self.bundle.model.spec.decide)(outputs)

    def answer_prices(self, outputs: Array | None) -> Offers:
        """The levels that an ordinary answer may leave at with their bits, finest first, as the guard charges them.

        `outputs (n, ...)` are some of the model's; without any there are no prices.
        """
        if outputs is None or not len(outputs):
            return ()
        bundle, policy = self.bundle, self.bundle.policy
        settings = release_settings(policy, bundle.profile.codebook, bundle.profile.pools)
        found = offers(bundle.model.spec.task, np.asarray(outputs[:1]), policy.release.default, settings)
        certifier = Certifier.of(bundle.bounds, policy, bundle.model.spec)
        return found if certifier is None else tuple((each, bits + certifier.bits(each)) for each, bits in found)

    def before_claim(self, claim: str) -> ModelBefore | None:
        """The model before training brought what `claim` says; None where it brought no such thing."""
        return self.before if claim and self.before is not None and self.before.claim == claim else None

    def bare_before(self) -> Deployment:
        """The model before training in the place of the deployed one, which has nothing before it.

        Raises `ValueError` without one.
        """
        if self.before is None:
            raise ValueError("there is no model before")
        bundle = replace(self.bundle, model=cast(WrappedModel, self.before.model))  # attacks only ask it
        return replace(self, bundle=bundle, network=self.before.network, no_network=self.before.no_network, before=None)


def queried_target(deployment: Deployment, arm: Arm, attack: Attack, *, claim: str = "") -> Target:
    """A target that is asked questions: the bare model undefended, else the guard, as with an empty memory.

    For a family that training defends (`claim`) the bare model is the one before, and the plain attack behind the guard
    is given that one's network too: its examples must not transfer better than those of the deployed one.
    """
    bundle, before = deployment.bundle, deployment.before_claim(claim)
    spec = bundle.model.spec
    if arm == "undefended":
        bare = deployment if before is None else before
        oracle = open_oracle(bundle.model if before is None else before.model, deployment.decide)
        return Target(spec, oracle, attack.threat, network=bare.network)
    accounts, per_day = attack.threat.accounts, attack.threat.per_day

    def opened() -> Oracle:
        clock = Clock()
        return guarded_oracle(
            fresh_guard(bundle, clock=clock),
            fresh=accounts is None,
            accounts=accounts or 1,
            clock=clock,
            per_day=per_day,
            decide=deployment.decide,
        )

    same = (id(bundle), id(deployment.decide), accounts, per_day)  # `opened` keeps both alive, so names stay theirs
    oracle = deployment.transcripts.oracle(same, opened)
    twin = None if before is None or arm != "guarded" else before.network
    return Target(
        spec,
        oracle,
        attack.threat,
        network=deployment.network,
        profile=bundle.profile,
        twin=twin,
        certifier=Certifier.of(bundle.bounds, bundle.policy, spec),
    )


def fresh_guard(bundle: Bundle, **settings: Any) -> Guard:
    """The guard of `bundle` with an empty memory, for attacks: the same run is the same, and nothing outlives it.

    `settings` are those of `Guard`; its memory goes by their clock.
    """
    store = MemoryStore(**{name: each for name, each in settings.items() if name == "clock"})
    return bundle.guard(store=store, salt=b"", ephemeral=True, **settings)
