"""What an evasion run needs before it starts: gradients to follow, a ball to stay in, rows and decisions.

A network that declares it needs them is seen through BPDA and EOT (`attacks.whitebox.network.as_attacker_sees`).
Without white-box access the gradients come from a surrogate trained on the target's answers to the craft
rows. Success is always judged by asking the target: a row counts when the answer is a success by the
attack's criterion, never when it is withheld. An attacker
who knows the screens asks about each image that is refused a second time, with the change cut to 8-bit steps: screens
may look for values that no benign image file holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.base import Access, AttackData
from medward.attacks.checks import CHECKED_ROWS, dead_screens, evasion_flags
from medward.attacks.evasion.asking import AskedRows, Bools, asked_rows, clean_rows
from medward.attacks.evasion.surrogates import learned_network
from medward.attacks.target import AccessDeniedError, Target
from medward.attacks.whitebox.ascent import cut_to_steps, network_decisions
from medward.attacks.whitebox.ball import Ball, FeatureRules, Norm
from medward.attacks.whitebox.certificate import CertifiedNetwork, followed_certificate
from medward.attacks.whitebox.certified_change import CertifiedChange
from medward.attacks.whitebox.criterion import Criterion
from medward.attacks.whitebox.forward import scores_and_features
from medward.attacks.whitebox.network import Detector, as_attacker_sees
from medward.attacks.whitebox.search import Search
from medward.guard.data.labels import Labels
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array

FACTORS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Of the radius: how far an attacker goes. Screens see a small change less, so the largest may not be the worst."""
NO_ROWS = "no rows: there is no test row this attack could win on"
_LEVELS = 255  # steps of an 8-bit image
TRANSFER = "transfer: gradients come from a surrogate trained on the target's answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvasionSetup:
    """An evasion setup holds rows ``(n, *shape)``, the decisions on them ``(n,)``, and what an attack needs besides.

    `criterion` is what success is; test rows that it leaves nothing to win on are left out. `withheld` is the share of
    clean test rows that were.
    `certificate` is what certifies answers, as an attacker who knows it can follow it, and `hidden_certificate` why he
    cannot. `uncertified (n,)` are the test rows of which nothing is proven as they are, None where nobody certifies.
    `truth (n,)` is what the test rows are labelled, where that is known; for judging only. `twin` is the network
    before hardening, where there is one. `blind` says why an attacker who should know the screens has no `detector`;
    `step` is what 8-bit images differ by, for one who has.
    """

    network: nn.Module
    criterion: Criterion
    transfer: bool
    detector: Detector | None
    blind: str
    step: float | None
    ball: Ball
    craft: Tensor
    craft_labels: Tensor
    test: Tensor
    test_labels: Tensor
    truth: Tensor | None
    twin: nn.Module | None
    withheld: float
    uncertified: Bools | None = None
    certificate: CertifiedNetwork | None = None
    hidden_certificate: str = ""

    @classmethod
    def set(
        cls,
        target: Target,
        data: AttackData,
        criterion: Criterion,
        *,
        epsilon: float,
        rate: float | None,
        device: str,
        seed: int,
        norm: Norm = "inf",
        rules: FeatureRules | None = None,
    ) -> EvasionSetup:
        """Ask about the clean rows and find gradients; with `rate`, know the detector too, where there is
        one.

        Raises `MedwardError` for a radius that is negative or not finite, and for a rule on no feature.
        """
        x = np.asarray(data.craft.inputs, np.float32)
        craft = torch.as_tensor(x, device=device)
        network, labels, transfer = _gradients(target, data.craft, criterion, device, seed)
        test_labels, withheld, unproven = _decisions(target, network, criterion, data, device)
        test, truth, twin = torch.as_tensor(np.asarray(data.test.inputs, np.float32)), data.test.labels, target.twin
        rows = criterion.open(test_labels)
        detector, blind = (None, "") if rate is None else _detector(target, network, craft[:2], rate)
        certificate, hidden = (None, "") if rate is None or transfer else _certificate(target, network, x)
        return cls(
            network=network,
            criterion=criterion,
            transfer=transfer,
            detector=detector,
            blind=blind,
            step=None if detector is None else _step(target.spec),
            ball=Ball.of(target.spec, x, epsilon, norm=norm, rules=rules).to(craft.device),
            craft=craft,
            craft_labels=labels,
            test=test.to(device)[rows],
            test_labels=test_labels[rows],
            truth=None if truth is None else torch.as_tensor(truth, device=device)[rows],
            twin=None if twin is None else as_attacker_sees(twin.to(device), target.spec),
            withheld=withheld,
            uncertified=None if unproven is None else unproven[rows.cpu().numpy()],
            certificate=certificate,
            hidden_certificate=hidden,
        )

    def search(
        self, ball: Ball | None = None, generator: torch.Generator | None = None, criterion: Criterion | None = None
    ) -> Search:
        """The frame of a search for changes in `ball`, the setup's own if None; so too `criterion`.

        It is on the network, or where the `criterion` is about the certificate, on that.
        """
        criterion = self.criterion if criterion is None else criterion
        network, detector = self.network, self.detector
        if isinstance(criterion, CertifiedChange):
            assert self.certificate is not None
            network = self.certificate
            detector = None if detector is None else replace(detector, columns=criterion.count)
        return Search(
            network,
            criterion,
            self.ball if ball is None else ball,
            torch.Generator() if generator is None else generator,
            detector,
            stop=criterion.lasting and not self.transfer,
        )

    def against_certificate(self, criterion: Criterion | None = None, *, deny: bool = False) -> CertifiedChange | None:
        """What success against the certificate is, where the `criterion` (the setup's own) counts; None without one.

        With `deny` success is a clean decision that it no longer holds.
        """
        if self.certificate is None:
            return None
        plain = self.criterion if criterion is None else criterion
        task = self.certificate.spec.task
        return CertifiedChange(plain, len(task.names), findings=isinstance(task, Multilabel), deny=deny)

    def labels(self, criterion: Criterion) -> Labels | None:
        """What the rows that a `criterion` leaves open are labelled ``(m,)``, where that is known."""
        if self.truth is None:
            return None
        return np.asarray(self.truth[criterion.open(self.test_labels, self.truth)].cpu().numpy())

    def unproven(self, criterion: Criterion) -> Bools | None:
        """Of the rows that a `criterion` leaves open those that are not certified ``(m,)``; None without proofs."""
        if self.uncertified is None:
            return None
        return np.asarray(self.uncertified[criterion.open(self.test_labels, self.truth).cpu().numpy()])

    def flags(
        self,
        target: Target,
        seed: int,
        *,
        adversarial: Tensor | None = None,
        universal: bool = False,
        steps: int | None = None,
    ) -> tuple[str, ...]:
        """What is wrong with the gradients at hand, the model's and the screens', and with what a run made of them.

        `adversarial (n, *shape)` are the test rows as a run of so many `steps` changed them, `universal` when by one
        change for all.
        """
        flags = [f"the attacker could not use the screens: {self.blind}"] if self.blind else []
        if self.hidden_certificate:
            flags.append(f"the attacker could not follow the certificate: {self.hidden_certificate}")
        search = self.search(generator=torch.Generator().manual_seed(seed))
        flags += dead_screens(search, self.craft[:CHECKED_ROWS])
        if self.transfer:
            if target.threat.access >= Access.GRADIENTS:
                flags.append("no white-box network: only a transfer attack was possible")
            return tuple(flags)
        bare = replace(search, detector=None, generator=torch.Generator().manual_seed(seed))
        own = bare.decided(self.test[:CHECKED_ROWS])
        rows = torch.nonzero(self.criterion.open(own))[:, 0]  # the network may decide a row otherwise than the target
        return *flags, *evasion_flags(
            bare,
            self.test[rows],
            own[rows],
            craft=self.craft,
            modality=target.spec.modality,
            seed=seed,
            thorough=self.detector is None,
            twin=self.twin,
            adversarial=None if adversarial is None else adversarial[rows],
            universal=universal,
            steps=steps,
        )

    def asked(
        self, target: Target, x: Tensor, adversarial: Tensor, y: Tensor, criterion: Criterion | None = None
    ) -> AskedRows:
        """Ask the target: which rows, clean decided as `y (n,)`, are answered as a success, by the setup's criterion.

        With a `step` the rows that it refuses are asked again with their change from `x` in whole steps.
        """
        criterion = self.criterion if criterion is None else criterion
        found = asked_rows(target, adversarial, y, criterion)
        still = found.refused
        rest = torch.as_tensor(still, device=x.device)
        if self.step is None or not rest.any():
            return found
        return found.then(
            still, asked_rows(target, cut_to_steps(adversarial[rest], x[rest], self.step), y[rest], criterion)
        )

    def fooled(
        self, target: Target, x: Tensor, adversarial: Tensor, y: Tensor, criterion: Criterion | None = None
    ) -> Bools:
        """Ask the target: which rows are answered as a success."""
        return self.asked(target, x, adversarial, y, criterion).fooled


