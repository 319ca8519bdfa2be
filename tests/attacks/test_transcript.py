"""One guard for all who ask the same: what they are told is what a guard of their own would have told them."""

import numpy as np
import pytest
from validation_fakes import Scripted, deployment

from medward.attacks.target import Response
from medward.attacks.validation import transcript
from medward.attacks.validation.deployment import Deployment, queried_target
from medward.attacks.validation.transcript import Transcripts

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(40, 3)).astype(np.float32)
OTHER = -ROWS


class Tiring:
    """Answers with how many rows it was asked so far, and their sum; `asked` counts the rows of all of them."""

    asked = 0

    def __init__(self):
        self.count, self.sum = 0, 0.0

    def __call__(self, inputs):
        labels, scores = [], []
        for row in inputs:
            Tiring.asked += 1
            self.count, self.sum = self.count + 1, self.sum + float(row.sum())
            labels.append(self.count)
            scores.append([self.sum, -self.sum])
        return Response(np.array(labels), np.array(scores), "logits")


def told(oracle, *batches):
    answers = [oracle(batch) for batch in batches]
    return np.concatenate([each.labels for each in answers]), np.concatenate([each.scores for each in answers])


SESSIONS = {
    "the same": [(ROWS,), (ROWS,)],
    "in other batches": [(ROWS[:10], ROWS[10:]), (ROWS[:7], ROWS[7:25], ROWS[25:])],
    "less": [(ROWS,), (ROWS[:9],), (ROWS,)],
    "more": [(ROWS[:9],), (ROWS,), (ROWS, OTHER)],
    "apart at once": [(ROWS,), (OTHER,), (ROWS,)],
    "apart midway": [(ROWS,), (ROWS[:20], OTHER[:20]), (ROWS[:20], OTHER[:30])],
    "apart within a batch": [(ROWS,), (np.concatenate([ROWS[:20], OTHER[:20]]),)],
}


@pytest.mark.parametrize("most", [2**29, 12 * 25], ids=["room for all", "room for 25 rows"])
@pytest.mark.parametrize("name", SESSIONS)
def test_everybody_is_told_what_an_oracle_of_their_own_tells(name, most, monkeypatch):
    monkeypatch.setattr(transcript, "KEPT_BYTES", most)
    shared = Transcripts()
    for batches in SESSIONS[name]:
        labels, scores = told(shared.oracle("key", Tiring), *batches)
        own = told(Tiring(), *batches)
        np.testing.assert_array_equal(labels, own[0])
        np.testing.assert_array_equal(scores, own[1])


def test_sessions_that_are_not_over_do_not_disturb_each_other():
    shared = Transcripts()
    first, second = shared.oracle("key", Tiring), shared.oracle("key", Tiring)
    found = [(first(ROWS[:5]), second(ROWS[:3])), (first(OTHER[:5]), second(ROWS[3:8])), (first(ROWS), second(OTHER))]
    for place, batches in enumerate([(ROWS[:5], OTHER[:5], ROWS), (ROWS[:3], ROWS[3:8], OTHER)]):
        own = told(Tiring(), *batches)[1]
        np.testing.assert_array_equal(np.concatenate([each[place].scores for each in found]), own)


def test_the_same_rows_are_asked_once_and_those_of_another_key_again():
    shared, Tiring.asked = Transcripts(), 0
    for _ in range(3):
        shared.oracle("key", Tiring)(ROWS)
    assert Tiring.asked == 40
    shared.oracle("key", Tiring)(np.concatenate([ROWS, OTHER[:4]]))
    assert Tiring.asked == 44
    shared.oracle("other", Tiring)(ROWS)
    assert Tiring.asked == 84


def test_an_oracle_that_failed_is_asked_no_more():
    class Failing(Tiring):
        def __call__(self, inputs):
            if (inputs == OTHER[0]).all(axis=1).any():
                raise ValueError("no")
            return super().__call__(inputs)

    shared = Transcripts()
    first = shared.oracle("key", Failing)
    first(ROWS[:5])
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            first(OTHER[:1])
    labels, _ = told(shared.oracle("key", Failing), ROWS)
    np.testing.assert_array_equal(labels, np.arange(1, 41))


def test_the_guarded_targets_of_one_deployment_share_a_guard_and_answer_as_fresh_ones():
    bundle = deployment()
    inputs = RNG.normal(size=(30, 6)).astype(np.float32)
    one = Deployment(bundle=bundle)
    shared = [queried_target(one, arm, Scripted()).query(inputs) for arm in ("guarded", "adaptive")]
    fresh = queried_target(Deployment(bundle=bundle), "guarded", Scripted()).query(inputs)
    for each in shared:
        np.testing.assert_array_equal(each.labels, fresh.labels)
        np.testing.assert_array_equal(each.scores, fresh.scores)


def test_rows_that_are_written_over_after_asking_are_told_as_they_were():
    shared, buffer = Transcripts(), ROWS[:3].copy()
    first = shared.oracle("key", Tiring)
    first(buffer)
    buffer[:] = OTHER[:3]
    first(buffer)
    labels, scores = told(shared.oracle("key", Tiring), OTHER[:3])
    own = told(Tiring(), OTHER[:3])
    np.testing.assert_array_equal(labels, own[0])
    np.testing.assert_array_equal(scores, own[1])
