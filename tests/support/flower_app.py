"""The app of the journey with Flower's processes: clients that step, one of them poisoned, and a guarded strategy."""

import os
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from support.federation_steps import MODEL, change_probe, honest, poisoned

from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.integrations.flower import GuardedStrategy
from medward.integrations.flower_nodes import read_public_key

server_app = ServerApp()
client_app = ClientApp()


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    settings = context.run_config
    keys, out = Path(settings["keys"]), Path(settings["out"])
    members = {path.stem: read_public_key(path) for path in keys.glob("hospital-*.pub")}
    count = len(members)
    strategy = GuardedStrategy(
        FedAvg(fraction_evaluate=0.0, min_train_nodes=count, min_available_nodes=count),
        Aggregator(detector=RobustFedDetect(warm_up=1, decay=0.1), probe=change_probe),
        audit=out / "audit.jsonl",
        folder=out / "rounds",
        members=members,
    )
    (out / "server.pid").write_text(str(os.getpid()))
    model = ArrayRecord({name: Array(each) for name, each in MODEL.items()})
    result = strategy.start(grid, model, num_rounds=settings["rounds"])
    np.savez(out / "result.npz", **{name: each.numpy() for name, each in result.arrays.items()})


@client_app.train()
def train(message: Message, context: Context) -> Message:
    number, place = message.content["config"]["server-round"], context.node_config["place"]
    model = {name: each.numpy() for name, each in message.content["arrays"].items()}
    return Message((poisoned if place == 3 else honest)(model, number, place), reply_to=message)
