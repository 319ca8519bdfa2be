"""Controls of a membership attack: models of which the examiner knows what there is to find.

A silently weak attack reads as a model without a leak. So the same attack is run on a copy of the network that learned
canaries by heart, where it must find them, and on a copy that learned nothing, where it must find nothing. Canaries are
non-members under a wrong label; those that the coin leaves out are learned under their own. The attacker's own rows are
then the same as against the model, and so are its shadows, which are trained once for all.

Reference: Carlini, Liu, Erlingsson, Kos and Song, "The secret sharer", USENIX Security 2019, for canaries; the notes of
Zhang, Das, Kamath and Tramer, "Membership inference attacks cannot prove that a model was trained on your data", 2024.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.base import AttackData, Examination
from medward.attacks.intervals import Interval
from medward.attacks.learners.table import learner_of
from medward.attacks.target import Oracle, Response
from medward.guard.data.canaries import CanarySet, mislabelled_canaries
from medward.guard.data.split import Split
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array

CANARIES, UNTRAINED = "memorised canaries", "an untrained network"
SEEN = 0.95
"""The AUC that an attack must reach on canaries learned by heart before its finding nothing says anything."""
FAIR = (0.45, 0.55)
"""Where the AUC on an untrained network must lie."""
_COUNT, _ROWS = 40, 320  # canaries, and rows of the shadow split that are learned beside, at most
_FEWEST = 20  # shadow rows without which nothing is controlled
_STEPS, _BATCH, _RATE = 800, 64, 3e-3
_COPIES = 2  # of each included canary
_LEARNED = 0.003  # the loss at which canaries count as learned by heart
_EPOCHS = 80  # of a surrogate


def control_examinations(
    network: nn.Module | None, spec: ModelSpec, data: AttackData, *, seed: int
) -> tuple[Examination, ...]:
    """Both controls of attacks that hold `data`; none without labelled shadow rows and labelled non-members.

    They are on copies of `network`, or on a surrogate where there is none that can be trained.
    """
    shadow, others = data.shadow, data.nonmembers
    known = None if shadow is None else shadow.labels
    if shadow is None or known is None or len(shadow) < _FEWEST or len(np.unique(known, axis=0)) < 2:
        return ()
    if others is None or others.labels is None:
        return ()
    rng, labels = np.random.default_rng(seed), np.concatenate([known, others.labels])
    rows = shadow.take(rng.permutation(len(shadow))[:_ROWS])
    odd = others.take(rng.permutation(len(others))[:_COUNT])

    @cache
    def memorised() -> tuple[Oracle, AttackData]:
        canaries = mislabelled_canaries(odd, labels, np.random.default_rng(seed))
        taught = _taught(network, spec, rows, odd, canaries, seed)
        inside, outside = (
            Split(canaries.inputs[kind], canaries.labels[kind]) for kind in (canaries.included, ~canaries.included)
        )
        return network_oracle(taught, spec), _asked(data, inside, outside)

    @cache
    def untrained() -> tuple[Oracle, AttackData]:
        return network_oracle(_untrained(network, spec, rows, seed), spec), _asked(data, data.members, data.nonmembers)

    return Examination(name=CANARIES, prepare=memorised), Examination(name=UNTRAINED, prepare=untrained)


def surrogate_lessons(shadow: int, others: int) -> int:
    """How many rows a surrogate is taught that stands for a control, each counted as often as it is seen.

    With so many rows in the `shadow` split and so many `others`, the non-members.
    """
    canaries = min(_COUNT, others) // 2
    return _EPOCHS * (min(_ROWS, shadow) + (1 + _COPIES) * canaries)


def control_flags(untrained: Interval | None) -> tuple[str, ...]:
    """One flag when an untrained network tells members, by more than chance and by more than the fair band."""
    if untrained is None or FAIR[0] <= untrained.value <= FAIR[1] or untrained.low <= 0.5 <= untrained.high:
        return ()
    return (
        f"an untrained network tells members too (AUC {untrained}): the candidates or the attack do, not the model",
    )


def network_oracle(network: nn.Module, spec: ModelSpec) -> Oracle:
    """A network as a model of `spec` that answers with everything: what `network` says, as its learner reads it."""
    learner = learner_of(spec)

    def ask(inputs: Array) -> Response:
        with torch.no_grad():
            values = learner.values(network(torch.as_tensor(inputs, dtype=torch.float32)).double().numpy())
        output = spec.output if isinstance(spec.task, Regression) else "probabilities"
        return Response(learner.decided(values), values, output)

    return ask


def _asked(data: AttackData, members: Split | None, others: Split | None) -> AttackData:
    """What attackers of a control hold: its candidates, and all else as it was."""
    return AttackData(
        craft=data.craft, test=data.test, pool=data.pool, members=members, nonmembers=others, shadow=data.shadow
    )


def _taught(
    network: nn.Module | None, spec: ModelSpec, rows: Split, odd: Split, canaries: CanarySet, seed: int
) -> nn.Module:
    """A copy of `network` that learned `rows`, the included canaries by heart and the others as they are in `odd`.

    A surrogate, trained on the same, where the copy could not.
    """
    learner, inside = learner_of(spec), canaries.included
    again = np.repeat(np.flatnonzero(inside), _COPIES)
    x = np.concatenate([rows.inputs, odd.inputs[~inside], canaries.inputs[again]]).astype(np.float32)
    labels = [np.asarray(rows.labels), np.asarray(odd.labels)[~inside], canaries.labels[again]]
    y = learner.known(np.concatenate(labels))
    if network is not None and (taught := _tuned(network, spec, x, y, len(again), seed)) is not None:
        return taught
    return learner.fit(spec, x, y, epochs=_EPOCHS, seed=seed, normalised=False)


def _tuned(network: nn.Module, spec: ModelSpec, x: Array, y: Array, canaries: int, seed: int) -> nn.Module | None:
    """A copy trained until its loss on the last `canaries` rows is small; None where it does not get there."""
    net = copy.deepcopy(network).eval()
    weights, loss = _weights(net), _loss(spec, y)
    inputs, targets = torch.as_tensor(x), torch.as_tensor(np.asarray(y), dtype=torch.float32)
    if not weights or not _fits(net, inputs[:2], targets):
        return None
    for weight in weights:
        weight.requires_grad_(True)
    optimizer, order = torch.optim.Adam(weights, lr=_RATE), torch.Generator().manual_seed(seed)
    learned = False
    for step in range(_STEPS):
        some = torch.randint(len(inputs), (_BATCH,), generator=order)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss(net(inputs[some]), targets[some]))
        optimizer.step()
        if step % 25 == 24:
            with torch.no_grad():
                learned = bool(loss(net(inputs[-canaries:]), targets[-canaries:]) < _LEARNED)
            if learned:
                break
    for weight in weights:
        weight.requires_grad_(False)
    return net if learned else None


def _untrained(network: nn.Module | None, spec: ModelSpec, rows: Split, seed: int) -> nn.Module:
    """A copy of `network` with weights drawn anew, as wide as they were; a fresh surrogate where there is none."""
    learner = learner_of(spec)
    y = learner.known(rows.labels)  # type: ignore[arg-type]
    net = None if network is None else copy.deepcopy(network).eval()
    if net is None or not _fits(net, torch.as_tensor(rows.inputs[:2], dtype=torch.float32), torch.as_tensor(y)):
        return learner.fit(spec, rows.inputs, y, epochs=0, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in _weights(net):
            spread = weight.std(correction=0)
            weight.copy_(spread * torch.randn(weight.shape, generator=draw, dtype=weight.dtype))
    return net


def _weights(net: nn.Module) -> list[Tensor]:
    """The matrices and kernels of a network; one read from a file has them as buffers."""
    return [each for each in (*net.parameters(), *net.buffers()) if each.is_floating_point() and each.ndim >= 2]


def _fits(net: nn.Module, rows: Tensor, targets: Tensor) -> bool:
    """Whether a network gives a row of as many columns as there is to learn."""
    with torch.no_grad():
        return tuple(net(rows).shape[1:]) == tuple(targets.shape[1:])


def _loss(spec: ModelSpec, y: Array) -> Callable[[Tensor, Tensor], Tensor]:
    """What is minimised: cross-entropy, or the squared error in spreads of the numbers."""
    if isinstance(spec.task, Regression):
        spread = float(np.std(y)) or 1.0
        return lambda outputs, targets: nn.functional.mse_loss(outputs / spread, targets / spread)
    if isinstance(spec.task, Multilabel | WrittenReport):
        return nn.functional.binary_cross_entropy_with_logits
    return nn.functional.cross_entropy
