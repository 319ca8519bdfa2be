"""NVFlare's aggregator: refusals by name, state over rounds and restarts, and what plain NVFlare would have taken."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("nvflare", reason="needs medward[nvflare]")

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_constant import FLMetaKey, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.workflows.base_fedavg import BaseFedAvg

from medward.guard.audit.log import read_log, verify_log
from medward.guard.errors import IntegrityError, MedwardError
from medward.integrations.nvflare import GuardedModelAggregator

NAMES = ("site-1", "site-2", "site-3", "site-4")
START = {"layer.weight": np.ones((2, 3), np.float32), "layer.seen": np.array(7)}


def context(start=START):
    found = FLContext()
    if start is not None:
        found.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable(start, {}), private=True, sticky=False)
    return found


def sent(name, moved=1.0, steps=10, *, kind=ParamsType.FULL, metrics=None, **params):
    """What NVFlare's controller hands over: a client's model under the name by which it was admitted."""
    base = START if kind == ParamsType.FULL else {key: np.zeros_like(value) for key, value in START.items()}
    weight = (base["layer.weight"] + np.float32(moved)).astype(np.float32)
    meta = {"client_name": name} | ({} if steps is None else {FLMetaKey.NUM_STEPS_CURRENT_ROUND: steps})
    return FLModel(params_type=kind, params={**base, "layer.weight": weight, **params}, metrics=metrics, meta=meta)


def opened(folder, **settings):
    aggregator = GuardedModelAggregator(folder=str(folder), **settings)
    aggregator.fl_ctx = context()
    return aggregator


def step(aggregator, *models):
    aggregator.reset_stats()
    for model in models:
        aggregator.accept_model(model)
    return aggregator.aggregate_model()


def refusals(folder):
    return {each["node"]: each["reason"] for each in list(read_log(folder / "audit.jsonl"))[-1]["refusals"]}


def test_honest_clients_are_averaged_as_nvflare_does(tmp_path):
    models = [sent(name, moved, 5) for name, moved in zip(NAMES, (-0.5, 0.5, 0.5, -0.5), strict=True)]
    ours = step(opened(tmp_path), *models[1:])
    theirs = BaseFedAvg.aggregate_fn(models[1:])
    assert ours.params_type == ParamsType.FULL
    np.testing.assert_allclose(ours.params["layer.weight"], theirs.params["layer.weight"], rtol=1e-5)
    assert ours.params["layer.weight"].dtype == np.float32
    assert ours.params["layer.seen"] == 7


@pytest.mark.parametrize("steps", [None, float("nan"), float("inf"), 0, -5, 1e12, True, "many"])
def test_a_client_that_lies_about_its_steps_is_refused_where_nvflare_takes_it(tmp_path, steps):
    honest = [sent(name) for name in NAMES[:3]]
    result = step(opened(tmp_path), *honest, sent("site-4", -50.0, steps))
    np.testing.assert_allclose(result.params["layer.weight"], 2.0, atol=1e-6)
    assert set(refusals(tmp_path)) == {"site-4"}
    assert "examples" in refusals(tmp_path)["site-4"]
    if steps != "many":
        taken = BaseFedAvg.aggregate_fn([*honest, sent("site-4", -50.0, steps)])
        assert taken.params["layer.weight"].max() < 1, "the negative control: NVFlare follows the liar"


@pytest.mark.parametrize("kind", [ParamsType.FULL, ParamsType.DIFF])
def test_one_client_that_sends_a_thousand_times_too_much_moves_the_model_no_further_than_others(tmp_path, kind):
    honest = [sent(name, kind=kind) for name in NAMES[:3]]
    result = step(opened(tmp_path), *honest, sent("site-4", -1000.0, kind=kind))
    np.testing.assert_allclose(result.params["layer.weight"], 1 + (3 - 1) / 4, rtol=1e-3)
    assert refusals(tmp_path) == {}


def test_whole_models_and_differences_may_come_in_one_round(tmp_path):
    mixed = [sent("site-1"), sent("site-2", kind=ParamsType.DIFF), sent("site-3"), sent("site-4", kind=ParamsType.DIFF)]
    result = step(opened(tmp_path), *mixed)
    assert result.params_type == ParamsType.FULL, "whoever answers first does not choose how the answer is read"
    np.testing.assert_allclose(result.params["layer.weight"], 2.0)
    assert result.params["layer.seen"] == 7


@pytest.mark.parametrize("kind", [ParamsType.FULL, ParamsType.DIFF])
@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"layer.weight": np.full((2, 3), np.nan, np.float32)}, "NaN or infinity"),
        ({"layer.weight": np.full((2, 3), 3.4e38, np.float32)}, None),
        ({"layer.weight": np.ones((3, 2), np.float32)}, "shape (3, 2)"),
        ({"layer.weight": np.ones((2, 3))}, "dtype float64"),
        ({"layer.weight": [[1.0]]}, "no NumPy arrays"),
        ({"extra": np.ones(1)}, "an array 'extra'"),
    ],
)
def test_broken_arrays_are_refused_by_name_and_the_round_goes_on(tmp_path, params, says, kind):
    honest = [sent(name) for name in NAMES[:3]]
    result = step(opened(tmp_path), *honest, sent("site-4", kind=kind, **params))
    assert np.isfinite(result.params["layer.weight"]).all()
    if says is not None:
        np.testing.assert_allclose(result.params["layer.weight"], 2.0, atol=1e-6)
        assert says in refusals(tmp_path)["site-4"]


def test_a_missing_array_a_missing_name_and_a_second_answer_are_refused(tmp_path):
    lacking, nameless = sent("site-4"), sent("")
    del lacking.params["layer.seen"]
    twice = [sent("site-3", -9.0), sent("site-3", 5.0)]
    result = step(opened(tmp_path), sent("site-1"), sent("site-2"), *twice, lacking, nameless)
    np.testing.assert_allclose(result.params["layer.weight"], 2.0, atol=1e-6)
    assert refusals(tmp_path) == {
        "site-3": "sent 2 updates in one round; 1 is allowed",
        "site-4": "sent no array 'layer.seen'; 1 of the model's 2 are missing",
        "(unnamed)": "came without the name of its sender",
    }


def test_of_a_node_that_sends_a_broken_and_a_sound_update_nothing_counts(tmp_path):
    lacking = sent("site-4")
    del lacking.params["layer.seen"]
    aggregator = opened(tmp_path)
    step(aggregator, sent("site-1"), sent("site-2"), lacking, sent("site-4", -9.0))
    assert refusals(tmp_path) == {"site-4": "sent no array 'layer.seen'; 1 of the model's 2 are missing"}
    assert set(list(read_log(tmp_path / "audit.jsonl"))[-1]["weights"]) == {"site-1", "site-2"}


def test_a_folder_of_another_model_s_round_is_refused(tmp_path):
    step(opened(tmp_path), *(sent(name) for name in NAMES))
    other = GuardedModelAggregator(folder=str(tmp_path))
    other.fl_ctx = context({"layer.weight": np.ones((5, 3), np.float32), "layer.seen": np.array(7)})
    with pytest.raises(MedwardError, match="holds a round of a model of other shapes; give an empty folder"):
        step(other)


def test_a_round_without_any_sound_update_leaves_the_model(tmp_path):
    result = step(opened(tmp_path), sent("site-1", steps=-1))
    np.testing.assert_array_equal(result.params["layer.weight"], START["layer.weight"])
    assert next(iter(read_log(tmp_path / "audit.jsonl")))["unprotected"] == []


def seen_apart(start, updates, number):
    """A probe that sees site-4 stand out."""
    rng = np.random.default_rng(number)
    return {
        each.node: {"mean": 0.1 * rng.normal(size=8) + 5 * (each.node == "site-4") * np.eye(8)[0]} for each in updates
    }


def test_a_suspect_loses_its_weight_over_rounds_and_a_restart_does_not_forget(tmp_path):
    aggregator = opened(tmp_path, probe=seen_apart)
    for _ in range(8):
        step(aggregator, *(sent(name) for name in NAMES))
    last = list(read_log(tmp_path / "audit.jsonl"))[-1]
    assert last["trust"]["site-4"] < 0.2 < last["trust"]["site-1"] == 1.0
    assert last["suspects"][0]["node"] == "site-4"
    again = opened(tmp_path, probe=seen_apart)
    step(again, *(sent(name) for name in NAMES))
    record = list(read_log(tmp_path / "audit.jsonl"))[-1]
    assert record["round"] == 9
    assert record["trust"]["site-4"] < 0.2 < record["trust"]["site-1"]
    fresh = opened(tmp_path / "fresh", probe=seen_apart)
    step(fresh, *(sent(name) for name in NAMES))
    forgot = list(read_log(tmp_path / "fresh" / "audit.jsonl"))[-1]
    assert forgot["trust"]["site-4"] == 1.0, "the control: a server without the folder does not know it"
    assert verify_log(tmp_path / "audit.jsonl").records == 9


def test_without_a_probe_the_log_says_that_nobody_was_judged(tmp_path):
    step(opened(tmp_path), sent("site-1"), sent("site-2"))
    assert next(iter(read_log(tmp_path / "audit.jsonl")))["unprotected"][0].startswith("no client was judged")


def test_a_policy_chooses_the_rule_and_its_bounds(tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('on_error = "flag"\n[federated]\nrule = "coordinate-median"\nmost_examples = 100\n')
    models = [*(sent(name) for name in NAMES[:3]), sent("site-4", -1000.0)]
    result = step(opened(tmp_path, policy=str(policy)), *models, sent("site-5", steps=101))
    np.testing.assert_allclose(result.params["layer.weight"], 2.0)
    assert "at most 100" in refusals(tmp_path)["site-5"]
    with pytest.raises(MedwardError, match="cannot read the policy"):
        GuardedModelAggregator(policy=str(tmp_path / "none.toml"))


@pytest.mark.parametrize("metrics", [[1.0], "good", np.ones(3), {1: 2.0, "a": 1.0}])
def test_metrics_of_any_kind_end_no_round(tmp_path, metrics):
    odd = sent("site-2")
    odd.metrics = metrics
    result = step(opened(tmp_path), sent("site-1", metrics={"a": 0.5}), odd)
    np.testing.assert_allclose(result.params["layer.weight"], 2.0, atol=1e-6)
    assert refusals(tmp_path) == {}


def test_metrics_are_weighed_as_the_updates_are(tmp_path):
    result = step(
        opened(tmp_path),
        sent("site-1", steps=30, metrics={"accuracy": 1.0, "own": 1}),
        sent("site-2", steps=30, metrics={"accuracy": 0.5, "name": "x", "digits": 10**400}),
        sent("site-3", steps=-1, metrics={"accuracy": -1e9}),
    )
    assert result.metrics == {"accuracy": pytest.approx(0.75)}
    assert step(opened(tmp_path), sent("site-1", metrics={"a": float("nan")})).metrics is None


def test_scatter_and_gather_names_the_sender_and_not_what_it_says_of_itself(tmp_path):
    aggregator = opened(tmp_path)
    for name in ("site-1", "site-2"):
        weights = {**START, "layer.weight": np.full((2, 3), 2, np.float32)}
        meta = {FLMetaKey.NUM_STEPS_CURRENT_ROUND: 5, "client_name": "site-9"}
        peer, here = FLContext(), context()
        peer.set_prop(ReservedKey.IDENTITY_NAME, name, private=False, sticky=False)
        here.set_peer_context(peer)
        aggregator.accept(DXO(DataKind.WEIGHTS, data=weights, meta=meta).to_shareable(), here)
    result = aggregator.aggregate(context())
    assert set(list(read_log(tmp_path / "audit.jsonl"))[-1]["weights"]) == {"site-1", "site-2"}
    np.testing.assert_allclose(result["DXO"]["data"]["layer.weight"], 2.0)


def test_an_unknown_model_and_a_damaged_round_are_said(tmp_path):
    aggregator = opened(tmp_path)
    aggregator.fl_ctx = context(None)
    with pytest.raises(MedwardError, match="give the job a persistor"):
        step(aggregator, sent("site-1"))
    step(opened(tmp_path), sent("site-1"))
    saved = tmp_path / "round.bin"
    saved.write_bytes(saved.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="not those that were saved"):
        step(opened(tmp_path), sent("site-1"))
