"""A metered target: it grants the declared access, nothing more, and counts every row asked.

The attack and the judge use the same object kind, so an attack cannot see past what a client would: behind a guard it
gets the guard's answers, with -1 and NaN where something was withheld.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medward.attacks.threat import Access, ThreatModel
from medward.guard.certify.certifier import CERTIFICATE_PART, Certifier
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.pipeline import Guard
from medward.guard.profile import Profile
from medward.guard.release.scores import probabilities
from medward.guard.release.topk import spread_rest
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import WITHHELD_DECISION
from medward.guard.types import Action, Answer, Array, Ints, OutputKind, Principal, Query, Verdict

if TYPE_CHECKING:
    import torch


_T = TypeVar("_T")
_DAY = 86400.0


class AccessDeniedError(RuntimeError):
    """An attack asked for more than its threat model declares."""


class BudgetSpentError(RuntimeError):
    """An attack asked for more rows than its threat model allows."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response holds decisions ``(n,)``, -1 where withheld, and scores ``(n, ...)``, NaN where not released.

    Of models that write reports ``texts (n)`` are those that left, None for a row whose text did not.
    Where the policy has answers certified, `certified` says which ``(n,)``, of findings ``(n, K)``, are relied on as
    they are and not read by a person first: None where all are. `uncertified (n,)` are the rows of which nothing is
    proven at the policy's radius, `without_proof (n,)` those among them that were withheld for that and nothing else.
    """

    labels: Ints
    scores: Array
    output: OutputKind
    certified: NDArray[np.bool_] | None = None
    uncertified: NDArray[np.bool_] | None = None
    without_proof: NDArray[np.bool_] | None = None
    texts: tuple[str | None, ...] = ()

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> Response:
        """The answers to the rows at `index`, which places or a mask name."""

        def taken(values: NDArray[Any] | None) -> Any:
            return None if values is None else values[index]

        return Response(
            self.labels[index],
            self.scores[index],
            self.output,
            certified=taken(self.certified),
            uncertified=taken(self.uncertified),
            without_proof=taken(self.without_proof),
            texts=tuple(self.texts[at] for at in np.arange(len(self.labels))[index]) if self.texts else (),
        )

    @property
    def refused(self) -> NDArray[np.bool_]:
        """The rows ``(n,)`` that were withheld, for anything but that nothing is proven of them."""
        hidden = self.labels < 0
        return hidden if self.without_proof is None else hidden & ~self.without_proof

    @property
    def probabilities(self) -> Array:
        """The scores of classes as probabilities ``(n, K)``; what a row hides is spread evenly, a row of NaN stays."""
        return spread_rest(probabilities(self.scores, self.output))


def joined_responses(parts: Sequence[Response]) -> Response:
    """Responses one after the other, as one."""

    def joined(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    known = {name: joined(name) for name in ("labels", "scores", "certified", "uncertified", "without_proof")}
    return Response(output=parts[0].output, texts=tuple(text for part in parts for text in part.texts), **known)


Oracle = Callable[[Array], Response]
Decide = Callable[[Array], Ints]
"""A user's reading of opaque outputs ``(n, ...)``: one whole number ``(n,)`` a row, from 0 on."""


def open_oracle(model: Model, decide: Decide | None = None) -> Oracle:
    """The undefended model: everything leaves. `decide` reads outputs that the model's task cannot."""
    decided = decide or model.spec.decide

    def ask(inputs: Array) -> Response:
        told = model.predict(model.spec.check(inputs))
        return Response(decided(told.scores), told.scores, model.spec.output, texts=told.texts)

    return ask


