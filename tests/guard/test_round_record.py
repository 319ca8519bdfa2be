"""A round's record, and the history that many of them tell."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.logs import write

from medward.guard.audit.log import read_log
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.federated.aggregator import Aggregator, RoundResult
from medward.guard.federated.client_history import federation_history
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.robust_feddetect import ClientJudgement, RobustFedDetect, Suspicion
from medward.guard.federated.round_record import round_record, unprotected
from medward.guard.federated.rules import (
    RULES,
    Bucketing,
    CoordinateMedian,
    FoolsGold,
    Krum,
    NormClippedMean,
    TrimmedMean,
    WeightedMean,
)
from medward.guard.federated.sanitise import Refusal
from medward.guard.federated.update import ClientUpdate

START = [np.zeros(3, np.float32)]


def update(node, value=1.0, examples=10, **metrics):
    return ClientUpdate(node=node, parameters=[np.full(3, value, np.float32)], examples=examples, metrics=metrics)


def result(weights, *, judgement=None, refusals=()):
    return RoundResult(parameters=START, weights=weights, judgement=judgement, refusals=tuple(refusals))


def judged(**trust):
    suspicion = Suspicion(node="mallory", view="contrast", peak=31.4, threshold=12.0)
    return ClientJudgement(trust=trust, suspects=(suspicion,) if "mallory" in trust else ())


ALL = judged(**dict.fromkeys("abcdefgh", 1.0))


def test_a_real_round_is_written_and_read_back(tmp_path):
    updates = [update("a", epsilon=1.5), update("b"), update("c", np.nan), update("stranger", epsilon=0.1)]
    _, found = Aggregator().step(FederationState(), START, updates, ["a", "b", "c"])
    path = write(tmp_path / "audit.jsonl", [round_record(1, found, NormClippedMean(), updates)])
    (record,) = read_log(path)
    assert record["weights"] == {"a": 0.5, "b": 0.5}
    assert {each["node"] for each in record["refusals"]} == {"c", "stranger"}
    assert record["epsilons"] == {"a": 1.5}, "of a stranger nothing is noted"
    history = federation_history([record], "log")
    assert history.clients["a"].epsilon == 1.5
    assert "NaN" in history.clients["c"].refused[0].refusal
    assert history.clients["c"].weight is None


@given(st.floats() | st.text() | st.none() | st.booleans() | st.integers(), st.text(max_size=2000))
@example(10**400, "an integer that no float holds")
def test_nothing_that_a_client_says_spoils_the_record(said, name):
    found = result({name: 1.0}, refusals=[Refusal(name, f"claims {name!r} examples")])
    record = round_record(1, found, WeightedMean(), [update(name, epsilon=said)])
    text = json.dumps(record, allow_nan=False)
    assert len(text) < 30_000
    assert all(value >= 0 for value in record["epsilons"].values())


@pytest.mark.parametrize(
    ("rule", "judgement", "says"),
    [
        (NormClippedMean(), ALL, []),
        (Bucketing(rule=Krum()), ALL, []),
        (Krum(), ALL, []),
        (NormClippedMean(), None, ["no client was judged"]),
        (WeightedMean(), ALL, ["weighted-mean lets"]),
        (Bucketing(rule=WeightedMean()), ALL, ["bucketing of weighted-mean lets"]),
        (WeightedMean(), None, ["no client was judged", "weighted-mean lets"]),
        (FoolsGold(), ALL, ["foolsgold lets"]),
        (CoordinateMedian(), judged(a=1.0, b=1.0, c=0.0), ["coordinate-median lets"]),
        (NormClippedMean(), judged(a=1.0, b=0.0), ["fewer than 3 clients were judged", "norm-clipped-mean lets"]),
        (TrimmedMean(malicious_share=0.05), ALL, ["trimmed-mean lets"]),
        (Bucketing(rule=NormClippedMean(), size=8), ALL, ["bucketing of norm-clipped-mean lets"]),
        ("FedAvg", ALL, ["FedAvg aggregated"]),
    ],
)
def test_what_nothing_guarded_is_said(rule, judgement, says):
    told = unprotected(result(dict.fromkeys("abcdefgh", 0.125), judgement=judgement), rule)
    assert len(told) == len(says)
    assert all(sentence.startswith(start) for sentence, start in zip(told, says, strict=True))


def test_the_name_of_a_rule_does_not_say_what_it_bounds():
    with pytest.raises(MedwardError, match="names a rule of Medward; give the rule itself"):
        round_record(1, result({"a": 1.0}), "norm-clipped-mean")


def test_a_round_that_took_nothing_had_nothing_to_guard():
    assert unprotected(result({}), WeightedMean()) == []


def test_every_rule_has_its_name_in_the_record():
    rules = [kind(rule=Krum()) if kind is Bucketing else kind() for kind in RULES.values()]
    named = [round_record(1, result({"a": 1.0}), rule)["rule"] for rule in rules]
    assert named == [name if name != "bucketing" else "bucketing of krum" for name in RULES]


def test_a_history_counts_rounds_suspicions_and_weights():
    rounds = [
        result({"a": 0.5, "mallory": 0.5}, judgement=judged(a=1.0, b=1.0, c=1.0)),
        result({"a": 0.9, "mallory": 0.1}, judgement=judged(a=1.0, b=1.0, mallory=0.1)),
        result(
            {"a": 1.0},
            judgement=judged(a=1.0, b=1.0, c=1.0),
            refusals=[Refusal("mallory", "array 0 holds NaN or infinity")],
        ),
    ]
    records = [round_record(number, each, NormClippedMean()) for number, each in enumerate(rounds, 1)]
    history = federation_history(records, "log")
    mallory = history.clients["mallory"]
    assert [each.round for each in mallory.suspected] == [2]
    assert mallory.suspected[0].suspicion.peak == 31.4
    assert [each.round for each in mallory.refused] == [3]
    assert mallory.weight == 0.1
    assert history.clients["a"].suspected == ()
    assert (history.rounds, history.last, history.repeated, history.unprotected) == (3, 3, 0, {})


def test_a_server_started_again_hides_nothing_of_what_was_before():
    flagged = round_record(1, result({"mallory": 0.1}, judgement=judged(mallory=0.1)), NormClippedMean())
    clean = round_record(1, result({"mallory": 0.5}, judgement=judged()), NormClippedMean())
    history = federation_history([flagged, clean], "log")
    assert history.repeated == 1
    assert len(history.clients["mallory"].suspected) == 1


def test_a_detector_that_flags_is_read_back_as_it_judged(tmp_path):
    """The whole way: a probe that sees one client stand out, the log, the history."""

    def probe(start, updates, number):
        rng = np.random.default_rng(number)
        return {
            each.node: {"mean": 0.1 * rng.normal(size=8) + 5 * (each.node == "mallory") * np.eye(8)[0]}
            for each in updates
        }

    state, aggregator, path = FederationState(), Aggregator(detector=RobustFedDetect(), probe=probe), tmp_path / "log"
    nodes = ["a", "b", "c", "d", "mallory"]
    for number in range(1, 12):
        state, found = aggregator.step(state, START, [update(node) for node in nodes], nodes)
        write(path, [round_record(number, found, aggregator.rule)])
    history = federation_history(read_log(path), str(path))
    assert [each.round for each in history.clients["mallory"].suspected] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert not any(history.clients[node].suspected for node in nodes[:4])
    assert history.clients["mallory"].rounds[-1].trust < history.clients["a"].rounds[-1].trust == 1.0


def test_records_of_other_events_are_passed_over_and_a_log_without_rounds_is_refused():
    with pytest.raises(MedwardError, match="none of its 2 records is of a federated round"):
        federation_history([{"event": "reset", "seq": 1}, {"principal": "a", "seq": 2}], "served.jsonl")


@pytest.mark.parametrize("broken", ["weights", "suspects", "unprotected", "round"])
def test_a_broken_record_is_named(broken):
    record = round_record(1, result({"a": 1.0}), NormClippedMean()) | {
        "seq": 4,
        broken: 3.5 if broken != "round" else "x",
    }
    with pytest.raises(IntegrityError, match="log: record 4 is no record of a federated round"):
        federation_history([record], "log")


@pytest.mark.parametrize("field", ["weights", "trust", "epsilons"])
def test_a_record_whose_numbers_are_none_is_called_so(tmp_path, field):
    record = round_record(1, result({"a": 1.0}), NormClippedMean()) | {"seq": 1, field: {"a": "heavy"}}
    with pytest.raises(IntegrityError, match="record 1 is no record of a federated round"):
        federation_history([record], "log")