def knowledge_words(access: Access, rate: float | None) -> str:
    """The threat model in words."""
    what = "white-box: weights and gradients" if access >= Access.GRADIENTS else TRANSFER
    return what if rate is None else f"{what}; knows the screens and their threshold at rate {rate:g}"


def balls_within(ball: Ball) -> tuple[tuple[float, Ball], ...]:
    """The balls that are tried, the smallest first, each with its share of the radius; the last is `ball` itself."""
    return tuple((factor, ball.scaled(factor)) for factor in FACTORS)


def _step(spec: ModelSpec) -> float | None:
    """What neighbouring values of an 8-bit image differ by, in input units; None where that means nothing."""
    if spec.modality != "image" or spec.low is None or spec.high is None:
        return None
    return (spec.high - spec.low) / _LEVELS


def _gradients(
    target: Target, craft: Split, criterion: Criterion, device: str, seed: int
) -> tuple[nn.Module, Tensor, bool]:
    """A network, what is kept of the craft rows, and whether the network is a surrogate."""
    x = torch.as_tensor(np.asarray(craft.inputs, np.float32), device=device)
    try:
        network = as_attacker_sees(target.network.to(device), target.spec)
        return network, network_decisions(network, x, criterion), False
    except AccessDeniedError:
        return *learned_network(target, craft, criterion, device, seed), True


