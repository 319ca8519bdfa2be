"""RobustFedDetect: nobody is flagged without a reason, who keeps differing is, and who stops is trusted again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.federated.robust_feddetect import (
    ClientJudgement,
    ClientRecord,
    RobustFedDetect,
    records_from_json,
    records_to_json,
)
from medward.guard.federated.standing import stand

HONEST = ("a", "b", "c")
DETECTOR = RobustFedDetect()


def rounds_of(detector: RobustFedDetect, evidence: list[dict[str, float]]) -> list[ClientJudgement]:
    records: dict[str, ClientRecord] = {}
    judgements = []
    for each in evidence:
        records, judgement = detector.judge(
            records, {node: {"view": np.array([value])} for node, value in each.items()}
        )
        judgements.append(judgement)
    return judgements


def test_chance_flags_nobody() -> None:
    rng = np.random.default_rng(0)
    evidence = [
        {node: float(value) for node, value in zip("abcd", rng.normal(0, 0.5, 4), strict=True)} for _ in range(200)
    ]
    assert not any(each.suspects for each in rounds_of(DETECTOR, evidence))


def test_identical_clients_flag_nobody() -> None:
    assert not any(each.suspects for each in rounds_of(DETECTOR, [dict.fromkeys("abcd", 0.0)] * 50))


def test_who_keeps_differing_weighs_nothing_within_ten_rounds_of_the_warm_up() -> None:
    judgements = rounds_of(DETECTOR, [{**dict.fromkeys(HONEST, 0.1), "m": 2.0}] * (DETECTOR.warm_up + 10))
    assert judgements[DETECTOR.warm_up - 1].trust["m"] == 1.0
    assert judgements[-1].peaks["m"][0] == "view"
    assert judgements[-1].trust == {**dict.fromkeys(HONEST, 1.0), "m": 0.0}
    suspicion = judgements[-1].suspects[0]
    assert (suspicion.node, suspicion.view, suspicion.threshold) == ("m", "view", 1.0)
    assert suspicion.peak > 1.5


def test_what_differs_much_is_flagged_in_the_warm_up_from_the_third_round_on() -> None:
    judgements = rounds_of(DETECTOR, [{**dict.fromkeys(HONEST, 0.1), "m": 5.0}] * 8)
    assert [len(each.suspects) for each in judgements] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert judgements[0].young == (*HONEST, "m")
    assert judgements[-1].trust["m"] == 0.0


def test_what_the_warm_up_showed_is_forgotten() -> None:
    young, grown = {**dict.fromkeys(HONEST, 0.1), "d": 1.9}, {**dict.fromkeys(HONEST, 0.1), "d": 0.4}
    assert not any(each.suspects for each in rounds_of(DETECTOR, [young] * DETECTOR.warm_up + [grown] * 20))


def test_those_who_lost_trust_leave_no_room_for_the_honest_to_follow() -> None:
    """Two of five are distrusted first, and then make an honest one stand out."""
    first = [{"a": 0.1, "b": 0.1, "c": 0.1, "m": 5.0, "n": 5.0}] * 16
    then = [{"a": 0.1, "b": 0.1, "c": 5.0, "m": 0.1, "n": 0.1}] * 4
    assert all(each.trust["c"] == 1.0 for each in rounds_of(DETECTOR, first + then))


def test_a_single_large_round_is_forgotten() -> None:
    evidence = (
        [dict.fromkeys("abcd", 0.0)] * 20
        + [{**dict.fromkeys(HONEST, 0.0), "d": 3.0}]
        + [dict.fromkeys("abcd", 0.0)] * 5
    )
    assert not any(each.suspects for each in rounds_of(DETECTOR, evidence))


def test_a_slow_starter_is_suppressed_within_ten_rounds_of_its_start() -> None:
    quiet, loud = dict.fromkeys("abcm", 0.0), {**dict.fromkeys(HONEST, 0.0), "m": 4.0}
    assert rounds_of(DETECTOR, [quiet] * 30 + [loud] * 10)[-1].trust["m"] == 0.0


def test_who_stops_is_trusted_again() -> None:
    quiet, loud = dict.fromkeys("abcm", 0.0), {**dict.fromkeys(HONEST, 0.0), "m": 3.0}
    judgements = rounds_of(DETECTOR, [loud] * 20 + [quiet] * 60)
    assert judgements[19].trust["m"] == 0.0
    assert judgements[-1].trust["m"] > 0.9


def test_at_most_the_most_suspects_are_flagged_and_the_others_are_named() -> None:
    evidence = [{**dict.fromkeys("abcde", 0.1), "f": 5.0, "g": 6.0, "h": 7.0, "i": 8.0}] * 20
    last = rounds_of(RobustFedDetect(most_suspects=0.3), evidence)[-1]
    assert [each.node for each in last.suspects] == ["i", "h"]
    assert [each.node for each in last.spared] == ["g", "f"]


def test_where_all_differ_much_nobody_is_told() -> None:
    assert not any(each.suspects for each in rounds_of(DETECTOR, [{"a": 3.0, "b": 4.0, "c": 5.0, "d": 5.5}] * 30))


def test_the_absent_keep_their_records() -> None:
    records, _ = DETECTOR.judge({}, {node: {"view": np.zeros(2)} for node in "ab"})
    after, judgement = DETECTOR.judge(records, {"a": {"view": np.zeros(2)}, "c": {"view": np.zeros(2)}})
    assert after["b"] == records["b"]
    assert set(judgement.trust) == {"a", "c"}


def test_clients_seen_in_unlike_views_are_refused() -> None:
    with pytest.raises(MedwardError, match="every client is seen in the same views"):
        DETECTOR.judge({}, {"a": {"view": np.zeros(1)}, "b": {"other": np.zeros(1)}})


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory", 1.0), ("decay", 0.0), ("forgiving", 1.5), ("most_suspects", 1.0), ("threshold", 0.0), ("beyond", 0.5)],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(MedwardError, match=name):
        RobustFedDetect(**{name: value})


@given(st.lists(st.lists(st.floats(-4, 4), min_size=4, max_size=4), min_size=1, max_size=12), st.integers(1, 11))
def test_a_resumed_server_judges_as_one_that_was_never_killed(evidence: list[list[float]], cut: int) -> None:
    whole: dict[str, ClientRecord] = {}
    resumed: dict[str, ClientRecord] = {}
    for number, values in enumerate(evidence):
        seen = {node: {"view": np.array([value, -value])} for node, value in zip("abcd", values, strict=True)}
        whole, one = DETECTOR.judge(whole, seen)
        if number == cut:
            resumed = records_from_json(json.loads(json.dumps(records_to_json(resumed))))
        resumed, other = DETECTOR.judge(resumed, seen)
        assert one == other


@given(st.floats(-100, 100), st.floats(0.05, 0.95))
def test_a_constant_difference_is_approached_from_below(value: float, memory: float) -> None:
    standing = None
    for _ in range(60):
        standing = stand(standing, np.array([value]), memory)
        assert standing.peak <= abs(value) + 1e-4
    assert standing is not None
    assert standing.peak == pytest.approx(abs(value), rel=0.1, abs=1e-3)
