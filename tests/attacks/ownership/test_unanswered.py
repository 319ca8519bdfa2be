"""Whoever leaves out answers, whichever, only loses evidence; on the answered inputs alone it could choose its p."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.attacks.ownership.compare import compare
from medward.attacks.ownership.fingerprint import Fingerprint
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

OWN = np.tile(np.repeat([0, 1], 30), 2)
ALPHA, NULL = 0.05, 19
SPEC = ModelSpec(
    name="t", modality="tabular", shape=(1,), task=Classification(classes=("no", "yes"), output="probabilities")
)


def independent(rng, count):
    """Decisions ``(count, n)`` of exchangeable models: inputs are hard alike for all, and some models agree more."""
    hard, bold = rng.normal(1.2, 0.7, size=len(OWN)), rng.normal(0, 0.3, size=(count, 1))
    return np.where(rng.random((count, len(OWN))) < 1 / (1 + np.exp(-(hard + bold))), OWN, 1 - OWN)


def printed(rng):
    """A fingerprint of two ways, with 19 independent models and clones, and one more independent model."""
    others = independent(rng, NULL + 1)
    return others[-1], Fingerprint(
        spec=SPEC,
        bundle="",
        inputs=np.zeros((len(OWN), 1)),
        own=OWN,
        ways=np.repeat([0, 1], 60),
        way_names=("one", "other"),
        null=others[:-1],
        null_names=("",) * NULL,
        null_sorts=np.zeros(NULL, int),
        clones=np.where(rng.random((4, len(OWN))) < 0.05, 1 - OWN, OWN),
        clone_ways=np.repeat([0, 1], 2),
    )


def without_disagreement(decided):
    """Of each class the first 27 answers that disagree are left out, so that more than half remain."""
    kept = decided.copy()
    for label in (0, 1):
        kept[np.flatnonzero((decided != OWN) & (label == OWN))[:27]] = -1
    return kept


def test_picked_answers_of_independent_models_are_evidence_no_more_often_than_p_allows():
    rng, runs = np.random.default_rng(0), 300
    claimed = {"all": 0, "picked": 0, "answered alone": 0}
    for _ in range(runs):
        suspect, found = printed(rng)
        told = compare(found, without_disagreement(suspect), alpha=ALPHA)
        claimed["all"] += compare(found, suspect, alpha=ALPHA).stands_out
        claimed["picked"] += told.stands_out
        claimed["answered alone"] += told.answered_p_value <= ALPHA
    assert 0.02 * runs < claimed["all"] < 0.09 * runs  # 1 in 20 ranks first
    assert claimed["picked"] <= claimed["all"]
    assert claimed["answered alone"] > 0.9 * runs  # the negative control: what would be evidence by these alone


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 0.45), st.booleans())
def test_leaving_out_answers_never_lowers_p(seed, share, copied):
    rng = np.random.default_rng(seed)
    suspect, found = printed(rng)
    whole = np.where(rng.random(len(OWN)) < 0.3, 1 - OWN, OWN) if copied else suspect
    left = np.where(rng.random(len(OWN)) < share, -1, whole)
    if 2 * (left >= 0).sum() >= len(OWN):
        assert compare(found, left).p_value >= compare(found, whole).p_value


def test_no_evidence_of_few_answers_is_said_only_where_a_clone_by_the_same_would_be_evidence():
    suspect, found = printed(np.random.default_rng(0))
    assert compare(found, suspect).judgement == "no evidence"
    half = np.arange(len(OWN)) % 2 == 0
    told = compare(found, np.where(half, suspect, -1))
    assert told.judgement == "cannot tell"
    assert {compare(found, np.where(half, clone, -1)).judgement for clone in found.clones} == {"cannot tell"}
    assert told.ways[0].agreement == pytest.approx(np.mean((suspect == OWN)[:60] & half[:60]))
    assert told.ways[0].null == compare(found, suspect).ways[0].null


@pytest.mark.parametrize("share", [0.5, 0.8, 1 - 1 / 120, 1.0])
def test_who_answers_without_looking_is_no_evidence_though_independent_models_agree_less(share):
    """Of two classes who guesses agrees on half, and those of the null on a third: by rank alone it would stand out."""
    rng = np.random.default_rng(0)
    found = replace(printed(rng)[1], null=np.where(rng.random((NULL, len(OWN))) < 0.3, OWN, 1 - OWN))
    for _ in range(20):
        guessed = rng.permutation((np.arange(len(OWN)) >= share * len(OWN)).astype(int))
        told = compare(found, guessed, alpha=ALPHA)
        assert not told.stands_out, told.p_value
        assert told.guessed
        assert told.fitted is None or told.fitted.p_value > ALPHA
        assert any("answers without looking" in each for each in told.sentences())
    assert compare(found, found.clones[0], alpha=ALPHA).stands_out
