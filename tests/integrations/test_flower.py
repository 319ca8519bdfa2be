"""A guard around Flower's strategies: hostile replies, distrust, and a server that is killed, on messages in memory."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("flwr", reason="needs Flower, which has an environment of its own: make test-flower")

from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.exception import InconsistentMessageReplies
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, MultiKrum
from support.federation_steps import CLIENTS, MODEL, change_probe, honest, poisoned
from support.federations import FakeGrid

from medward.guard.audit.log import read_log, verify_log
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.guard.federated.rules.weighted_mean import WeightedMean
from medward.guard.federated.sanitise import Refusal
from medward.integrations import flower
from medward.integrations.cli import main
from medward.integrations.flower import GuardedStrategy
from medward.integrations.flower_nodes import read_public_key
from medward.integrations.flower_replies import read_reply

DETECTOR = RobustFedDetect(warm_up=1)
JUDGING = Aggregator(rule=WeightedMean(), detector=DETECTOR, probe=change_probe)
AVERAGING = Aggregator(rule=WeightedMean())


def guarded(where, aggregator=AVERAGING, strategy=None, **settings):
    inner = FedAvg(fraction_evaluate=0.0) if strategy is None else strategy
    return GuardedStrategy(inner, aggregator, audit=where / "audit.jsonl", **settings)


def run(strategy, grid, rounds=1):
    return strategy.start(grid, ArrayRecord({name: Array(each) for name, each in MODEL.items()}), num_rounds=rounds)


def weights(result):
    return {name: each.numpy() for name, each in result.arrays.items()}


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and (one[name] == other[name]).all() for name in one
    )


def records(folder):
    verify_log(folder / "audit.jsonl")
    return [record for record in read_log(folder / "audit.jsonl") if record["event"] == "federated-round"]


@pytest.mark.parametrize("inner_aggregates", [False, True])
def test_without_attack_the_guard_changes_nothing_of_federated_averaging(tmp_path, inner_aggregates):
    bare = run(FedAvg(fraction_evaluate=0.0), FakeGrid([honest] * CLIENTS), 3)
    result = run(guarded(tmp_path, inner_aggregates=inner_aggregates), FakeGrid([honest] * CLIENTS), 3)
    for name, each in weights(bare).items():
        np.testing.assert_allclose(weights(result)[name], each, rtol=1e-5)
    assert weights(result)["count"].dtype == np.int64, "Flower alone makes a counter a fraction"
    assert [record["refusals"] for record in records(tmp_path)] == [[], [], []]
    assert [each["medward-refused"] for each in result.train_metrics_clientapp.values()] == [0, 0, 0]
    assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(bare.train_metrics_clientapp[1]["loss"])


@pytest.mark.parametrize("inner", [FedMedian, MultiKrum])
def test_other_strategies_aggregate_what_the_guard_lets_through(tmp_path, inner):
    def settings():
        return {"fraction_evaluate": 0.0} | ({"num_nodes_to_select": 2} if inner is MultiKrum else {})

    bare = run(inner(**settings()), FakeGrid([honest] * CLIENTS), 2)
    strategy = guarded(tmp_path, strategy=inner(**settings()), inner_aggregates=True)
    result = run(strategy, FakeGrid([honest] * CLIENTS), 2)
    np.testing.assert_allclose(weights(result)["layer"], weights(bare)["layer"], rtol=1e-6)
    assert inner.__name__ in records(tmp_path)[0]["unprotected"][-1]


def told(**metrics):
    return MetricRecord({"num-examples": 10, "loss": 1.0} | metrics)


def sent(arrays=None, metrics=None, **more):
    arrays = {name: Array(np.asarray(each + 1)) for name, each in MODEL.items()} | (arrays or {})
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics or told(), **more})


def without(content, name):
    del content[name]
    return content


def renamed():
    arrays = {name: Array(each) for name, each in MODEL.items() if name != "layer"}
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": told()})


HOSTILE = {
    "failed with error 0: out of memory": lambda: Error(0, "out of memory"),
    "sent 0 metric records": lambda: without(sent(), "metrics"),
    "sent 2 metric records": lambda: sent(more=told()),
    "sent 0 array records": lambda: without(sent(), "arrays"),
    "sent 2 array records": lambda: sent(more=ArrayRecord()),
    "does not say its num-examples": lambda: sent(metrics=MetricRecord({"loss": 1.0})),
    "which is no number": lambda: sent(metrics=told(**{"num-examples": [10, 10]})),
    "claims nan examples": lambda: sent(metrics=told(**{"num-examples": float("nan")})),
    "claims -5 examples": lambda: sent(metrics=told(**{"num-examples": -5})),
    "at most 1e+07 are believed": lambda: sent(metrics=told(**{"num-examples": 10**12})),
    "holds NaN or infinity": lambda: sent({"layer": Array(np.full(3, np.nan, np.float32))}),
    "has shape (4,)": lambda: sent({"layer": Array(np.zeros(4, np.float32))}),
    "has dtype float64": lambda: sent({"layer": Array(np.zeros(3))}),
    "'layer' is missing": renamed,
    "'more' is sent": lambda: sent({"more": Array(np.zeros(1))}),
    "cannot be read: ValueError": lambda: sent({"layer": Array("float32", (3,), "numpy.ndarray", b"no array")}),
    "cannot be read: TypeError": lambda: sent({"layer": Array("float32", (3,), "pickle", b"no array")}),
    "'layer' has 100000 bytes": lambda: sent({"layer": Array("float32", (3,), "numpy.ndarray", b"0" * 100_000)}),
}


@pytest.mark.parametrize("inner_aggregates", [False, True])
@pytest.mark.parametrize("reason", HOSTILE)
def test_a_hostile_reply_costs_its_sender_and_nobody_else(tmp_path, reason, inner_aggregates):
    attacked = FakeGrid([*[honest] * CLIENTS, lambda model, number, place: HOSTILE[reason]()])
    result = run(guarded(tmp_path, inner_aggregates=inner_aggregates), attacked)
    (tmp_path / "alone").mkdir()
    alone = run(guarded(tmp_path / "alone", inner_aggregates=inner_aggregates), FakeGrid([honest] * CLIENTS))
    assert same(weights(result), weights(alone))
    (refusal,) = records(tmp_path)[0]["refusals"]
    assert refusal["node"] == attacked.name(CLIENTS)
    assert reason in refusal["reason"]
    assert result.train_metrics_clientapp[1]["medward-refused"] == 1


@pytest.mark.parametrize("reason", ["claims nan examples", "at most 1e+07 are believed", "holds NaN or infinity"])
def test_flower_alone_gives_the_model_to_such_a_client(reason):
    attacked = FakeGrid([*[honest] * CLIENTS, lambda model, number, place: HOSTILE[reason]()])
    result = weights(run(FedAvg(fraction_evaluate=0.0), attacked))
    assert not np.isfinite(result["layer"]).all() or np.abs(result["layer"] - (MODEL["layer"] + 1)).max() < 1e-5


def test_one_client_without_a_loss_ends_flower_s_run_and_not_ours(tmp_path):
    def grid():
        return FakeGrid([*[honest] * CLIENTS, lambda *_: sent(metrics=MetricRecord({"num-examples": 10}))])

    with pytest.raises(InconsistentMessageReplies):
        run(FedAvg(fraction_evaluate=0.0), grid())
    result = run(guarded(tmp_path, inner_aggregates=True), grid())
    assert "loss" not in result.train_metrics_clientapp[1]
    assert len(records(tmp_path)[0]["weights"]) == CLIENTS + 1


def test_a_repeated_reply_and_a_stranger_s_are_refused(tmp_path):
    grid = FakeGrid([honest] * (CLIENTS + 1))
    grid.repeat, grid.uninvited = {CLIENTS}, 1
    result = run(guarded(tmp_path), grid)
    reasons = {each["node"]: each["reason"] for each in records(tmp_path)[0]["refusals"]}
    assert reasons == {
        grid.name(CLIENTS): "sent 2 updates in one round; 1 is allowed",
        "node 999": "was not selected this round",
    }
    assert set(records(tmp_path)[0]["weights"]) == {grid.name(place) for place in range(CLIENTS)}
    assert np.isfinite(weights(result)["layer"]).all()


def test_an_aggregate_that_overflows_leaves_the_model_as_it_was(tmp_path):
    def huge(model, number, place):
        return sent({"layer": Array(np.full(3, 3e38, np.float32))})

    median = FedMedian(fraction_evaluate=0.0)  # of four: the mean of two, whose sum overflows
    result = run(guarded(tmp_path, strategy=median, inner_aggregates=True), FakeGrid([huge] * 4))
    assert same(weights(result), MODEL)
    assert records(tmp_path)[0]["unchanged"] == "FedMedian made no finite aggregate of this round"
    assert records(tmp_path)[0]["weights"] == {}


@pytest.mark.parametrize("inner_aggregates", [False, True])
def test_an_attacker_loses_its_weight_and_is_not_asked_but_on_probation(tmp_path, inner_aggregates):
    grid = FakeGrid([*[honest] * CLIENTS, poisoned])
    strategy = guarded(tmp_path, JUDGING, inner_aggregates=inner_aggregates, probation=10)
    result = run(strategy, grid, 12)
    attacker = grid.name(CLIENTS)
    shares = [record["weights"].get(attacker) for record in records(tmp_path)]
    assert shares[0] > 0.1
    assert 0.0 in shares[:7], "distrusted once warm"
    lost = shares.index(0.0)
    assert [number for number, each in enumerate(shares, 1) if each is not None and number > lost + 1] == [10]
    assert [number for number, place in grid.asked if place == CLIENTS and number > lost + 1] == [10]
    assert result.train_metrics_clientapp[lost + 1]["medward-effective-clients"] == pytest.approx(CLIENTS, rel=0.01)
    suspects = {each["node"] for record in records(tmp_path) for each in record["suspects"]}
    assert suspects == {attacker}


def test_who_stops_is_trusted_again(tmp_path):
    def reformed(model, number, place):
        return (poisoned if number < 7 else honest)(model, number, place)

    grid = FakeGrid([*[honest] * CLIENTS, reformed])
    run(guarded(tmp_path, JUDGING, probation=1), grid, 60)
    shares = [record["weights"][grid.name(CLIENTS)] for record in records(tmp_path)]
    assert min(shares) == 0.0
    assert shares[-1] > 0.1


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("moment", ["before the record", "before it is saved", "after it is saved"])
@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_server_that_was_killed_ends_with_the_weights_of_one_that_was_not(tmp_path, monkeypatch, moment, number):
    def federation():
        return FakeGrid([*[honest] * CLIENTS, poisoned])

    def strategy(name):
        (tmp_path / name).mkdir(exist_ok=True)
        inner = FedAvg(fraction_train=0.8, fraction_evaluate=0.0)
        return guarded(tmp_path / name, JUDGING, inner, folder=tmp_path / name / "rounds", probation=3)

    whole = run(strategy("whole"), federation(), 6)
    function = "round_record" if moment == "before the record" else "save_round"
    real, calls = getattr(flower, function), []

    def killing(*arguments):
        calls.append(None)
        if len(calls) == number and moment != "after it is saved":
            raise Killed
        made = real(*arguments)
        if len(calls) == number:
            raise Killed
        return made

    monkeypatch.setattr(flower, function, killing)
    with pytest.raises(Killed):
        run(strategy("killed"), federation(), 6)
    monkeypatch.setattr(flower, function, real)
    random.seed(number)  # a new process has another state of chance
    grid = federation()
    resumed = strategy("killed")
    result = run(resumed, grid, 6)
    assert {each for each, _ in grid.asked} == set(range(number + (moment == "after it is saved"), 7))
    assert same(weights(result), weights(whole))
    assert max(result.train_metrics_clientapp, default=6) == 6
    last = {record["round"]: record["weights"] for record in records(tmp_path / "killed")}
    assert last == {record["round"]: record["weights"] for record in records(tmp_path / "whole")}
    finished = run(strategy("killed"), federation(), 6)
    assert same(weights(finished), weights(whole)), "nothing is left to do, and the model is there"


def test_weights_differ_where_the_kept_round_is_lost(tmp_path):
    whole = run(guarded(tmp_path, folder=tmp_path / "rounds"), FakeGrid([honest] * CLIENTS), 3)
    (tmp_path / "rounds" / "round.bin").unlink()
    again = run(guarded(tmp_path, folder=tmp_path / "rounds"), FakeGrid([honest] * CLIENTS), 2)
    assert not same(weights(again), weights(whole))


def test_another_model_s_folder_is_refused(tmp_path):
    run(guarded(tmp_path, folder=tmp_path / "rounds"), FakeGrid([honest] * CLIENTS), 1)
    other = ArrayRecord({"layer": Array(np.zeros(5, np.float32))})
    with pytest.raises(MedwardError, match="other shapes; give an empty folder"):
        guarded(tmp_path, folder=tmp_path / "rounds").start(FakeGrid([honest] * CLIENTS), other)


def test_a_strategy_that_remembers_is_refused_where_its_memory_would_be_lost(tmp_path):
    with pytest.raises(MedwardError, match="FedAdam: may remember"):
        guarded(tmp_path, strategy=FedAdam(), inner_aggregates=True, folder=tmp_path / "rounds")
    guarded(tmp_path, strategy=FedAdam(), inner_aggregates=True)


def test_probation_is_a_whole_round(tmp_path):
    with pytest.raises(MedwardError, match="1 round or more, got 0"):
        guarded(tmp_path, probation=0)


def test_members_are_known_by_their_keys_and_strangers_are_not_asked(tmp_path):
    grid = FakeGrid([*[honest] * CLIENTS, poisoned])
    members = {f"hospital {place}": grid.key(place) for place in range(CLIENTS)}
    run(guarded(tmp_path, members=members), grid, 2)
    assert {place for _, place in grid.asked} == set(range(CLIENTS))
    assert set(records(tmp_path)[0]["weights"]) == set(members)


def test_a_member_that_comes_back_under_another_number_keeps_its_record(tmp_path):
    members = {f"hospital {place}": FakeGrid([]).key(place) for place in range(CLIENTS + 1)}
    everyone = [*[honest] * CLIENTS, poisoned]
    run(guarded(tmp_path, JUDGING, folder=tmp_path / "rounds", members=members), FakeGrid(everyone), 7)
    later = FakeGrid(everyone, first_number=500)
    run(guarded(tmp_path, JUDGING, folder=tmp_path / "rounds", members=members), later, 9)
    assert {number for number, _ in later.asked} == {8, 9}
    assert CLIENTS not in {place for _, place in later.asked}


def test_two_members_of_one_key_are_refused(tmp_path):
    with pytest.raises(MedwardError, match="a and b have the same key"):
        run(guarded(tmp_path, members={"a": b"key", "b": b"key"}), FakeGrid([honest] * 4))


def test_a_registered_public_key_is_read_as_flower_holds_it(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes

    _, public = generate_key_pairs()
    path = tmp_path / "hospital.pub"
    path.write_bytes(public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH))
    assert read_public_key(path) == public_key_to_bytes(public)
    path.write_text("no key")
    with pytest.raises(MedwardError, match=r"hospital\.pub: no public key can be read"):
        read_public_key(path)


def test_an_evaluation_leaves_out_what_is_broken(tmp_path):
    def lying(model, number, place):
        examples = {CLIENTS: 10**12, CLIENTS + 1: float("nan")}[place]
        return RecordDict({"metrics": MetricRecord({"num-examples": examples, "loss": 1e9})})

    def evaluating(model, number, place):
        return RecordDict({"metrics": MetricRecord({"num-examples": 10, "loss": 2.0})})

    clients = [*[honest] * CLIENTS, honest, honest]
    grid = FakeGrid(clients, evaluate=[*[evaluating] * CLIENTS, lying, lying])
    result = run(guarded(tmp_path, strategy=FedAvg()), grid)
    assert result.evaluate_metrics_clientapp[1]["loss"] == 2.0
    assert run(FedAvg(), FakeGrid(clients, evaluate=grid.evaluate)).evaluate_metrics_clientapp[1]["loss"] != 2.0


def test_in_an_evaluation_nobody_counts_for_more_than_its_bounded_share_and_the_distrusted_not_at_all(tmp_path):
    def evaluating(loss, examples):
        return lambda model, number, place: RecordDict(
            {"metrics": MetricRecord({"num-examples": examples, "loss": loss})}
        )

    replies, clients = [*[evaluating(2.0, 10)] * CLIENTS, evaluating(0.0, 10_000_000)], [*[honest] * CLIENTS, poisoned]
    first = run(guarded(tmp_path / "a", strategy=FedAvg()), FakeGrid(clients, evaluate=replies))
    assert first.evaluate_metrics_clientapp[1]["loss"] == pytest.approx(2.0 * 0.4)  # one client's share is 0.6 at most
    alone = run(FedAvg(), FakeGrid(clients, evaluate=replies))
    assert alone.evaluate_metrics_clientapp[1]["loss"] < 1e-3
    judged = run(guarded(tmp_path / "b", JUDGING, FedAvg(), probation=10), FakeGrid(clients, evaluate=replies), 10)
    assert judged.evaluate_metrics_clientapp[10]["loss"] == pytest.approx(2.0)  # in probation it is asked


def test_the_server_s_own_evaluation_goes_on_counting_after_a_restart(tmp_path):
    seen = []
    initial = ArrayRecord({name: Array(each) for name, each in MODEL.items()})

    def evaluate(number, model):
        seen.append(number)
        return MetricRecord({"size": 1.0})

    for rounds in (2, 4):
        strategy = guarded(tmp_path, folder=tmp_path / "rounds")
        result = strategy.start(FakeGrid([honest] * CLIENTS), initial, rounds, evaluate_fn=evaluate)
    assert seen == [0, 1, 2, 2, 3, 4]
    assert set(result.evaluate_metrics_serverapp) == {2, 3, 4}


@given(data=st.binary(max_size=300), kind=st.sampled_from(["numpy.ndarray", "pickle"]), name=st.text(max_size=5))
def test_no_bytes_that_a_client_sends_raise(data, kind, name):
    own = ArrayRecord({name: Array(np.zeros(3, np.float32))})
    content = RecordDict({"arrays": ArrayRecord({name: Array("float32", (3,), kind, data)}), "metrics": told()})
    reply = Message(content, dst_node_id=1, message_type="train")
    assert isinstance(read_reply(reply, "client", own, "num-examples"), Refusal)


def test_the_command_line_reads_the_log_beside_flower_s_older_typer(tmp_path, capsys):
    grid = FakeGrid([*[honest] * CLIENTS, poisoned])
    run(guarded(tmp_path, JUDGING), grid, 6)
    with pytest.raises(SystemExit, match="0"):
        main(["federate", "audit", str(tmp_path / "audit.jsonl")])
    assert grid.name(CLIENTS) in capsys.readouterr().out
    with pytest.raises(SystemExit, match="3"):
        main(["federate", "audit", "--nonsense", "log"])
    assert "--nonsense" in capsys.readouterr().err
