"""A Flower client that trains privately: what it sends, and that nothing is sent once its budget is spent."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("flwr", reason="needs medward[flower]")

import torch
from flwr.app import ArrayRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from support.federations import FakeGrid
from support.private_training import bright_images, class_losses, columns_of, small_cnn, with_settings

from medward.guard.audit.log import read_log
from medward.guard.federated.aggregator import Aggregator
from medward.guard.harden.private.rounds import PrivateRounds
from medward.integrations.cli import main
from medward.integrations.flower import GuardedStrategy
from medward.integrations.flower_privacy import PrivateTrainingMod

IMAGES = bright_images(60, seed=1, patients=40)


def private(folder, *, rounds=2, losses=class_losses, network=small_cnn, **changes):
    def client_rounds(context):
        return PrivateRounds(
            columns_of(IMAGES),
            IMAGES.patients,
            losses,
            with_settings(epochs=1, **changes),
            rounds=rounds,
            ledger=folder / f"{context.node_id}.json",
        )

    app = ClientApp(mods=[PrivateTrainingMod(network, client_rounds)])

    @app.train()
    def train(message, context):
        raise AssertionError("the app's own training is not private, and must not run")

    @app.evaluate()
    def evaluate(message, context):
        return Message(RecordDict({"metrics": MetricRecord({"accuracy": 0.5})}), reply_to=message)

    return app


def sent(module, kind=MessageType.TRAIN, records=1):
    content = RecordDict({f"arrays{place or ''}": ArrayRecord(module.state_dict()) for place in range(records)})
    return Message(content, dst_node_id=7, message_type=kind)


def answer(app, message, node=7):
    context = Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
    return app(message, context)


def test_a_reply_has_weights_of_private_training_and_what_is_spent(tmp_path):
    app, module = private(tmp_path), small_cnn()
    replies = [answer(app, sent(module)) for _ in range(2)]
    metrics = [reply.content["metrics"] for reply in replies]
    assert [each["rounds-left"] for each in metrics] == [1, 0]
    assert 0 < metrics[0]["epsilon"] < metrics[1]["epsilon"] <= 8
    assert metrics[0]["num-examples"] == len(np.unique(IMAGES.patients))
    weights = replies[0].content["arrays"].to_torch_state_dict()
    assert list(weights) == list(module.state_dict())
    assert not torch.equal(weights["0.weight"], module.state_dict()["0.weight"])


@pytest.mark.parametrize("restarted", [False, True])
def test_after_the_budget_is_spent_nothing_is_sent(tmp_path, restarted):
    app = private(tmp_path, rounds=1)
    assert answer(app, sent(small_cnn())).has_content()
    app = private(tmp_path, rounds=1) if restarted else app
    reply = answer(app, sent(small_cnn()))
    assert reply.has_error()
    assert not reply.has_content()
    assert "the privacy budget is spent" in reply.error.reason


def test_each_client_has_a_budget_of_its_own(tmp_path):
    app = private(tmp_path, rounds=1)
    assert answer(app, sent(small_cnn()), node=7).has_content()
    assert answer(app, sent(small_cnn()), node=8).has_content()
    assert answer(app, sent(small_cnn()), node=8).has_error()


def test_other_messages_are_passed_on(tmp_path):
    reply = answer(private(tmp_path), sent(small_cnn(), MessageType.EVALUATE))
    assert reply.content["metrics"]["accuracy"] == 0.5
    assert not (tmp_path / "7.json").exists()


def test_a_message_that_is_no_model_is_refused_and_costs_nothing(tmp_path):
    app, broken = private(tmp_path), small_cnn()
    with torch.no_grad():
        broken[0].weight[0] = torch.nan
    other = torch.nn.Linear(3, 3)
    for message, says in [
        (sent(broken), "0.weight holds NaN"),
        (sent(other), "not the network's weights"),
        (sent(small_cnn(), records=2), "has 2 array records"),
        (sent(small_cnn(), records=0), "has 0 array records"),
    ]:
        reply = answer(app, message)
        assert reply.has_error()
        assert says in reply.error.reason
    assert answer(app, sent(small_cnn())).content["metrics"]["rounds-left"] == 1


def test_why_training_failed_is_not_told_to_the_server(tmp_path, caplog):
    def losses(module, rows):
        raise ValueError("patient 17 has a value of 3.25")

    app = private(tmp_path, losses=losses)
    reply = answer(app, sent(small_cnn()))
    assert reply.has_error()
    assert "17" not in reply.error.reason
    assert "patient 17" in caplog.text, "the hospital itself can read why"
    assert answer(private(tmp_path), sent(small_cnn())).has_error(), "and no other round runs before it has"


class PrivateGrid(FakeGrid):
    """Clients in memory that answer by their apps."""

    def _reply(self, message, place):
        return answer(self.clients[place], message, node=place)


def test_a_server_keeps_what_each_client_has_spent_and_goes_on_without_who_spent_all(tmp_path, capsys):
    apps = [private(tmp_path / "long", rounds=2), private(tmp_path / "short", rounds=1)]
    strategy = GuardedStrategy(FedAvg(fraction_evaluate=0.0), Aggregator(), audit=tmp_path / "audit.jsonl")
    result = strategy.start(PrivateGrid(apps), ArrayRecord(small_cnn().state_dict()), num_rounds=3)
    assert list(result.arrays) == list(small_cnn().state_dict())
    first, second, third = read_log(tmp_path / "audit.jsonl")
    assert all(0 < epsilon <= 8 for epsilon in first["epsilons"].values())
    assert (len(first["weights"]), len(second["weights"]), len(third["weights"])) == (2, 1, 0)
    (node,) = second["weights"]
    assert second["epsilons"][node] > first["epsilons"][node]
    assert all("the privacy budget is spent" in each["reason"] for each in third["refusals"])
    with pytest.raises(SystemExit):
        main(["federate", "audit", str(tmp_path), "--client", node])
    assert "says it has spent epsilon" in capsys.readouterr().out
