"""One broken update is refused with its reason, and the round goes on with the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.guard.federated.rules import RULES
from medward.guard.federated.rules.bucketing import Bucketing
from medward.guard.federated.rules.coordinate_median import CoordinateMedian
from medward.guard.federated.rules.weighted_mean import WeightedMean
from medward.guard.federated.sanitise import UpdateBounds, example_weights, sanitise
from medward.guard.federated.update import ClientUpdate

START = [np.zeros((2, 3), np.float32), np.array(5), np.zeros(4)]
NODES = ["anna", "boris", "carla", "dora"]
STEPS = {"anna": 1.0, "boris": 2.0, "carla": 3.0, "dora": 4.0}


def sent(name, step=None, **changes):
    step = STEPS[name] if step is None else step
    parameters = [np.full((2, 3), step, np.float32), np.array(6), np.full(4, step)]
    return replace(ClientUpdate(node=name, parameters=parameters, examples=100), **changes)


def with_array(place, array):
    parameters = list(sent("dora").parameters)
    parameters[place] = array
    return parameters


class Disguised(np.ndarray):
    """A subclass could compute anything when it is read."""


NAN = np.full((2, 3), np.nan, np.float32)
INFINITE = np.array([1.0, np.inf, 0.0, 0.0])
BROKEN = {
    "NaN": ({"parameters": with_array(0, NAN)}, "array 0 holds NaN or infinity"),
    "infinity": ({"parameters": with_array(2, INFINITE)}, "array 2 holds NaN or infinity"),
    "too far": ({"parameters": with_array(2, np.full(4, 1e300))}, "moves the model by inf; at most 1e+60 can be"),
    "far": ({"parameters": with_array(2, np.full(4, 1e100))}, "moves the model by 2e+100; at most 1e+60 can be"),
    "shape": ({"parameters": with_array(0, np.zeros((3, 2), np.float32))}, "array 0 has shape (3, 2); the model's"),
    "0-d": ({"parameters": with_array(2, np.array(1.0))}, "array 2 has shape (); the model's has (4,)"),
    "dtype": (
        {"parameters": with_array(2, np.zeros(4, np.float32))},
        "array 2 has dtype float32; the model's has float64",
    ),
    "objects": (
        {"parameters": with_array(2, np.array([None] * 4))},
        "array 2 has dtype object; the model's has float64",
    ),
    "byte order": ({"parameters": with_array(2, np.zeros(4, ">f8"))}, "array 2 has dtype >f8; the model's has float64"),
    "ragged": ({"parameters": with_array(0, [[1.0], [2.0, 3.0]])}, "array 0 is a list; a plain NumPy array is needed"),
    "subclass": ({"parameters": with_array(2, np.zeros(4).view(Disguised))}, "array 2 is a Disguised; a plain"),
    "fewer arrays": ({"parameters": sent("dora").parameters[:2]}, "sent 2 arrays; the model has 3"),
    "no list": ({"parameters": None}, "sent a NoneType; a list of 3 arrays is needed"),
    "one array": ({"parameters": np.zeros((3, 4))}, "sent a ndarray; a list of 3 arrays is needed"),
    "negative": ({"examples": -5}, "claims -5 examples; at least 1 is needed"),
    "zero": ({"examples": 0}, "claims 0 examples; at least 1 is needed"),
    "NaN examples": ({"examples": float("nan")}, "claims nan examples; at least 1 is needed"),
    "infinite": ({"examples": float("inf")}, "claims inf examples; at most 1e+07 are believed"),
    "huge": ({"examples": 10**8}, "claims 100000000 examples; at most 1e+07 are believed"),
    "huge integer": ({"examples": 10**5000}, "claims an integer of 16610 bits examples; at most 1e+07"),
    "text": ({"examples": "many"}, "claims 'many' examples, which is no number"),
    "flag": ({"examples": True}, "claims True examples, which is no number"),
    "complex": ({"examples": np.complex128(3)}, "claims (3+0j) examples, which is no number"),
    "array": ({"examples": np.array([1, 2])}, "claims array([1, 2]) examples, which is no number"),
    "metrics": ({"metrics": "good"}, "says of its training 'good', which is no table of numbers"),
    "no node": ({"node": ["dora"]}, "calls itself ['dora'], a list; nodes are known by a text"),
    "unselected": ({"node": "mallory"}, "was not selected this round"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_update_is_refused_and_the_round_goes_on(fault):
    changes, reason = BROKEN[fault]
    updates = [sent("anna"), sent("boris"), sent("carla"), sent("dora", **changes)]
    _, result = Aggregator(rule=WeightedMean()).step(FederationState(), START, updates, NODES)
    (refusal,) = result.refusals
    assert refusal.node == {"no node": "['dora']", "unselected": "mallory"}.get(fault, "dora")
    assert reason in refusal.reason
    assert set(result.weights) == {"anna", "boris", "carla"}
    np.testing.assert_allclose(result.parameters[0], 2)
    assert result.parameters[1] == 6


def test_of_a_node_that_sent_twice_nothing_counts():
    updates = [sent("anna"), sent("dora"), sent("dora", 50.0), sent("boris"), sent("carla")]
    _, result = Aggregator(rule=WeightedMean()).step(FederationState(), START, updates, NODES)
    (refusal,) = result.refusals
    assert (refusal.node, refusal.reason) == ("dora", "sent 2 updates in one round; 1 is allowed")
    np.testing.assert_allclose(result.parameters[2], 2)


def test_sound_updates_are_all_admitted():
    admission = sanitise([sent(node) for node in NODES], START, NODES, UpdateBounds())
    assert admission.refusals == ()
    np.testing.assert_allclose(admission.norms, np.sqrt(10) * np.array([1, 2, 3, 4]))


def test_what_is_as_large_as_float32_allows_is_a_number_like_others():
    most = float(np.finfo(np.float32).max)
    start = [np.full(3, -most, np.float32)]
    updates = [ClientUpdate(node=node, parameters=[np.full(3, most, np.float32)], examples=9) for node in NODES]
    _, result = Aggregator(rule=WeightedMean()).step(FederationState(), start, updates, NODES)
    assert result.refusals == ()
    np.testing.assert_array_equal(result.parameters[0], np.full(3, most, np.float32))


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ([np.array([1.0, np.nan])], "start: array 0 holds NaN or infinity; begin from a sound model"),
        ([np.zeros(2), np.zeros(2, complex)], "start: array 1 is of complex128, which cannot be averaged"),
        ([np.array(["a"])], "start: array 0 is of <U1, which cannot be averaged"),
    ],
)
def test_a_broken_model_of_the_server_is_an_error(start, said):
    with pytest.raises(MedwardError, match="^" + said):
        Aggregator().step(FederationState(), start, [], [])


@pytest.mark.parametrize(
    "setting", [{"most_examples": 0.5}, {"most_examples": 1e16}, {"most_share": 0}, {"most_share": 1.1}]
)
def test_bounds_are_bounded(setting):
    with pytest.raises(MedwardError, match=r"^most (examples|share): must be"):
        UpdateBounds(**setting)


@given(st.lists(st.floats(1, 1e7), min_size=1, max_size=30), st.floats(0.01, 1))
def test_weights_are_shares_below_the_bound(examples, most):
    weights = example_weights(examples, most)
    assert weights.sum() == pytest.approx(1)
    assert weights.max() <= max(most, 1 / len(examples)) * (1 + 1e-9)
    order = np.argsort(examples, kind="stable")
    assert (np.diff(weights[order]) >= -1e-12).all()


def test_who_claims_all_examples_gets_no_more_than_the_bound():
    np.testing.assert_allclose(example_weights([1e6, 1, 1], 0.6), [0.6, 0.2, 0.2])
    np.testing.assert_allclose(example_weights([1e6, 1, 1], 1), [1, 1e-6, 1e-6], atol=1e-5)


numbers = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e300, 6e4, 1e-40, 1e-300]), st.floats()
)


@st.composite
def arrays_like(draw, model):
    """An array of the model's form with numbers of any kind, or one of another form."""
    kind = draw(
        st.sampled_from(["same", "same", "same", "dtype", "shape", "object", "list", "none", "0-d", "subclass"])
    )
    if kind in ("none", "list", "0-d"):
        return {"none": None, "list": [[1.0], [2.0, 3.0]], "0-d": np.array(draw(numbers))}[kind]
    shape = (3,) if kind == "shape" else model.shape
    dtype = draw(st.sampled_from([np.float16, np.longdouble, np.complex64, bool])) if kind == "dtype" else model.dtype
    with np.errstate(all="ignore"):
        if np.issubdtype(dtype, np.integer):
            array = np.full(shape, draw(st.integers(-(2**63), 2**63 - 1)), dtype)
        else:
            array = np.resize(np.array(draw(st.lists(numbers, min_size=1, max_size=3))), shape).astype(dtype)
    if kind == "object":
        return array.astype(object)
    return array.view(Disguised) if kind == "subclass" else array


