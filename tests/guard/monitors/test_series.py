from __future__ import annotations

import json

import numpy as np
import pytest

from medward.guard.monitors.repeats import (
    DIGEST_LETTERS,
    NEAR_INPUTS,
    REMEMBERED_INPUTS,
    bits_apart,
    find_repeats,
    no_inputs,
)


def test_an_input_among_the_last_few_repeats_exactly_and_no_older_one():
    digests = [str(i) for i in range(REMEMBERED_INPUTS)]
    recent, found = find_repeats(no_inputs(), digests, [""] * REMEMBERED_INPUTS, 0)
    assert set(found) == {""}
    assert find_repeats(recent, ["0"], [""], 0)[1] == ["exact"]
    assert find_repeats(recent, ["new", "0"], ["", ""], 0)[1] == ["", ""]


def test_only_inputs_that_follow_one_another_are_near():
    codes = ["f" * 16, "f" * 15 + "e"]
    assert bits_apart(*codes) == 1
    assert find_repeats(no_inputs(), ["a", "b"], codes, 1)[1] == ["", "near"]
    assert find_repeats(no_inputs(), ["a", "b"], codes, 0)[1] == ["", ""]
    far = [f"{i + 1:x}" * 16 for i in range(NEAR_INPUTS)]
    names = [*"a", *map(str, range(NEAR_INPUTS)), "b"]
    assert find_repeats(no_inputs(), names, [codes[0], *far, codes[1]], 1)[1][-1] == ""


def test_a_batch_is_remembered_as_its_rows_one_by_one():
    rng = np.random.default_rng(0)
    digests = [str(i) for i in rng.integers(20, size=60)]
    codes = [f"{i:016x}" for i in rng.integers(64, size=60)]
    recent, found = no_inputs(), []
    for digest, code in zip(digests, codes, strict=True):
        recent, (how,) = find_repeats(recent, [digest], [code], 1)
        found.append(how)
    assert find_repeats(no_inputs(), digests, codes, 1) == (recent, found)
    assert set(found) == {"exact", "near", ""}
    assert (len(recent["digests"]), len(recent["codes"])) == (60 * DIGEST_LETTERS, NEAR_INPUTS)


def test_what_is_remembered_never_outgrows_its_place():
    recent, _ = find_repeats(no_inputs(), [str(i) for i in range(2000)], ["f" * 16] * 2000, 0)
    assert len(recent["digests"]) == REMEMBERED_INPUTS * DIGEST_LETTERS
    assert len(json.dumps(recent)) < 400


def test_new_inputs_are_hardly_ever_taken_for_repeats():
    recent, _ = find_repeats(no_inputs(), [f"old {i}" for i in range(REMEMBERED_INPUTS)], [""] * REMEMBERED_INPUTS, 0)
    taken = sum(find_repeats(recent, [f"new {i}"], [""], 0)[1] == ["exact"] for i in range(20_000))
    assert 0 < taken <= 18, "the chance is 96 / 2^18 each, 7 in all"


def test_letters_of_two_neighbours_are_no_digest():
    one, other = (find_repeats(no_inputs(), [name], [""], 0)[0]["digests"] for name in ("a", "b"))
    recent = {"digests": f"+{one}{other}++", "codes": []}
    assert find_repeats(recent, ["a"], [""], 0)[1] == [""]
    assert find_repeats({**recent, "digests": f"+{one}++{one}"}, ["a"], [""], 0)[1] == ["exact"]


@pytest.mark.parametrize(("distinct", "again"), [(REMEMBERED_INPUTS, True), (300, False)])
def test_a_loop_is_known_while_all_of_it_is_remembered(distinct, again):
    """A few of 300 are taken for repeats by chance."""
    recent, _ = find_repeats(no_inputs(), [str(i) for i in range(distinct)], [""] * distinct, 0)
    found = find_repeats(recent, [str(i) for i in range(distinct)], [""] * distinct, 0)[1]
    assert found.count("exact") == distinct if again else found.count("exact") <= 3
