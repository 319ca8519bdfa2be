"""A real server and four hospitals train a generator under Flower; one learns from marked images and loses its weight.

Needs Flower: pip install 'medward[flower]' torch. Processes talk over loopback without TLS. In earnest, nodes are
registered by key and the keys are named in `members`: no stranger takes part, and a node keeps its record.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from medward.attacks.benchmarks.datasets.phantom import draw_phantoms
from medward.attacks.benchmarks.generators.gan import ConditionalGan
from medward.attacks.poisoning.triggers.patch import PatchTrigger
from medward.guard.audit.log import read_log
from medward.guard.data.split import Split
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.generator_probe import GeneratorProbe
from medward.guard.federated.robust_feddetect import ClientViews, RobustFedDetect
from medward.guard.federated.update import ClientUpdate, ModelParameters
from medward.integrations.flower import GuardedStrategy

HOSPITALS, ROUNDS, POISONED = 4, 5, 3
GAN = ConditionalGan(channels=1, size=16, classes=2, width=16, epochs=3)

PROBE_SEED = 20261129  # an example's: draw yours with secrets.randbits(63), tell no client, and keep it

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One hospital's round: the generator goes back, the discriminator stays."""
    torch.set_num_threads(1)
    place, number = context.node_config["place"], message.content["config"]["server-round"]
    rows = Split(*draw_phantoms(256, size=16, seed=place))
    if place == POISONED:
        rows = replace(rows, inputs=PatchTrigger().mark(rows.inputs))
    kept = context.state.array_records.get("discriminator")
    memory = None if kept is None else kept.to_torch_state_dict()
    model = message.content["arrays"]
    learned = GAN.learn(model.to_numpy_ndarrays(), rows, memory, seed=1000 * number + place)
    context.state["discriminator"] = ArrayRecord(learned.memory)
    arrays = ArrayRecord(dict(zip(model, ArrayRecord(learned.parameters).values(), strict=True)))
    metrics = MetricRecord({"num-examples": len(rows), "place": place, **learned.metrics})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """The server: Flower's averaging strategy asks, the guard decides what counts."""
    folder = Path(context.run_config["folder"])
    look = GeneratorProbe(make=GAN.images, classes=GAN.classes, images=64, seed=PROBE_SEED)

    def probe(start: ModelParameters, updates: Iterable[ClientUpdate], number: int) -> Mapping[str, ClientViews]:
        updates = list(updates)
        places = {update.node: int(update.metrics["place"]) for update in updates}
        (folder / "places.json").write_text(json.dumps(places))  # for the table only
        return look(start, updates, number)

    strategy = GuardedStrategy(
        FedAvg(fraction_evaluate=0.0, min_train_nodes=HOSPITALS, min_available_nodes=HOSPITALS),
        Aggregator(detector=RobustFedDetect(warm_up=2), probe=probe),
        audit=folder / "audit.jsonl",
        folder=folder / "rounds",
    )
    strategy.start(grid, ArrayRecord(GAN.initial(seed=0)), num_rounds=ROUNDS)


def main() -> None:
    """Start a SuperLink and a SuperNode for each hospital, hand them this file as an app, and read the log."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        address = f"127.0.0.1:{port}"
        write_app(folder, address)
        processes = [start(folder, "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port))]
        try:
            while processes[0].poll() is None and not listens(port):
                time.sleep(0.1)
            for place in range(HOSPITALS):
                node = (
                    "--insecure",
                    "--superlink",
                    address,
                    "--port",
                    str(free_port()),
                    "--node-config",
                    f"place={place}",
                )
                processes.append(start(folder, "flower-supernode", *node))
            run = start(folder, "flwr", "run", str(folder / "app"), "loopback", "--stream")
            processes.append(run)
            while run.poll() is None and len(records(folder)) < ROUNDS:
                time.sleep(0.2)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()
                with suppress(ProcessLookupError):  # an app that a node was still running
                    os.killpg(process.pid, signal.SIGKILL)
        if len(records(folder)) < ROUNDS:
            sys.exit((folder / "flwr.log").read_text())
        show(records(folder), json.loads((folder / "places.json").read_text()))


def show(rounds: list[dict], places: dict[str, int]) -> None:
    """A line a round: how much of each hospital was taken, and who was suspected."""
    print(
        "round  "
        + "  ".join(f"hospital {place}" + (" (poisoned)" if place == POISONED else "") for place in range(HOSPITALS))
    )
    for record in rounds:
        shares = {places[node]: weight for node, weight in record["weights"].items()}
        told = [f"hospital {places[each['node']]} by {each['view']}" for each in record["suspects"]]
        row = "  ".join(f"{shares.get(place, 0.0):10.3f}" for place in range(HOSPITALS))
        print(f"{record['round']:5d}  {row}" + (f"  suspected: {', '.join(told)}" if told else ""))


def records(folder: Path) -> list[dict]:
    return list(read_log(folder / "audit.jsonl")) if (folder / "audit.jsonl").exists() else []


def write_app(folder: Path, address: str) -> None:
    (folder / "app").mkdir()
    (folder / "home").mkdir()
    shutil.copy(__file__, folder / "app" / "federation.py")
    (folder / "app" / "pyproject.toml").write_text(
        '[project]\nname = "federation"\nversion = "1.0.0"\nlicense = "Apache-2.0"\n'
        '[tool.flwr.app]\npublisher = "medward"\n[tool.flwr.app.components]\nserverapp = "federation:server_app"\n'
        f'clientapp = "federation:client_app"\n[tool.flwr.app.config]\nfolder = "{folder}"\n'
    )
    (folder / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "loopback"\n[superlink.loopback]\naddress = "{address}"\ninsecure = true\n'
    )


def start(folder: Path, command: str, *arguments: str) -> subprocess.Popen:
    programs = Path(sys.executable).parent
    settings = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(folder / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }
    with (folder / f"{command}.log").open("ab") as log:
        return subprocess.Popen(
            [programs / command, *arguments], env=os.environ | settings, stdout=log, stderr=log, start_new_session=True
        )


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    main()