def _decisions(
    target: Target, network: nn.Module, criterion: Criterion, data: AttackData, device: str
) -> tuple[Tensor, float, Bools | None]:
    """What is kept of the clean test rows, as the target answers them, the share withheld, and which are not certified.

    What it does not tell is the undefended model's decision, where that is known and enough, else the network's.
    """
    x = np.asarray(data.test.inputs, np.float32)
    if not len(x):
        return torch.zeros(0, dtype=torch.int64, device=device), 0.0, None
    answers = target.query(x)
    y, untold = clean_rows(
        answers, criterion, device, data.outputs if isinstance(target.spec.task, Regression | Opaque) else None
    )
    if y.is_floating_point() or data.reference is None:
        own = network_decisions(network, torch.as_tensor(x, device=device), criterion).to(y)
    else:
        own = torch.as_tensor(data.reference, device=device)
    y = torch.where(untold.view(-1, *[1] * (y.ndim - 1)), own, y)
    return y, float((answers.labels < 0).mean()), answers.uncertified


def _certificate(target: Target, network: nn.Module, rows: Array) -> tuple[CertifiedNetwork | None, str]:
    """The certificate of the guard's answers, followed by gradients; none where nothing certifies, or why it cannot."""
    certifier = target.certifier
    if certifier is None or not len(rows):
        return None, ""
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    found, reason = followed_certificate(network.cpu(), certifier, rows[:CHECKED_ROWS])
    network.to(device)
    return None if found is None else found.to(device), reason


def _detector(target: Target, network: nn.Module, x: Tensor, rate: float) -> tuple[Detector | None, str]:
    """The defense's screens, or None and why: the attacker is not given them, or the network cannot feed them."""
    try:
        detector = Detector.at(target.profile, rate, target.spec)
        with torch.no_grad():
            detector.strangeness(x, *scores_and_features(network, x))
    except (AccessDeniedError, MedwardError) as error:
        return None, str(error)
    return detector, ""
