from __future__ import annotations

import numpy as np

from medward.guard.monitors.repeats import NEAR_INPUTS, REMEMBERED_INPUTS, bits_apart, find_repeats


def test_an_input_among_the_last_few_repeats_exactly_and_no_older_one():
    digests = [str(i) for i in range(REMEMBERED_INPUTS)]
    recent, found = find_repeats([], digests, [""] * REMEMBERED_INPUTS, 0)
    assert set(found) == {""}
    assert find_repeats(recent, ["0"], [""], 0)[1] == ["exact"]
    assert find_repeats(recent, ["new", "0"], ["", ""], 0)[1] == ["", ""]


def test_only_inputs_that_follow_one_another_are_near():
    codes = ["f" * 16, "f" * 15 + "e"]
    assert bits_apart(*codes) == 1
    assert find_repeats([], ["a", "b"], codes, 1)[1] == ["", "near"]
    assert find_repeats([], ["a", "b"], codes, 0)[1] == ["", ""]
    far = [f"{i + 1:x}" * 16 for i in range(NEAR_INPUTS)]
    names = [*"a", *map(str, range(NEAR_INPUTS)), "b"]
    assert find_repeats([], names, [codes[0], *far, codes[1]], 1)[1][-1] == ""


def test_a_batch_is_remembered_as_its_rows_one_by_one():
    rng = np.random.default_rng(0)
    digests = [str(i) for i in rng.integers(20, size=60)]
    codes = [f"{i:016x}" for i in rng.integers(64, size=60)]
    recent, found = [], []
    for digest, code in zip(digests, codes, strict=True):
        recent, (how,) = find_repeats(recent, [digest], [code], 1)
        found.append(how)
    assert find_repeats([], digests, codes, 1) == (recent, found)
    assert set(found) == {"exact", "near", ""}
    assert len(recent) == REMEMBERED_INPUTS
