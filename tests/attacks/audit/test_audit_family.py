"""Audits: a claim that guesses refute is BROKEN, one that they could have refuted is HELD, else nobody knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.certificates import privacy_certificate

from medward.attacks.audit import CanaryConfidence
from medward.attacks.audit.family import Audit
from medward.attacks.base import AttackResult
from medward.attacks.target import Response, Target
from medward.attacks.validation.family import NotTested, Runs
from medward.attacks.validation.finding import Status
from medward.attacks.validation.gate import judge_cell
from medward.attacks.validation.judging import blank_finding
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.guard.data.canaries import CanarySet
from medward.guard.policy import GatePolicy, Policy
from medward.integrations.contracts import family as contract

FAMILY, GATE = Audit(), GatePolicy()


def judged(scores, included, claim, gate=GATE):
    bare = AttackResult(outcome=scores, truth=included)
    privacy = None if claim is None else privacy_certificate(epsilon=claim)
    runs = Runs(attack=CanaryConfidence(), results={"undefended": bare}, spec=contract.SPEC, seed=0, privacy=privacy)
    return judge_cell(FAMILY.judge(runs), FAMILY.bound(gate), gate)


def guessed(shift, m=1000, seed=0):
    rng = np.random.default_rng(seed)
    included = rng.random(m) < 0.5
    return rng.normal(size=m) + shift * included, included


def test_more_than_is_claimed_is_broken():
    status, reasons = judged(*guessed(4.0), claim=1.0)
    assert status is Status.BROKEN
    assert "1000 canaries, detectable maximum 8.19" in reasons[0]
    assert "the claim is 1 at delta 1e-05" in reasons[0]


def test_less_than_is_claimed_is_held_where_more_could_have_been_seen():
    status, reasons = judged(*guessed(0.5), claim=4.0)
    assert status is Status.HELD
    assert "The audit shows epsilon >= " in reasons[0]


def test_too_few_canaries_say_how_many_would_do():
    status, reasons = judged(*guessed(0.5, m=100), claim=8.0)
    assert status is Status.INCONCLUSIVE
    needed = int(reasons[1].split("about ")[1].split()[0])
    assert judged(*guessed(0.0, m=needed), claim=8.0)[0] is Status.HELD
    assert judged(*guessed(0.0, m=round(0.9 * needed)), claim=8.0)[0] is Status.INCONCLUSIVE


def test_a_stricter_policy_breaks_what_the_claim_allows():
    scores = guessed(2.0)
    assert judged(*scores, claim=6.0)[0] is Status.HELD
    assert judged(*scores, claim=6.0, gate=GatePolicy(audit_ratio=0.3))[0] is Status.BROKEN


def test_without_a_claim_or_a_row_nothing_is_said():
    assert judged(*guessed(4.0), claim=None)[0] is Status.INCONCLUSIVE
    empty = AttackResult(outcome=np.zeros(0, bool))
    cell = FAMILY.judge(Runs(attack=CanaryConfidence(), results={"undefended": empty}, spec=contract.SPEC, seed=0))
    assert "no row" in cell.too_weak()[0]


def canaries(m=60, included=None):
    rng = np.random.default_rng(1)
    rows = contract.line_rows(m, 9)
    kept = rng.random(m) < 0.5 if included is None else np.full(m, included)
    return CanarySet(inputs=rows.inputs, labels=rng.integers(0, 2, m), included=kept)


def held_by(**changes):
    shared = share_rows(contract.SignedLine(), conform_splits(contract.line_splits(), contract.SPEC), seed=0)
    return FAMILY.holdings(replace(contract.line_deployment(), **changes), shared)


LACKING = {
    "no certificate": ({"canaries": canaries()}, Status.NOT_APPLICABLE, "nothing is claimed"),
    "no canaries": ({"privacy": privacy_certificate()}, Status.INCONCLUSIVE, "needs the canaries"),
    "one side": (
        {"privacy": privacy_certificate(), "canaries": canaries(included=True)},
        Status.INCONCLUSIVE,
        "the same coin",
    ),
    "coins that are not fair": (
        {"privacy": privacy_certificate(), "canaries": replace(canaries(), included=np.arange(60) > 5)},
        Status.INCONCLUSIVE,
        "90% of 60 canaries were trained on",
    ),
    "another shape": (
        {"privacy": privacy_certificate(), "canaries": replace(canaries(), inputs=np.zeros((60, 3), np.float32))},
        Status.INCONCLUSIVE,
        "the model takes (6,)",
    ),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_lacks_for_an_audit_is_said(name):
    given, status, words = LACKING[name]
    found = held_by(**given)
    assert isinstance(found, NotTested)
    assert (found.status, words in found.reason) == (status, True)


def test_the_auditor_asks_about_canaries_in_an_order_that_tells_nothing():
    data = held_by(privacy=privacy_certificate(), canaries=canaries())
    known = {row.tobytes(): label for row, label in zip(data.members.inputs, data.members.labels, strict=True)}

    def oracle(inputs):
        """It is sure of the canaries it was trained on, and of no other."""
        sure = np.array([[6.0 * (known.get(row.tobytes()) == side) for side in (0, 1)] for row in inputs])
        return Response(sure.argmax(axis=1), sure, "logits")

    attack = CanaryConfidence()
    result = attack.run(Target(contract.SPEC, oracle, attack.threat), data, seed=0)
    assert FAMILY.achieved(result, 0).value == 1.0
    assert result.queries == 60
    assert not result.truth[: result.truth.sum()].all()
    assert attack.adaptive(Policy(on_error="flag")) is None


def test_a_model_that_answers_nothing_gives_no_bound():
    data = held_by(privacy=privacy_certificate(), canaries=canaries())
    silent = Target(
        contract.SPEC,
        lambda inputs: Response(np.full(len(inputs), -1), np.full((len(inputs), 2), np.nan), "logits"),
        CanaryConfidence().threat,
    )
    result = CanaryConfidence().run(silent, data, seed=0)
    assert judged(result.outcome, result.truth, claim=0.1)[0] is not Status.BROKEN


def test_its_words_and_targets():
    contract.check_family_words(FAMILY)
    finding = blank_finding(FAMILY, CanaryConfidence(), Policy(on_error="flag"), 0)
    assert finding.bound == 1.0
    contract.check_family_targets(FAMILY, contract.line_deployment())
