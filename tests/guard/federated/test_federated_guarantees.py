"""What docs/guarantees.md promises of a federation, a test for each sentence, each with what breaks it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.configured import configured_aggregator, configured_rule
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.geometry import round_geometry
from medward.guard.federated.policy import FederatedPolicy
from medward.guard.federated.robust_feddetect import ClientRecord, RobustFedDetect
from medward.guard.federated.round_record import round_record
from medward.guard.federated.rules import RULES, Bucketing, CoordinateMedian, NormClippedMean, WeightedMean
from medward.guard.federated.sanitise import UpdateBounds, example_weights
from medward.guard.federated.standing import Standing
from medward.guard.federated.update import ClientUpdate
from medward.guard.federated.update_evidence import excess_losses

SIZE = 6
STATED = ("krum", "multi-krum", "bulyan", "trimmed-mean", "divide-and-conquer")
START = [np.zeros(SIZE, np.float32)]
NUMBERS = st.floats(-1, 1, width=32)
VECTORS = st.lists(NUMBERS, min_size=SIZE, max_size=SIZE).map(lambda numbers: np.array(numbers, np.float32))
ANYTHING = st.one_of(
    VECTORS,
    st.integers(-(10**30), 10**30).map(lambda number: np.full(SIZE, number, np.float32)),
    st.sampled_from([np.nan, np.inf, -np.inf]).map(lambda number: np.full(SIZE, number, np.float32)),
    st.just(np.ones(SIZE + 1, np.float32)),
    st.just(np.ones(SIZE, np.float64)),
)
EXAMPLES = st.one_of(st.integers(-10, 10**12), st.floats(), st.none(), st.text(max_size=3))
HONEST = st.lists(st.tuples(VECTORS, st.integers(1, 1000)), min_size=3, max_size=8)


def step(updates, **settings):
    nodes = {each.node for each in updates}
    return Aggregator(**settings).step(FederationState(), START, updates, nodes)[1]


def update(node, vector, examples=10, **metrics):
    return ClientUpdate(node=node, parameters=[vector], examples=examples, metrics=metrics)


def honest_updates(honest):
    return [update(f"site-{place}", vector, examples) for place, (vector, examples) in enumerate(honest)]


@given(HONEST, ANYTHING, EXAMPLES, st.floats(0.5, 2))
def test_one_client_moves_the_model_by_its_weight_times_the_longest_honest_update(honest, vector, examples, clip):
    updates = honest_updates(honest)
    longest = max(float(np.linalg.norm(each.parameters[0])) for each in updates)
    result = step([*updates, update("mallory", vector, examples)], rule=NormClippedMean(clip=clip))
    moved = result.parameters[0].astype(np.float64)
    rounding = 1e-5 * (1 + clip * longest)
    assert np.linalg.norm(moved) <= clip * longest + rounding, "all clients together"
    if "mallory" not in result.weights:
        return
    sent = [each.parameters[0].astype(np.float64) for each in [*updates, update("mallory", vector)]]
    lengths = np.array([np.linalg.norm(each) for each in sent])
    weights = example_weights([*(each.examples for each in updates), examples], UpdateBounds().most_share)
    bound = clip * np.sort(lengths)[(len(lengths) - 1) // 2]
    shortened = [
        weight * each * min(1, bound / max(length, 1e-300))
        for weight, each, length in zip(weights, sent, lengths, strict=True)
    ]
    own = moved - np.sum(shortened[:-1], axis=0)
    assert np.linalg.norm(own) <= weights[-1] * clip * longest + rounding
    assert weights[-1] <= UpdateBounds().most_share + 1e-9


def test_without_clipping_one_client_moves_it_anywhere():
    updates = [*(update(f"site-{place}", np.ones(SIZE, np.float32)) for place in range(3))]
    wild = update("mallory", np.full(SIZE, -1e6, np.float32))
    free = step([*updates, wild], rule=WeightedMean()).parameters[0]
    held = step([*updates, wild], rule=NormClippedMean()).parameters[0]
    assert np.linalg.norm(free) > 1e5
    assert np.linalg.norm(held) <= np.sqrt(SIZE)


@given(HONEST, ANYTHING, EXAMPLES, st.sampled_from(sorted(set(RULES) - {Bucketing.name, "fltrust"})))
def test_a_refused_update_changes_nothing_for_the_others(honest, vector, examples, rule):
    stated = {"malicious_share": 0.0} if rule in STATED else {}
    kind, updates = partial(RULES[rule], **stated), honest_updates(honest)
    with_it = step([*updates, update("mallory", vector, examples)], rule=kind())
    if "mallory" in {each.node for each in with_it.refusals}:
        without = step(updates, rule=kind())
        np.testing.assert_array_equal(with_it.parameters[0], without.parameters[0])
        assert with_it.weights == without.weights


def see_nothing(start, updates, number):
    """A probe in which all clients look alike."""
    return {each.node: {"view": np.zeros(SIZE)} for each in updates}


def see(start, updates, number):
    """A probe that looks at what was sent, and at nothing that was said."""
    return {each.node: {"change": np.asarray(each.parameters[0], np.float64)} for each in updates}


@given(HONEST, st.floats(), st.floats())
def test_what_a_client_says_of_itself_wins_it_no_trust(honest, loss, epsilon):
    plain = honest_updates(honest)
    told = [update(each.node, each.parameters[0], each.examples, loss=loss, epsilon=epsilon) for each in plain]
    settings = {"detector": RobustFedDetect(warm_up=1), "probe": see}
    first, second = step(plain, **settings), step(told, **settings)
    assert first.weights == second.weights
    assert first.judgement == second.judgement


@given(HONEST, st.floats(), st.data())
def test_one_who_lies_of_its_loss_wins_nothing_and_costs_no_other_its_trust(honest, loss, data):
    liar = data.draw(st.integers(0, len(honest) - 1))
    plain = [update(each.node, each.parameters[0], each.examples, loss=1.0) for each in honest_updates(honest)]
    told = [
        update(each.node, each.parameters[0], each.examples, loss=loss if place == liar else 1.0)
        for place, each in enumerate(plain)
    ]
    detector, before, after = RobustFedDetect(warm_up=1), FederationState(), FederationState()
    aggregator = Aggregator(detector=detector, probe=see)
    nodes = [each.node for each in plain]
    for _ in range(4):
        before, first = aggregator.step(before, START, plain, nodes)
        after, second = aggregator.step(after, START, told, nodes)
    assert second.judgement.trust[nodes[liar]] <= first.judgement.trust[nodes[liar]]
    for node in set(nodes) - {nodes[liar]}:
        assert second.judgement.trust[node] >= first.judgement.trust[node]


@given(st.integers(3, 12), st.integers(0, 2**32 - 1))
def test_a_round_flags_at_most_the_share_that_is_allowed(clients, seed):
    """Were they more than half, they would be the federation, and the rest its outliers."""
    rng, state = np.random.default_rng(seed), FederationState()
    aggregator = Aggregator(detector=RobustFedDetect(warm_up=1), probe=see)
    for _ in range(3):
        sent = [update(f"site-{place}", (9 * rng.normal(size=SIZE)).astype(np.float32)) for place in range(clients)]
        state, result = aggregator.step(state, START, sent, [each.node for each in sent])
        assert len(result.judgement.suspects) <= 0.45 * clients


@pytest.mark.parametrize("rule", [WeightedMean(), NormClippedMean()])
@pytest.mark.parametrize("probe", [None, see])
def test_a_round_that_nothing_guards_says_so_in_its_record(rule, probe):
    detector = None if probe is None else RobustFedDetect()
    sent = [update(node, START[0] + place) for place, node in enumerate("abc")]
    result = step(sent, rule=rule, detector=detector, probe=probe)
    told = round_record(1, result, rule)["unprotected"]
    assert len(told) == 1 + isinstance(rule, WeightedMean)
    assert ("no client was judged" in told[0]) == (probe is None)
    assert ("warm-up" in told[0]) == (probe is not None)


def test_once_a_client_is_past_its_warm_up_nothing_is_unprotected():
    aggregator, state = Aggregator(detector=RobustFedDetect(warm_up=1), probe=see), FederationState()
    sent = [update(node, START[0] + place) for place, node in enumerate("abc")]
    for number in (1, 2):
        state, result = aggregator.step(state, START, sent, list("abc"))
        assert bool(round_record(number, result, NormClippedMean())["unprotected"]) == (number == 1)


@pytest.mark.parametrize("clients", [1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("bucket", [1, 2, 4])
@pytest.mark.parametrize("name", sorted(set(RULES) - {Bucketing.name, "fltrust"}))
def test_whoever_moves_the_model_far_does_not_do_so_unsaid(name, bucket, share, clients):
    settings = {"malicious_share": share} if name in STATED else {}
    if (bucket > 1 and name in ("centred-clipping", "foolsgold")) or bucket * share >= 0.25:
        return
    rule = configured_rule(FederatedPolicy(rule=name, **settings))
    rule = rule if bucket == 1 else Bucketing(rule=rule, size=bucket)
    rng = np.random.default_rng(clients)
    vectors = [*rng.normal(size=(clients - 1, SIZE)), 1e6 * rng.normal(size=SIZE)]
    result = step([update(f"site-{place}", each.astype(np.float32)) for place, each in enumerate(vectors)], rule=rule)
    if np.linalg.norm(result.parameters[0]) > 1e3:
        assert any("move the model anywhere" in each for each in round_record(1, result, rule)["unprotected"])


@pytest.mark.parametrize(
    "rule", ["norm-clipped-mean", "geometric-median", "centred-clipping", "coordinate-median", "multi-krum"]
)
@pytest.mark.parametrize("configured", [True, False])
def test_who_claims_to_have_most_rows_moves_the_model_no_further(rule, configured):
    """By its word alone it had 0.6 of the weight, and who has half of it is the median, or draws the centre along."""
    rng = np.random.default_rng(0)
    sent = [update(f"site-{place}", rng.normal(size=SIZE).astype(np.float32), 100) for place in range(9)]
    wild = update("mallory", np.full(SIZE, 1e6, np.float32), 10_000_000)
    aggregator = configured_aggregator(FederatedPolicy(rule=rule)) if configured else Aggregator(rule=RULES[rule]())
    state = FederationState()
    for _ in range(12):
        state, result = aggregator.step(state, START, [*sent, wild], [*(each.node for each in sent), "mallory"])
        assert not result.refusals
        assert np.linalg.norm(result.parameters[0]) < 20


@pytest.mark.parametrize("rule", ["geometric-median", "centred-clipping"])
def test_what_others_lose_of_their_trust_gives_nobody_half_of_the_weight(rule):
    rng = np.random.default_rng(0)
    sent = [update(f"site-{place}", rng.normal(size=SIZE).astype(np.float32), 100) for place in range(2)]
    wild = update("mallory", np.full(SIZE, 1e7, np.float32), 10_000_000)
    flags = {"site-0": ClientRecord(flags=1.85, rounds=9, standings={"view": Standing(np.zeros(SIZE), 1.0)})}
    aggregator = Aggregator(rule=RULES[rule](), detector=RobustFedDetect(), probe=see_nothing)
    for _ in range(3):
        _, result = aggregator.step(
            FederationState(records=flags), START, [*sent, wild], ["site-0", "site-1", "mallory"]
        )
        assert result.judgement.trust["site-0"] < 0.5
        assert np.linalg.norm(result.parameters[0]) < 20


@pytest.mark.parametrize("clients", range(3, 14))
@pytest.mark.parametrize("share", [0.2, 0.25, 0.4, 0.49])
@pytest.mark.parametrize("bucket", [1, 2])
@pytest.mark.parametrize(
    "name",
    ["krum", "multi-krum", "bulyan", "trimmed-mean", "geometric-median", "coordinate-median", "norm-clipped-mean"],
)
def test_so_many_colluders_as_a_rule_says_that_it_bears_do_not_take_the_model(name, bucket, share, clients):
    """All send the same far update: at 2 f + 1 clients, f of them are nearest to themselves for Krum."""
    if name in STATED and bucket * share >= (0.25 if name == "bulyan" else 0.5):
        return
    settings = {"malicious_share": share} if name in STATED else {}
    rule = configured_rule(FederatedPolicy(rule=name, bucket=bucket, **settings))
    malicious = min(int(share * clients), (-(-clients // bucket) - 1) // 2)
    rng = np.random.default_rng(clients)
    vectors = [*rng.normal(size=(clients - malicious, SIZE)), *np.full((malicious, SIZE), 1e6)]
    for seed in range(5):
        sent = [update(f"s-{place}", each.astype(np.float32)) for place, each in enumerate(vectors)]
        result = step([sent[place] for place in np.random.default_rng(seed).permutation(clients)], rule=rule)
        if np.linalg.norm(result.parameters[0]) > 1e3:
            assert any("move the model anywhere" in each for each in round_record(1, result, rule)["unprotected"])
        vectors = [each + 1e-3 * seed for each in vectors]


def test_the_groups_of_bucketing_are_others_in_each_round():
    rule, seen = Bucketing(rule=CoordinateMedian(), size=2), set()
    for number in range(20):  # clients are in the same order by length in every round
        norms = np.arange(1.0, 7.0) ** (1 + number / 100)
        geometry = round_geometry([np.zeros(6)], [[each] for each in np.diag(norms)], norms=norms)
        seen.add((rule.plan(geometry, np.full(6, 1 / 6)).mixing > 0).tobytes())
    assert len(seen) > 3


def test_of_two_clients_none_is_judged_and_the_record_says_so():
    aggregator, state = Aggregator(detector=RobustFedDetect(warm_up=1), probe=see), FederationState()
    sent = [update("a", START[0] + 0.1), update("b", START[0] + 40)]
    for number in range(5):
        state, result = aggregator.step(state, START, sent, list("ab"))
        told = round_record(number, result, NormClippedMean())["unprotected"]
        assert not result.judgement.suspects
        assert any("fewer than 3 clients were judged" in each for each in told)


def test_where_half_of_the_clients_change_nothing_the_model_stays_and_the_record_says_why():
    result = step([update("a", START[0] + 1), update("b", START[0])], rule=NormClippedMean())
    assert np.array_equal(result.parameters[0], START[0])
    assert "half of the clients or more change nothing" in result.unchanged
    assert not any(result.weights.values())


@given(st.lists(st.floats(0.5, 2), min_size=3, max_size=8), st.integers(0, 3), st.floats(1e-12, 1e-6), st.data())
def test_liars_fewer_than_half_cannot_make_an_honest_loss_look_large(losses, silent, tiny, data):
    liars = data.draw(st.integers(0, (len(losses) + silent - 1) // 2))
    told = [*({"loss": each} for each in losses), *({} for _ in range(silent)), *({"loss": tiny} for _ in range(liars))]
    if liars < len(told) / 2:
        assert excess_losses(told, "loss")[: len(losses)].max() <= (max(losses) / min(losses) - 1) / 2 + 1e-9
    assert excess_losses([*told, {"loss": -1.0}], "loss")[-1] == 0


def test_the_default_policy_is_the_guarded_one():
    policy = FederatedPolicy()
    assert policy.rule == NormClippedMean.name
    assert policy.detect
