"""Two journeys of the guard in Flower, as JSON: ``python -m support.flower_journey processes`` or ``simulation``."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from support.flower_processes import FlowerProcesses, wait_until

from medward.guard.audit.log import read_log, verify_log

APP = Path(__file__).with_name("flower_app.py")
NAMES = [f"hospital-{place}" for place in range(4)]
ATTACKER = "hospital-3"


def killed_and_resumed(folder, rounds=5, kill_after=2):
    """A federation of processes that is left alone, and one whose server is killed and started again."""
    outs = {name: folder / name for name in ("whole", "killed")}
    for out in outs.values():
        out.mkdir()
    began = time.monotonic()
    with FlowerProcesses(folder, APP, NAMES, {"keys": folder, "out": folder, "rounds": rounds}) as flower:
        for name, log in (("whole", "whole.log"), ("killed", "killed.log"), ("killed", "resumed.log")):
            out, until = outs[name], 60 * rounds
            flower.submit(log, out=out)
            if log == "killed.log":
                wait_until(
                    lambda: len(recorded(outs["killed"])) == kill_after, until, "rounds do not end", folder / log
                )
                os.kill(int((out / "server.pid").read_text()), signal.SIGKILL)
                finished = (out / "result.npz").exists()
            else:
                wait_until((out / "result.npz").exists, until, "the run does not end", folder / log)
    verify_log(outs["killed"] / "audit.jsonl")
    with np.load(outs["whole"] / "result.npz") as one, np.load(outs["killed"] / "result.npz") as other:
        equal = all(one[name].tobytes() == other[name].tobytes() for name in one.files)
        steps = int(one["count"]) - 5
    whole = recorded(outs["whole"])
    return {
        "weights_of_the_attacker": [record["weights"].get(ATTACKER, 0.0) for record in whole],
        "suspects": sorted({each["node"] for record in whole for each in record["suspects"]}),
        "finished_before_the_kill": finished,
        "resumed_in_round": min(record["round"] for record in recorded(outs["killed"])[kill_after:]),
        "steps": steps,
        "same_weights": equal,
        "seconds": round(time.monotonic() - began, 1),
    }


def recorded(folder):
    """The records of the rounds that ended."""
    log = folder / "audit.jsonl"
    return list(read_log(log)) if log.exists() else []


def simulated(folder, clients=100, rounds=8):
    """The guarded strategy in Flower's simulation engine, with every tenth client poisoned."""
    from flwr.app import Array, ArrayRecord, Message
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation
    from support.federation_steps import MODEL, change_probe, honest, poisoned

    from medward.guard.federated.aggregator import Aggregator
    from medward.guard.federated.robust_feddetect import RobustFedDetect
    from medward.integrations.flower import GuardedStrategy

    places = {}

    def probe(start, updates, number):
        updates = list(updates)
        places.update({update.node: int(update.metrics["place"]) for update in updates})
        return change_probe(start, updates, number)

    server, client = ServerApp(), ClientApp()

    @client.train()
    def train(message, context):
        number, place = message.content["config"]["server-round"], int(context.node_config["partition-id"])
        model = {name: each.numpy() for name, each in message.content["arrays"].items()}
        content = (poisoned if place % 10 == 0 else honest)(model, number, place)
        content["metrics"]["place"] = place
        return Message(content, reply_to=message)

    @server.main()
    def serve(grid, context):
        strategy = GuardedStrategy(
            FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients),
            Aggregator(detector=RobustFedDetect(warm_up=1, decay=0.1), probe=probe),
            audit=folder / "audit.jsonl",
        )
        strategy.start(grid, ArrayRecord({name: Array(each) for name, each in MODEL.items()}), num_rounds=rounds)

    began = time.monotonic()
    run_simulation(server, client, clients, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})
    records = recorded(folder)
    malicious = {node for node, place in places.items() if place % 10 == 0}
    shares = [sum(record["weights"].get(node, 0.0) for node in malicious) for record in records]
    return {
        "clients": len(places),
        "malicious": len(malicious),
        "weights_of_the_malicious": shares,
        "honest_suspected": sorted(
            {places[each["node"]] for record in records for each in record["suspects"] if each["node"] not in malicious}
        ),
        "effective_clients": 1 / sum(weight**2 for weight in records[-1]["weights"].values()),
        "rounds": len(records),
        "seconds": round(time.monotonic() - began, 1),
    }


JOURNEYS = {"processes": killed_and_resumed, "simulation": simulated}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(JOURNEYS[sys.argv[1]](Path(name))))