class Clock:
    """Seconds since 1970, moved only by an attacker's patience; give it to the guard and its store."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now


def guarded_oracle(
    guard: Guard,
    principal: Principal = ("attacker",),
    *,
    fresh: bool = False,
    accounts: int = 1,
    clock: Clock | None = None,
    per_day: float | None = None,
    decide: Decide | None = None,
) -> Oracle:
    """The deployed path: every row is one query of `principal`, since a batch only helps the guard.

    With `accounts` above 1 so many accounts below `principal` take turns. With `fresh` every row comes from an account
    of its own that shares no parent with others, so that no account's history helps the guard either. With `per_day`
    the rows are that far apart on `clock`, which must be the guard's. `decide` as in `open_oracle`.
    """
    if accounts < 1 or (per_day is not None and (clock is None or not per_day > 0)):
        raise MedwardError("oracle: needs at least 1 account, and with per_day above 0 the guard's clock")
    count = itertools.count()

    def asker(turn: int) -> Principal:
        if fresh:
            return (*principal[:-1], f"{principal[-1]}-{turn}")
        return (*principal, f"key-{turn % accounts}") if accounts > 1 else principal

    def ask(inputs: Array) -> Response:
        answers = []
        for row in range(len(inputs)):
            turn = next(count)
            if clock is not None and per_day is not None and turn:
                clock.now += _DAY / per_day
            answer = guard.answer(Query(principal=asker(turn), inputs=inputs[row : row + 1]))
            if failed := [verdict.source for verdict in answer.verdicts if verdict.error]:
                raise MedwardError(f"the guard itself failed ({failed[0]}); a failure is no defense, so mend it first")
            answers.append(answer)
        told = joined_responses([_response(guard, answer) for answer in answers])
        if decide is not None and (left := told.labels >= 0).any():
            told.labels[left] = decide(told.scores[left])
        return told

    return ask


def _response(guard: Guard, answer: Answer) -> Response:
    """One answer to one row; as a label an answer counts, whether it is certified or not."""
    plain = Response(answer.labels, answer.scores, answer.output, texts=answer.texts)
    if (found := answer.certified) is None:
        return plain
    proofs = [each for each in answer.verdicts if each.part == CERTIFICATE_PART]
    others = [each for each in answer.verdicts if each.part != CERTIFICATE_PART]
    unproven = any(each.evidence["uncertified"] > 0 for each in proofs)
    wanting = _withheld(proofs) and not _withheld(others)
    relied = found.holds if found.findings is None else found.findings >= found.asked
    counted = None if guard.policy.certify.uncertified == "label" else relied
    return replace(plain, certified=counted, uncertified=np.array([unproven]), without_proof=np.array([wanting]))


def _withheld(verdicts: Sequence[Verdict]) -> bool:
    """Whether any of the `verdicts` withholds."""
    return any(each.action >= Action.WITHHOLD for each in verdicts)


class Target:
    """A target is what an attack is given: a model with declared, metered access.

    `network` is a torch module computing the model's scores, which do not know its threshold (white-box), `profile`
    the defense's fitted screens for detector-aware attacks, `twin` the network as it was before hardening, if known,
    `certifier` what certifies the guard's answers; all are handed out only under GRADIENTS access.
    """

    def __init__(
        self,
        spec: ModelSpec,
        oracle: Oracle,
        threat: ThreatModel,
        *,
        network: torch.nn.Module | None = None,
        profile: Profile | None = None,
        twin: torch.nn.Module | None = None,
        certifier: Certifier | None = None,
        batch: int = 256,
    ) -> None:
        self.spec = spec
        self.threat = threat
        self.queries = 0
        self.withheld = 0
        self.contradictions = 0  # certified answers, to rows within the certified radius, that were not the clean ones
        self._oracle = oracle
        self._network = network
        self._profile = profile
        self._twin = twin
        self._certifier = certifier
        self._batch = batch

    def query(self, inputs: Array) -> Response:
        """Ask about ``(n, *shape)`` rows; scores are NaN under LABELS access, and decisions -1 under TEXT access."""
        budget = self.threat.queries
        if budget is not None and self.queries + len(inputs) > budget:
            raise BudgetSpentError(f"the budget of {budget} rows does not cover {len(inputs)} more")
        self.queries += len(inputs)
        parts = [self._oracle(inputs[i : i + self._batch]) for i in range(0, len(inputs), self._batch)]
        found = joined_responses(parts)
        self.withheld += int((found.labels < 0).sum())
        if self.threat.access < Access.SCORES:
            found = replace(found, scores=np.full_like(found.scores, np.nan))
        if self.threat.access < Access.LABELS:
            found = replace(found, labels=np.full_like(found.labels, WITHHELD_DECISION))
        return found

    @property
    def guarded(self) -> bool:
        """Whether a guard answers; every attacker is told."""
        return self._profile is not None

    @property
    def network(self) -> torch.nn.Module:
        """The model as a torch module, weights frozen, eval mode. Needs GRADIENTS access."""
        return self._white_box(self._network, "the network")

    @property
    def profile(self) -> Profile:
        """The defense's fitted screens. Needs GRADIENTS access."""
        return self._white_box(self._profile, "the defense's profile")

    @property
    def twin(self) -> torch.nn.Module | None:
        """The network as it was before hardening; None where there is none, or below GRADIENTS access."""
        return self._twin if self.threat.access >= Access.GRADIENTS else None

    @property
    def certifier(self) -> Certifier | None:
        """What certifies the guard's answers; None where nothing does, or below GRADIENTS access."""
        return self._certifier if self.threat.access >= Access.GRADIENTS else None

    def _white_box(self, part: _T | None, what: str) -> _T:
        if self.threat.access < Access.GRADIENTS or part is None:
            raise AccessDeniedError(f"{what} is not part of this threat model ({self.threat.access.name} access)")
        return part
