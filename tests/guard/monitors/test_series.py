from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.monitors.repeats import (
    ALIKE,
    DIGEST_LETTERS,
    FIRST_INPUTS,
    REMEMBERED_INPUTS,
    answer_marks,
    bits_apart,
    find_repeats,
    no_inputs,
)
from medward.guard.types import Outputs


def test_an_input_among_the_last_few_repeats_exactly_and_no_older_one():
    digests = [str(i) for i in range(REMEMBERED_INPUTS)]
    recent, found = find_repeats(no_inputs(), digests, [""] * REMEMBERED_INPUTS, 0)
    assert set(found) == {""}
    assert find_repeats(recent, ["0"], [""], 0)[1] == ["exact"]
    assert find_repeats(recent, ["new", "0"], ["", ""], 0)[1] == ["", ""]


def found_in(codes, radius, answers=None, digests=None):
    """How each of different inputs with these codes repeats one before."""
    return find_repeats(no_inputs(), digests or [f"{i}" for i in range(len(codes))], codes, radius, answers)[1]


def test_an_input_is_near_while_its_first_is_among_the_last():
    codes = ["f" * 16, "f" * 15 + "e"]
    assert bits_apart(*codes) == 1
    assert found_in(codes, 1) == ["", "near"]
    assert found_in(codes, 0) == ["", ""]
    far = [f"{i + 1:x}" * 16 for i in range(FIRST_INPUTS)]
    assert found_in([codes[0], *far, codes[1]], 1)[-1] == ""
    assert found_in([codes[0], *far[1:], codes[1]], 1)[-1] == "near"


def steps_from_zero(count):
    """Codes of which each differs from the one before in one bit, and from the first in ever more."""
    return [f"{(1 << i) - 1:016x}" for i in range(count)]


@pytest.mark.parametrize("radius", [1, 3, 5])
def test_a_walk_in_small_steps_is_new_whenever_it_leaves_the_first(radius):
    """Else every step would repeat the one before, and a walk through any images would count as one."""
    assert all(bits_apart(*pair) == 1 for pair in zip(steps_from_zero(60), steps_from_zero(60)[1:], strict=False))
    found = found_in(steps_from_zero(60), radius)
    assert found == ["" if i % (radius + 1) == 0 else "near" for i in range(60)]


def test_a_walk_gains_nothing_by_sending_each_step_twice():
    codes = [code for code in steps_from_zero(60) for _ in range(2)]
    digests = [str(i // 2) for i in range(120)]
    found = found_in(codes, 3, digests=digests)
    assert found[1::2] == ["exact"] * 60
    assert found[::2] == found_in(steps_from_zero(60), 3)


def test_a_series_stays_near_its_first_while_it_goes_on():
    """Also where another image stands between; the first that was repeated latest is forgotten last."""
    codes = ["0" * 16, *(code for i in range(10) for code in (f"{1 << i:016x}", f"{i + 1:x}" * 16))]
    assert found_in(codes, 1)[1::2] == ["near"] * 10


def test_what_is_answered_otherwise_repeats_nothing():
    code = ["0" * 16] * 3
    assert found_in(code, 5, answers=[0.2, 0.2 + 0.9 * ALIKE, 0.2 + 1.1 * ALIKE]) == ["", "near", ""]
    assert found_in(code, 5, answers=[0.2, 2.2, 0.2]) == ["", "", "near"]
    assert found_in(code, 5) == ["", "near", "near"], "without answers looks alone count"


def test_marks_of_answers_tell_decisions_and_how_sure_they_are():
    scores = np.array([[9.0, 0.0], [5.0, 0.0], [0.3, 0.0], [0.0, 0.3], [0.0, 9.0]])
    marks = answer_marks(Outputs(scores, doubt=-np.abs(scores[:, 0] - scores[:, 1])))
    apart = np.abs(marks[:, None] - marks)
    assert apart[0, 1] < ALIKE < apart[0, 2]
    assert apart[2, 3] > 1
    assert answer_marks(Outputs(scores)) is None


@given(
    decided=st.integers(0, 5),
    other=st.integers(0, 5),
    doubts=st.tuples(*[st.floats(-1e6, 0) | st.just(-np.inf)] * 2),
)
def test_marks_of_two_decisions_are_never_alike(decided, other, doubts):
    marks = answer_marks(Outputs(np.eye(6)[[decided, other]], doubt=np.array(doubts)))
    assert (abs(marks[0] - marks[1]) > ALIKE) or decided == other


def test_an_answer_that_is_no_number_is_like_no_other_and_can_be_kept():
    marks = answer_marks(Outputs(np.eye(2), doubt=np.array([np.nan, -1.0])))
    recent, found = find_repeats(no_inputs(), ["a", "b"], ["0" * 16] * 2, 5, marks)
    assert found == ["", ""]
    assert json.loads(json.dumps(recent, allow_nan=False)) == recent


def test_a_batch_is_remembered_as_its_rows_one_by_one():
    rng = np.random.default_rng(0)
    digests = [str(i) for i in rng.integers(20, size=60)]
    codes = [f"{i:016x}" for i in rng.integers(64, size=60)]
    answers = rng.choice([0.1, 0.15, 2.0], 60).tolist()
    recent, found = no_inputs(), []
    for digest, code, answer in zip(digests, codes, answers, strict=True):
        recent, (how,) = find_repeats(recent, [digest], [code], 1, [answer])
        found.append(how)
    assert find_repeats(no_inputs(), digests, codes, 1, answers) == (recent, found)
    assert set(found) == {"exact", "near", ""}
    assert (len(recent["digests"]), len(recent["codes"])) == (60 * DIGEST_LETTERS, FIRST_INPUTS)


def test_what_is_remembered_never_outgrows_its_place():
    recent, _ = find_repeats(no_inputs(), [str(i) for i in range(2000)], ["f" * 16] * 2000, 0)
    assert len(recent["digests"]) == REMEMBERED_INPUTS * DIGEST_LETTERS
    assert len(json.dumps(recent)) < 400


def test_new_inputs_are_hardly_ever_taken_for_repeats():
    recent, _ = find_repeats(no_inputs(), [f"old {i}" for i in range(REMEMBERED_INPUTS)], [""] * REMEMBERED_INPUTS, 0)
    taken = sum(find_repeats(recent, [f"new {i}"], [""], 0)[1] == ["exact"] for i in range(20_000))
    assert 0 < taken <= 18, "the chance is 80 / 2^18 each, 7 in all"


def test_letters_of_two_neighbours_are_no_digest():
    one, other = (find_repeats(no_inputs(), [name], [""], 0)[0]["digests"] for name in ("a", "b"))
    recent = {"digests": f"+{one}{other}++", "codes": [], "answers": []}
    assert find_repeats(recent, ["a"], [""], 0)[1] == [""]
    assert find_repeats({**recent, "digests": f"+{one}++{one}"}, ["a"], [""], 0)[1] == ["exact"]


@pytest.mark.parametrize(("distinct", "again"), [(REMEMBERED_INPUTS, True), (300, False)])
def test_a_loop_is_known_while_all_of_it_is_remembered(distinct, again):
    """A few of 300 are taken for repeats by chance."""
    recent, _ = find_repeats(no_inputs(), [str(i) for i in range(distinct)], [""] * distinct, 0)
    found = find_repeats(recent, [str(i) for i in range(distinct)], [""] * distinct, 0)[1]
    assert found.count("exact") == distinct if again else found.count("exact") <= 3
