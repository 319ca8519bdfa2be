"""What attackers are told of report models: texts where they left, findings, and nothing beyond their access."""

from __future__ import annotations

import numpy as np
import pytest
from support.report_models import report_guard, report_images, report_model, report_policy

from medward.attacks.base import AttackData
from medward.attacks.learners.table import group_names, learner_of, row_groups
from medward.attacks.target import Response, Target, guarded_oracle, joined_responses, open_oracle
from medward.attacks.threat import Access, ThreatModel
from medward.attacks.validation.transcript import Transcripts
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError

MODEL = report_model(piecewise=False)
ROWS = report_images(12, 9)
OWN = MODEL.predict(ROWS)
LEARNER = learner_of(MODEL.spec)


def target(access, oracle=None):
    return Target(MODEL.spec, oracle or open_oracle(MODEL), ThreatModel(access=access, queries=20), batch=5)


@pytest.mark.parametrize("access", list(Access))
def test_texts_leave_at_every_access_and_the_rest_as_declared(access):
    told = target(access).query(ROWS)
    assert told.texts == OWN.texts
    assert np.isnan(told.scores).all() == (access < Access.SCORES)
    assert (told.labels == -1).all() == (access < Access.LABELS)


def test_a_guard_hands_on_what_leaves_it():
    whole = report_guard(MODEL, report_policy(screen={"action": "allow"}))
    for fresh in (False, True):
        assert guarded_oracle(whole, fresh=fresh)(ROWS).texts == OWN.texts
    coarse = report_guard(MODEL, report_policy(screen={"action": "allow"}, release={"level": "label"}))
    told = guarded_oracle(coarse)(ROWS)
    assert told.texts == (None,) * len(ROWS)
    np.testing.assert_array_equal(told.labels, MODEL.spec.decide(OWN.scores))
    silent = guarded_oracle(report_guard(MODEL, report_policy(budget={"total_bits": 1.0})))(ROWS)
    assert silent.texts == (None,) * len(ROWS)
    assert (silent.labels == -1).all()


def test_parts_of_responses_keep_their_texts():
    told = open_oracle(MODEL)(ROWS)
    odd = told.take(np.arange(len(ROWS)) % 2 == 1)
    assert odd.texts == OWN.texts[1::2]
    np.testing.assert_array_equal(odd.labels, told.labels[1::2])
    assert joined_responses([odd, told.take(np.array([0]))]).texts == (*OWN.texts[1::2], OWN.texts[0])
    assert Response(told.labels, told.scores, "values").take(np.array([0])).texts == ()


def test_who_asks_the_same_is_told_the_same_texts():
    shared, opened = Transcripts(), []

    def fresh():
        opened.append(1)
        return guarded_oracle(report_guard(MODEL, report_policy(screen={"action": "allow"})))

    first, again = shared.oracle("key", fresh), shared.oracle("key", fresh)
    assert first(ROWS[:6]).texts == again(ROWS[:6]).texts == OWN.texts[:6]
    assert len(opened) == 1
    assert again(ROWS[6:]).texts == OWN.texts[6:]


def test_reports_are_learned_as_sets_of_findings():
    told = open_oracle(MODEL)(ROWS)
    sets = OWN.scores > 0
    np.testing.assert_array_equal(LEARNER.targets(told), sets)
    hard = Response(told.labels, np.full_like(told.scores, np.nan), told.output)
    np.testing.assert_array_equal(LEARNER.targets(hard), sets)
    hidden = Response(np.full_like(told.labels, -1), hard.scores, told.output)
    assert np.isnan(LEARNER.targets(hidden)).all()
    data = AttackData(craft=Split(ROWS), test=Split(ROWS), reference=told.labels)
    np.testing.assert_array_equal(LEARNER.reference(data), sets)
    assert LEARNER.same(sets.astype(float), LEARNER.reference(data)).all()
    assert not LEARNER.same((~sets).astype(float), LEARNER.reference(data)).any()
    assert (OWN.scores == 1).any(), "some are only possible, and count as there"


def test_a_network_learns_what_reports_say():
    images = report_images(600, 2)
    network = LEARNER.fit(MODEL.spec, images, LEARNER.targets(open_oracle(MODEL)(images)), epochs=20, seed=0)
    new = report_images(200, 3)
    said = LEARNER.values(network(new_tensor(new)).numpy())
    agreed = LEARNER.same(said, LEARNER.targets(open_oracle(MODEL)(new))).mean()
    constant = np.broadcast_to(LEARNER.constant(LEARNER.targets(open_oracle(MODEL)(new))), said.shape)
    assert agreed > LEARNER.same(constant, LEARNER.targets(open_oracle(MODEL)(new))).mean() + 0.1
    with pytest.raises(MedwardError, match="none of the 600 training rows"):
        LEARNER.fit(MODEL.spec, images, np.full((600, LEARNER.width), np.nan), epochs=1, seed=0)


def new_tensor(rows):
    import torch

    return torch.as_tensor(rows)


def test_rows_are_grouped_by_the_findings_that_are_there_or_may_be():
    labels, task = MODEL.spec.decide(OWN.scores), MODEL.spec.task
    groups = row_groups(task, labels)
    for column, name in enumerate(task.findings):
        if (OWN.scores[:, column] > 0).any():
            np.testing.assert_array_equal(groups[name], OWN.scores[:, column] > 0)
    assert set(groups) <= set(group_names(task))
