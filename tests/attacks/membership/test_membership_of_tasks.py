"""Members of models of findings, numbers and reports: given away by what was learned by heart, by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from support.tasks import CUT, FINDINGS, MONTHS, REPORT, WHOLE, coin_flip, learned, spec_of

from medward.attacks.base import Access, ThreatModel
from medward.attacks.candidates.blind import labelled_rows, row_statistics
from medward.attacks.candidates.channels import FindingChannel, NumberChannel, read_channel
from medward.attacks.intervals import auc
from medward.attacks.learners.table import learner_of
from medward.attacks.membership import LossThreshold, OfflineLiRA
from medward.attacks.target import Response, Target
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.types import Level

TASKS = {"findings": FINDINGS, "months": MONTHS, "cut": CUT, "report": REPORT}
ATTACKS = (LossThreshold(), OfflineLiRA(shadows=6, epochs=15))


@pytest.fixture(scope="module")
def taught():
    """The answers of a network that learned the members of a task by heart, or the shadow rows."""
    kept = {}

    def teach(name, who):
        if (name, who) not in kept:
            data = coin_flip(TASKS[name])
            rows = {"members": data.members, "strangers": data.shadow.take(slice(200))}[who]
            kept[name, who] = (data, *learned(TASKS[name], rows, epochs=80))
        return kept[name, who]

    return teach


def target_of(spec, said, level=Level.FULL, some=1.0):
    def oracle(inputs):
        outputs = said(inputs)
        left = spec.task.release(outputs, level, ReleaseSettings())
        kind = "probabilities" if spec.task is FINDINGS and level is not Level.FULL else spec.output
        labels = spec.decide(outputs)
        hidden = np.random.default_rng(len(inputs)).random(len(inputs)) >= some
        labels[hidden], left = -1, np.where(hidden[:, None], np.nan, left)
        return Response(labels, left, kind)

    return Target(spec, oracle, ThreatModel(access=Access.SCORES))


def attacked(attack, data, spec, said, **settings):
    result = attack.run(target_of(spec, said, **settings), data, seed=0)
    assert np.isfinite(result.outcome).all()
    return auc(result.outcome, result.truth), result


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("name", TASKS)
def test_what_was_learned_by_heart_gives_members_away(name, attack, taught):
    value, result = attacked(attack, *taught(name, "members"))
    assert value > (0.7 if name == "report" else 0.75)  # which says no more than labels do
    assert result.flags == (), "members and others are drawn alike"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("name", TASKS)
def test_a_model_that_never_saw_them_gives_nothing_away(name, attack, taught):
    assert attacked(attack, *taught(name, "strangers"))[0] == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("level", [Level.ROUNDED, Level.LABEL])
def test_coarser_answers_still_give_members_away(name, level, taught):
    assert attacked(LossThreshold(), *taught(name, "members"), level=level)[0] > 0.6
    assert attacked(LossThreshold(), *taught(name, "strangers"), level=level)[0] == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("name", TASKS)
def test_refused_candidates_are_no_members_and_no_strangers(name, taught):
    none = attacked(LossThreshold(), *taught(name, "members"), some=0.0)[0]
    assert none == 0.5
    some, result = attacked(LossThreshold(), *taught(name, "members"), some=0.5)
    assert some > 0.6
    assert result.queries == 400


def test_the_attacker_who_averages_runs_on_every_task(taught):
    for name in TASKS:
        knowing = LossThreshold().adaptive(Policy(on_error="withhold"))
        assert attacked(knowing, *taught(name, "members"), level=Level.LABEL)[0] > 0.55


def test_the_signal_of_findings_is_the_sum_of_their_log_odds():
    one = np.ones((1, 2), bool)
    channel = FindingChannel(None, one, one, FINDINGS.thresholds)
    shown = np.array([[[0.9, 0.2, 0.4], [0.5, 0.5, 0.5]]])
    found = channel.phi(shown, np.array([0b001, 0b111]))
    by_hand = np.log(0.9 / 0.1) + np.log(0.8 / 0.2) + np.log(0.6 / 0.4)
    np.testing.assert_allclose(found, [by_hand, 0.0], atol=1e-12)
    only = FindingChannel(None, ~one, one, FINDINGS.thresholds)
    assert only.coarsen(np.array([[[0.49, 0.21, 0.69]]])).tolist() == [[[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]]


def test_of_a_report_its_findings_count_and_not_how_sure_it_is_of_them():
    labels = np.array([0b001, 0b001, 0b001, 0b001])
    decisions = np.array([0b000_001, 0b001_001, 0b000_010, -1])  # sure, possible, another finding, withheld
    scores = np.array([[2, 0, 0], [1, 0, 0], [0, 2, 0], [np.nan] * 3])
    channel = read_channel(REPORT, learner_of(spec_of(REPORT)), Response(decisions, scores, "values"), 1)
    assert not channel.released.any()
    assert channel.answered.tolist() == [[True, True, True, False]]
    shown = np.array([[[1, 0, 0], [1, 0, 0], [0, 1, 0], [np.nan] * 3]])
    found = channel.phi(shown, labels)
    assert found[0] == found[1] > 0 > found[2]
    assert np.isnan(found[3])


def test_the_signal_of_a_number_is_its_distance_in_tolerances():
    one = np.ones((1, 2), bool)
    found = NumberChannel(MONTHS, one, one).phi(np.array([[[5.0], [1.0]]]), np.array([2.0, 1.0]))
    assert found.tolist() == [-1.5, 0.0]
    assert NumberChannel(MONTHS, ~one, one).coarsen(np.array([[[5.2], [0.9]]])).tolist() == [[[6.0], [0.0]]]


def test_a_forest_sees_findings_one_by_one():
    data = coin_flip(FINDINGS)
    assert row_statistics(labelled_rows(data.members, FINDINGS)).shape == (200, 20 + 3)
    assert row_statistics(labelled_rows(data.members, MONTHS)).shape == (200, 20 + 1)


def test_outputs_that_nobody_reads_show_no_confidence():
    response = Response(np.zeros(2, int), np.zeros((2, 1)), "values")
    with pytest.raises(MedwardError, match="no confidence"):
        read_channel(WHOLE, learner_of(spec_of(MONTHS)), response, 1)