MODEL = [
    np.full(3, 1.0, np.float32),
    np.array(4),
    np.full(2, -6e4, np.float16),
    np.full(2, 3e38),
    np.array([True, False]),
]
MALFORMED = st.builds(
    ClientUpdate,
    node=st.one_of(st.sampled_from(NODES), st.text(max_size=3), st.none(), st.just(["anna"])),
    parameters=st.one_of(
        st.tuples(*(arrays_like(array) for array in MODEL)).map(list),
        st.tuples(*(arrays_like(array) for array in MODEL)),
        st.just([]),
        st.none(),
        st.just({"weights": 1}),
    ),
    examples=st.one_of(
        st.integers(1, 100), st.integers(), st.floats(), st.text(max_size=3), st.none(), st.just(10**400)
    ),
    metrics=st.one_of(st.just({}), st.none(), st.just({"loss": "low"})),
)


@pytest.mark.parametrize("name", RULES)
@given(updates=st.lists(MALFORMED, max_size=6))
@settings(max_examples=40)
def test_whatever_clients_send_the_step_returns_finite_numbers(name, updates):
    rule = Bucketing(rule=CoordinateMedian()) if name == "bucketing" else RULES[name]()
    aggregator, state, start = Aggregator(rule=rule), FederationState(), MODEL
    for _ in range(2):
        state, result = aggregator.step(state, start, updates, NODES, server=[np.array(array) for array in MODEL])
        start = result.parameters
        assert all(np.isfinite(array).all() for array in start)
        assert [(array.dtype, array.shape) for array in start] == [(array.dtype, array.shape) for array in MODEL]
        assert {type(array) for array in start} == {np.ndarray}
        assert all(np.isfinite(weight) and weight >= 0 for weight in result.weights.values())
        assert (result.unchanged is None) == (sum(result.weights.values()) > 0)
        assert len(result.refusals) + len(result.weights) >= len({str(update.node) for update in updates})


def means(start, updates, number):
    """A probe that computes with what clients send, as those of generators do."""
    with np.errstate(all="ignore"):
        return {
            update.node: {"mean": np.array([np.sum(array, dtype=np.float64) * 1e270 for array in update.parameters])}
            for update in updates
        }


@given(updates=st.lists(MALFORMED, max_size=6))
@settings(max_examples=40)
def test_whatever_clients_send_the_detector_goes_on(updates):
    aggregator, state = Aggregator(detector=RobustFedDetect(), probe=means), FederationState()
    for _ in range(2):
        state, result = aggregator.step(state, MODEL, updates, NODES)
        assert all(np.isfinite(array).all() for array in result.parameters)
        assert all(0 <= weight <= 1 for weight in result.weights.values())
