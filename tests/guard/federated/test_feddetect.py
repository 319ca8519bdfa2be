"""FedDetect does what the published code does, and what that does to honest hospitals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from medward.guard.errors import MedwardError
from medward.guard.federated.feddetect import FedDetect, FedDetectState

TREES = 10  # the published 100 take ten times as long and change little


def losses_of(generator, clients, gap=0.0, malicious=0):
    losses = np.abs(generator.normal(1.5, 0.3, clients))
    losses[:malicious] += gap
    return {f"node{place}": float(loss) for place, loss in enumerate(losses)}


def played(detector, rounds, clients, seed, **attack):
    generator, state = np.random.default_rng(seed), FedDetectState()
    for _ in range(rounds):
        state, _ = detector.detect(state, losses_of(generator, clients, **attack))
    return state


def effective(state):
    weights = np.array(list(state.weights.values()))
    return float(weights.sum() ** 2 / (weights**2).sum())


def replayed(rounds, clients, seed, warm_up, trees, **attack):
    """The published steps as the notes tell them, written with arrays."""
    generator = np.random.default_rng(seed)
    weights, counts = np.full(clients, 1 / clients), np.zeros(clients, int)
    for number in range(1, rounds + 1):
        losses = np.array(list(losses_of(generator, clients, **attack).values()))
        points = np.stack([np.zeros(clients), np.abs(losses)], axis=1)
        forest = IsolationForest(n_estimators=trees, max_samples=clients, random_state=999, contamination="auto")
        negative = np.flatnonzero(forest.fit(points).predict(points) == -1)
        if number > warm_up and len(negative) < clients // 2:
            counts[negative] += 1
            weights[negative] *= 0.9 ** counts[negative]
            weights = weights / weights.sum()
    return weights, counts


@pytest.mark.parametrize(("clients", "attack"), [(4, {}), (4, {"gap": 1.5, "malicious": 1}), (9, {}), (3, {})])
def test_it_replays_the_published_steps(clients, attack):
    weights, counts = replayed(25, clients, 7, 5, TREES, **attack)
    state = played(FedDetect(warm_up=5, trees=TREES), 25, clients, 7, **attack)
    assert list(state.flags.values()) == counts.tolist()
    np.testing.assert_allclose(list(state.weights.values()), weights, rtol=1e-12)
    assert counts.any() == (clients != 3)  # of three, one is half of them already: every round is ignored


def test_without_any_attacker_it_lowers_honest_clients_to_nothing():
    ends = [played(FedDetect(trees=TREES), 100, 4, seed) for seed in range(2)]
    assert max(effective(end) for end in ends) < 2
    assert max(max(end.weights.values()) for end in ends) > 0.6


def test_an_attacker_whose_loss_stands_out_is_lowered_and_one_who_lies_is_not():
    ends = played(FedDetect(trees=TREES), 40, 4, 3, gap=1.5, malicious=1)
    lies = played(FedDetect(trees=TREES), 40, 4, 3)  # its loss is like the others'
    assert ends.weights["node0"] < 0.001
    assert effective(ends) > 2
    assert lies.flags["node0"] < ends.flags["node0"] / 2


def test_ten_flags_leave_a_third_of_a_percent():
    assert 0.9 ** sum(range(1, 11)) == pytest.approx(0.003, abs=5e-5)
    state = FedDetectState(round=20, flags={"a": 9, "b": 0, "c": 0, "d": 0}, weights=dict.fromkeys("abcd", 0.25))
    after, suspects = FedDetect(trees=TREES).detect(state, {"a": 9.0, "b": 1.0, "c": 1.0, "d": 1.0})
    assert suspects == {"a"}
    assert after.flags["a"] == 10
    assert after.weights["a"] / after.weights["b"] == pytest.approx(0.9**10)


def test_during_the_warm_up_nothing_is_counted():
    state = played(FedDetect(trees=TREES), 10, 4, 0, gap=9.0, malicious=1)
    assert set(state.flags.values()) == {0}
    assert set(state.weights.values()) == {0.25}


def test_who_is_absent_keeps_flags_and_weight():
    detector = FedDetect(warm_up=0, trees=TREES)
    state, _ = detector.detect(FedDetectState(), {"a": 9.0, "b": 1.0, "c": 1.0, "d": 1.0})
    away, _ = detector.detect(state, {"b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0})
    assert away.flags["a"] == 1
    assert away.weights["a"] < 0.95 * away.weights["b"]
    assert sum(away.weights.values()) == pytest.approx(1)
    back, _ = detector.detect(away, {"a": 9.0, "b": 1.0, "c": 1.0, "d": 1.0})
    assert back.flags["a"] == 2


@given(
    st.builds(
        FedDetectState,
        round=st.integers(0, 1000),
        flags=st.dictionaries(st.text(max_size=4), st.integers(0, 99)),
        weights=st.dictionaries(st.text(max_size=4), st.floats(0, 1)),
    )
)
@settings(max_examples=30)
def test_the_state_survives_json(state):
    assert FedDetectState.from_json(json.loads(json.dumps(state.to_json()))) == state


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused(loss):
    with pytest.raises(MedwardError, match=r"^loss of b: must be finite, got"):
        FedDetect().detect(FedDetectState(), {"a": 1.0, "b": loss})


@pytest.mark.parametrize("setting", [{"decay": 1.0}, {"decay": 0.0}, {"warm_up": -1}, {"trees": 0}])
def test_settings_are_bounded(setting):
    with pytest.raises(MedwardError, match="must be"):
        FedDetect(**setting)
