"""Rounds of a federation's server: who counts, what it remembers, and that a killed one goes on as before."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.guard.federated.rules.centred_clipping import CentredClipping
from medward.guard.federated.rules.coordinate_median import CoordinateMedian
from medward.guard.federated.rules.fltrust import FLTrust
from medward.guard.federated.rules.foolsgold import FoolsGold, dissimilarity
from medward.guard.federated.rules.krum import Krum
from medward.guard.federated.rules.norm_clipped_mean import NormClippedMean
from medward.guard.federated.rules.weighted_mean import WeightedMean
from medward.guard.federated.sanitise import UpdateBounds
from medward.guard.federated.update import ClientUpdate

START = [np.ones((3, 4), np.float32), np.array(9), np.zeros(5), np.array([True, False])]
NODES = ["a", "b", "c", "d", "e"]
LENGTHS = {"a": 0.001, "b": 2.0, "c": 2.0, "d": 4.0, "e": 9.0}
"""How much each node moves every number, where only that counts."""


def updates_of(number, nodes=NODES, **examples):
    generator = np.random.default_rng(number)
    made = {
        node: [generator.normal(size=(3, 4)).astype(np.float32), np.array(10), generator.normal(size=5), START[3]]
        for node in NODES
    }
    return [ClientUpdate(node=node, parameters=made[node], examples=examples.get(node, 50)) for node in nodes]


def looking(view="height", **seen):
    """A probe that sees one number of each node, 0 where not said otherwise."""
    return lambda start, updates, number: {
        update.node: {view: np.array([seen.get(update.node, 0.001 * place)])} for place, update in enumerate(updates)
    }


def played(aggregator, rounds, state=None, start=START, server=None, absent=lambda number: ()):
    state = FederationState() if state is None else state
    for number in rounds:
        nodes = [node for node in NODES if node not in absent(number)]
        state, result = aggregator.step(state, start, updates_of(number, nodes), NODES, server)
        start = result.parameters
    return state, result


def test_without_a_probe_nobody_is_judged_and_the_result_says_so():
    state, result = played(Aggregator(rule=WeightedMean()), [1])
    assert result.judgement is None
    assert result.unchanged is None
    assert state.round == 1
    np.testing.assert_allclose(
        result.parameters[2], np.mean([update.parameters[2] for update in updates_of(1)], axis=0), atol=1e-12
    )


def test_a_detector_and_a_probe_come_together():
    for half in ({"detector": RobustFedDetect()}, {"probe": looking()}):
        with pytest.raises(MedwardError, match=r"^aggregator: a detector needs a probe"):
            Aggregator(**half)


def test_no_update_leaves_the_model_and_counts_the_round():
    state, result = Aggregator().step(FederationState(round=4), START, [], NODES)
    assert state.round == 5
    assert result.weights == {}
    assert result.unchanged == "no update counts"
    for new, old in zip(result.parameters, START, strict=True):
        np.testing.assert_array_equal(new, old)
        assert new is not old


def test_a_suspect_counts_nothing_and_is_still_looked_at():
    aggregator = Aggregator(rule=WeightedMean(), detector=RobustFedDetect(warm_up=2), probe=looking(e=9.0))
    state, result = played(aggregator, range(1, 10))
    assert [each.node for each in result.judgement.suspects] == ["e"]
    assert result.weights["e"] == 0
    assert sum(result.weights.values()) == pytest.approx(1)
    assert state.records["e"].rounds == 9
    expected = np.mean([update.parameters[2] for update in updates_of(9)[:4]], axis=0)
    np.testing.assert_allclose(result.parameters[2], expected, atol=1e-12)


def test_where_every_client_is_distrusted_the_model_stays():
    class Harsh(RobustFedDetect):
        def trust(self, flags):
            return 0.0

    _, result = played(Aggregator(detector=Harsh(), probe=looking()), [1])
    assert result.unchanged == "every client is distrusted"
    assert set(result.weights.values()) == {0.0}
    np.testing.assert_array_equal(result.parameters[0], START[0])


def test_trust_lowers_a_large_hospital_below_its_bound_and_no_distrusted_one_rises():
    class Half(RobustFedDetect):
        def trust(self, flags):
            return 0.5 if flags else 1.0

    aggregator = Aggregator(
        rule=WeightedMean(), detector=Half(warm_up=1), probe=looking(a=9.0), bounds=UpdateBounds(most_share=0.5)
    )
    state, _ = aggregator.step(FederationState(), START, updates_of(1), NODES)
    _, result = aggregator.step(state, START, updates_of(2, a=50_000), NODES)
    assert result.weights["a"] == pytest.approx(0.25 / 0.75)


@pytest.mark.parametrize("seen", [np.nan, np.inf, 1e31])
def test_who_cannot_be_compared_is_refused_and_the_others_are_judged(seen):
    aggregator = Aggregator(rule=WeightedMean(), detector=RobustFedDetect(), probe=looking(c=seen))
    state, result = played(aggregator, [1])
    (refusal,) = result.refusals
    assert (refusal.node, refusal.reason) == ("c", "view 'height' of it is not finite or beyond 1e+30")
    assert set(result.weights) == set(result.judgement.trust) == {"a", "b", "d", "e"}
    assert "c" not in state.records


def test_who_is_not_seen_in_all_views_is_refused():
    def probe(start, updates, number):
        seen = {update.node: {"loss": np.zeros(1), "norm": np.ones(1)} for update in updates}
        seen.pop("a", None)
        seen.get("b", {}).pop("loss", None)
        return seen

    _, result = played(Aggregator(detector=RobustFedDetect(), probe=probe), [1])
    assert {each.node: each.reason for each in result.refusals} == {
        "a": "the probe does not see it in view 'loss', as it does others",
        "b": "the probe does not see it in view 'loss', as it does others",
    }
    _, result = played(Aggregator(detector=RobustFedDetect(), probe=lambda *_: {}), [1])
    assert result.unchanged == "no update counts"
    assert len(result.refusals) == 5
    assert "look at the probe" in result.refusals[0].reason


def test_who_the_probe_cannot_see_does_not_shorten_the_others():
    """A tiny update whose images are broken would else set how long the others may be."""
    shown = []

    def probe(start, updates, number):
        sent = {update.node: float(np.abs(update.parameters[0]).max()) for update in updates}
        shown.append(sent)
        return {node: {"view": np.full(1, np.nan if node in "ab" else 0.0)} for node in sent}

    updates = [ClientUpdate(node=node, parameters=[np.full(2, size)], examples=1) for node, size in LENGTHS.items()]
    Aggregator(detector=RobustFedDetect(), probe=probe).step(FederationState(), [np.zeros(2)], updates, list(LENGTHS))
    assert shown[0]["e"] == pytest.approx(2.0)
    assert shown[-1] == pytest.approx({"c": 2.0, "d": 4.0, "e": 4.0})


def test_a_probe_that_is_none_is_refused():
    with pytest.raises(MedwardError, match="probe: must be a function"):
        Aggregator(detector=RobustFedDetect(), probe="contrast")
    with pytest.raises(MedwardError, match="probe: must give a mapping of nodes to views, got NoneType"):
        played(Aggregator(detector=RobustFedDetect(), probe=lambda *_: None), [1])


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ([1.0], "must give views of a by name, a mapping, got list"),
        ({"x": 0.1}, "view 'x' of a must be an array .* got float"),
        ({"x": np.zeros((2, 2))}, "got shape .2, 2. of float64"),
        ({"x": np.array(["a"])}, "got shape .1,. of <U1"),
    ],
)
def test_a_probe_that_gives_no_vectors_is_told_so(views, said):
    with pytest.raises(MedwardError, match=said):
        played(Aggregator(detector=RobustFedDetect(), probe=lambda *_: {"a": views}), [1])


def test_a_result_says_how_long_each_update_came():
    updates = [ClientUpdate(node=node, parameters=[np.full(2, size)], examples=1) for node, size in LENGTHS.items()]
    _, result = Aggregator().step(FederationState(), [np.zeros(2)], updates, list(LENGTHS))
    assert result.lengths == pytest.approx({"a": 0.0005, "b": 1.0, "c": 1.0, "d": 2.0, "e": 4.5})
    _, still = Aggregator().step(FederationState(), [np.full(2, 2.0)], updates[1:3], list(LENGTHS))
    assert still.lengths == {}, "nobody moved: there is no length to compare with"


def test_a_state_that_is_none_is_refused():
    with pytest.raises(MedwardError, match="state: must be a FederationState, that of a new federation at first"):
        Aggregator().step(None, START, updates_of(1), NODES)


@pytest.mark.parametrize("start", [{"w": np.zeros(2)}, [[0.0, 0.0]]])
def test_a_model_that_is_no_list_of_arrays_is_refused(start):
    with pytest.raises(MedwardError, match="start: must be a list of NumPy arrays"):
        Aggregator().step(FederationState(), start, updates_of(1), NODES)


def test_a_shortened_client_is_said_to_have_its_whole_say():
    updates = [ClientUpdate(node=node, parameters=[np.full(2, size)], examples=1) for node, size in LENGTHS.items()]
    updates[-1] = replace(updates[-1], parameters=[np.full(2, 1000.0)])
    _, result = Aggregator().step(FederationState(), [np.zeros(2)], updates, list(LENGTHS))
    assert result.weights["e"] == pytest.approx(0.2)


def test_a_coefficient_too_small_for_float32_keeps_the_bound():
    """3e38 times ten thousand numbers against honest ones of 1e-4."""
    start = [np.zeros(10_000, np.float32)]
    updates = [
        ClientUpdate(node=node, parameters=[np.full(10_000, size, np.float32)], examples=1)
        for node, size in (("a", 1e-4), ("b", 1e-4), ("c", 3e38))
    ]
    _, result = Aggregator().step(FederationState(), start, updates, ["a", "b", "c"])
    assert float(np.linalg.norm(result.parameters[0])) <= 1.001 * float(np.linalg.norm(updates[0].parameters[0]))


def test_who_is_absent_keeps_its_record():
    aggregator = Aggregator(detector=RobustFedDetect(warm_up=2), probe=looking(e=9.0))
    state, _ = played(aggregator, range(1, 6))
    flags = state.records["e"].flags
    state, result = played(aggregator, range(6, 9), state, absent=lambda number: "e")
    assert state.records["e"].flags == flags > 0
    assert "e" not in result.weights
    _, result = played(aggregator, [9], state)
    assert [each.node for each in result.judgement.suspects] == ["e"]


def test_too_few_clients_for_the_rule_leave_the_model_and_the_result_says_why():
    _, result = Aggregator(rule=Krum()).step(FederationState(), START, updates_of(1, ["a", "b"]), NODES)
    assert result.unchanged.startswith("krum: needs 4 clients to bear 1 malicious ones, and this round has 2")
    np.testing.assert_array_equal(result.parameters[2], START[2])
    assert result.weights == {"a": 0.0, "b": 0.0}


def test_a_rule_by_rank_says_whose_numbers_were_compared():
    _, result = played(Aggregator(rule=CoordinateMedian()), [1])
    assert result.weights == dict.fromkeys(NODES, pytest.approx(0.2))


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (None, "^fltrust: needs an update that the server learned from rows of its own; give server"),
        ([np.ones(3)], "^server: sent 1 arrays; the model has 4"),
        ([*START[:2], np.full(5, np.nan), START[3]], "^server: array 2 holds NaN or infinity"),
    ],
)
def test_a_rule_without_a_sound_reference_is_an_error(server, said):
    with pytest.raises(MedwardError, match=said):
        played(Aggregator(rule=FLTrust()), [1], server=server)


def test_centred_clipping_begins_from_the_last_aggregate():
    aggregator = Aggregator(rule=CentredClipping(radius=0.5, steps=1))
    first, result = played(aggregator, [1])
    change = result.parameters[2] - START[2]
    np.testing.assert_allclose(first.previous[2], change)
    _, result = aggregator.step(first, result.parameters, updates_of(2), NODES)
    base = START[2] + 2 * change
    moves = [update.parameters[2] - base for update in updates_of(2)]
    heads = [update.parameters[0] - (START[0] + 2 * first.previous[0]) for update in updates_of(2)]
    lengths = np.sqrt([(move**2).sum() + (head**2).sum() for move, head in zip(moves, heads, strict=True)])
    expected = base + sum(move * min(1, 0.5 / length) for move, length in zip(moves, lengths, strict=True)) / 5
    np.testing.assert_allclose(result.parameters[2], expected, atol=1e-6)


def test_foolsgold_looks_at_sums_of_all_rounds_as_a_dense_computation_does():
    away = {2: ("b",), 3: ("b", "c"), 5: ("a",)}
    aggregator, state, start = Aggregator(rule=FoolsGold(), bounds=UpdateBounds(most_share=1)), FederationState(), START
    sums = {node: np.zeros(17) for node in NODES}
    for number in range(1, 7):
        sent = updates_of(number, [node for node in NODES if node not in away.get(number, ())], a=10, b=90)
        changes = {
            update.node: np.concatenate(
                [np.ravel(update.parameters[place].astype(float) - start[place]) for place in (0, 2)]
            )
            for update in sent
        }
        for node, change in changes.items():
            sums[node] += change
        present = [update.node for update in sent]
        dense = np.stack([sums[node] for node in present])
        kept = dissimilarity(dense @ dense.T) * [update.examples for update in sent]
        state, result = aggregator.step(state, start, sent, NODES)
        np.testing.assert_allclose([result.weights[node] for node in present], kept / kept.sum(), atol=1e-5)
        start = result.parameters
    assert set(state.sums) == set(NODES)


def test_clients_that_send_alike_over_rounds_are_told_by_sums_not_by_one_round():
    """Two sybils whose noise cancels over rounds: one round does not show them, the sums do."""
    generator, state, found = np.random.default_rng(0), FederationState(), []
    aggregator, pull = Aggregator(rule=FoolsGold()), generator.normal(size=40)
    for _ in range(30):
        steps = generator.normal(size=(5, 40))
        steps[3:] += pull
        sent = [ClientUpdate(node=node, parameters=[step], examples=1) for node, step in zip(NODES, steps, strict=True)]
        state, result = aggregator.step(state, [np.zeros(40)], sent, NODES)
        found.append(result.weights["e"])
    assert found[0] > 0.1 > 0.01 > found[-1]


@pytest.mark.parametrize(
    "aggregator",
    [
        Aggregator(rule=NormClippedMean()),
        Aggregator(rule=CentredClipping()),
        Aggregator(rule=FoolsGold()),
    ],
    ids=lambda each: each.rule.name,
)
def test_a_killed_server_goes_on_as_if_it_had_not_been(aggregator):
    through, whole = played(aggregator, range(1, 7))
    state, half = played(aggregator, range(1, 4))
    kept, arrays = json.loads(json.dumps(state.to_json())), {name: list(each) for name, each in state.arrays().items()}
    state, end = played(aggregator, range(4, 7), FederationState.from_json(kept, arrays), half.parameters)
    for one, other in zip(end.parameters, whole.parameters, strict=True):
        np.testing.assert_array_equal(one, other)
    assert end.weights == whole.weights
    assert state.to_json() == through.to_json()


def test_lost_sums_are_an_error_and_not_a_new_beginning():
    state, _ = played(Aggregator(rule=FoolsGold()), [1])
    with pytest.raises(MedwardError, match=r"^state: the sum of the updates of a was not given"):
        FederationState.from_json(state.to_json())
    assert FederationState.from_json(played(Aggregator(), [1])[0].to_json()).round == 1


def test_a_site_of_few_rows_sending_a_thousandfold_moves_the_default_rule_little():
    """The measured one is `tests/benchmarks/federated_rules.py`; here four sites and one of 0.6 % of the rows."""
    generator = np.random.default_rng(0)
    start = [np.zeros(2000, np.float32)]
    honest = [generator.normal(1, 1, 2000).astype(np.float32) for _ in NODES]
    rows = [2485, 2485, 2485, 2485, 60]

    def end(rule, factor):
        sent = [
            ClientUpdate(node=node, parameters=[step], examples=count)
            for node, step, count in zip(NODES, honest, rows, strict=True)
        ]
        sent[4] = ClientUpdate(node="e", parameters=[honest[4] * np.float32(factor)], examples=60)
        return Aggregator(rule=rule).step(FederationState(), start, sent, NODES)[1].parameters[0]

    moved = {rule.name: np.linalg.norm(end(rule, -1000) - end(rule, 1)) for rule in (NormClippedMean(), WeightedMean())}
    honest_round = np.linalg.norm(end(NormClippedMean(), 1))
    assert moved["norm-clipped-mean"] < 0.05 * honest_round < 5 * honest_round < moved["weighted-mean"]
