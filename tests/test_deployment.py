"""The deployment kit: every option, variable, route and metric that its files name is one that the server has."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import warnings
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest
import redis
import typer.main
import yaml
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.needed import lacking
from support.processes import serving

from medward.guard.accounts.stores import MemoryStore
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.integrations.cli import app as commands
from medward.integrations.serving import create_app
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.store import open_store

KIT = Path(__file__).resolve().parents[1] / "examples" / "deployment"
GIVEN = {"probe_success", "process_resident_memory_bytes"}
"""Metrics of Prometheus' own exporters, which the alerts may use."""
METRIC = re.compile(r"\b(?:medward|probe|process)_[a-z_]+\b")


def text(name):
    return (KIT / name).read_text()


def serve_parameters():
    return typer.main.get_command(commands).commands["serve"].params


@pytest.fixture
def exposed(make_guard):
    """The names of all series that a server shows, those of histograms by their parts."""
    with TestClient(create_app(make_guard(store=MemoryStore()), keys=None)) as client:
        client.post("/v1/predict", json={"inputs": [[0.0, 0.0, 0.0]]})
        client.post("/v1/predict", json={"inputs": []})
        shown = client.get("/metrics").text
    helped = {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE")}
    return helped | {re.split(r"[{ ]", line)[0] for line in shown.splitlines() if line and line[0] != "#"}


def commands_of(name):
    """The words after ``medward`` of every command in a file of the kit."""
    if name == "medward.service":
        (line,) = re.findall(r"^ExecStart=(.*)$", text(name), re.MULTILINE)
        return [shlex.split(line)[1:]]
    (line,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text(name), re.MULTILINE)
    return [json.loads(line)[1:]]


@pytest.mark.parametrize("name", ["medward.service", "Containerfile"])
def test_every_command_of_the_kit_is_one_that_the_command_line_takes(name):
    for words in commands_of(name):
        command = typer.main.get_command(commands).commands[words[0]]
        context = command.make_context("serve", words[1:], resilient_parsing=False)
        assert str(context.params["bundle"]).startswith("/")


def test_a_command_with_an_option_that_is_none_is_found():
    command = typer.main.get_command(commands).commands["serve"]
    with pytest.raises(Exception, match="no-such-option"):
        command.make_context("serve", ["/bundle", "--no-such-option"])


def test_every_variable_of_the_kit_is_read_by_the_server():
    known = {each.envvar for each in serve_parameters() if getattr(each, "envvar", None)}
    known = {name for each in known for name in ([each] if isinstance(each, str) else each)}
    named = set(re.findall(r"\bMEDWARD_(?:SERVE_)?[A-Z]+\b", text("compose.yml") + text("kserve.yml")))
    assert named
    assert named - known == set()


def test_every_metric_of_alerts_and_dashboard_is_one_that_a_server_shows(exposed):
    rules = [rule["expr"] for group in yaml.safe_load(text("alerts.yml"))["groups"] for rule in group["rules"]]
    panels = [target["expr"] for panel in json.loads(text("grafana.json"))["panels"] for target in panel["targets"]]
    for expression in [*rules, *panels]:
        named = {each for each in METRIC.findall(expression) if each != "process"}
        assert named, expression
        for each in named - GIVEN:
            # A counter without labels yet shows its name and no series.
            assert {each, each.removesuffix("_total"), each.removesuffix("_bucket")} & exposed, each


def test_labels_that_alerts_name_have_the_values_that_they_name():
    from typing import get_args

    from medward.guard.types import Action, Level
    from medward.integrations.serving.refusal import RefusalReason

    rules = text("alerts.yml")
    said = {each for group in re.findall(r'reason[=!]~?"([a-z|]+)"', rules) for each in group.split("|")}
    assert said <= {*get_args(RefusalReason)}
    assert {each for group in re.findall(r'action=~"([a-z|]+)"', rules) for each in group.split("|")} <= {
        each.label for each in Action
    }
    assert set(re.findall(r'level="([a-z]+)"', rules)) <= {each.label for each in Level}


def test_probes_ask_routes_that_exist_and_stops_leave_time_to_drain(make_guard):
    (container,) = yaml.safe_load(text("kserve.yml"))["spec"]["predictor"]["containers"]
    with TestClient(create_app(make_guard(store=MemoryStore()), keys=None)) as client:
        for probe in ("livenessProbe", "readinessProbe"):
            assert client.get(container[probe]["httpGet"]["path"]).status_code == 200
    defaults = {each.name: each.default for each in serve_parameters()}
    needed = defaults["drain"] + defaults["stop_seconds"]
    services = yaml.safe_load(text("compose.yml"))["services"]
    stops = [services[each]["stop_grace_period"].removesuffix("s") for each in ("medward-1", "medward-2")]
    stops += re.findall(r"^TimeoutStopSec=(\d+)$", text("medward.service"), re.MULTILINE)
    stops += [yaml.safe_load(text("kserve.yml"))["spec"]["predictor"]["terminationGracePeriodSeconds"]]
    assert all(float(each) > needed for each in stops)


def test_replicas_share_a_redis_that_forgets_nothing_and_no_state_folder():
    services = yaml.safe_load(text("compose.yml"))["services"]
    assert services["redis"]["command"][:5] == [
        "redis-server", "--appendonly", "yes", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip
    states = [volume.split(":")[0] for each in ("medward-1", "medward-2") for volume in services[each]["volumes"]]
    assert {"state-1", "state-2"} <= set(states)
    assert (
        services["medward-1"]["environment"]["MEDWARD_STORE"] == services["medward-2"]["environment"]["MEDWARD_STORE"]
    )


@pytest.fixture
def shared_redis(tmp_path):
    """The address of a Redis that was started by the command of the Compose file."""
    if shutil.which("redis-server") is None:
        lacking("redis-server", "redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = yaml.safe_load(text("compose.yml"))["services"]["redis"]["command"]
    words = [re.sub(r"\$\{REDIS_PASSWORD:.*\}", "secret", word) for word in words]
    (tmp_path / "redis").mkdir()
    process = subprocess.Popen(
        [*words, "--port", str(port), "--bind", "127.0.0.1"], cwd=tmp_path / "redis", stdout=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port, password="secret") as client:
            for _ in range(600):
                with suppress(redis.ConnectionError, redis.BusyLoadingError):
                    client.ping()
                    break
                time.sleep(0.05)
            with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_the_replicas_of_the_compose_file_run_on_its_redis_and_know_one_account(shared_redis, tmp_path):
    """As processes: what the container would run, with the variables that the file gives it."""
    rows = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    bundle = protect(model, Split(rows), Policy(on_error="withhold"), tmp_path / "bundle", classes=("no", "yes"))
    (words,) = commands_of("Containerfile")
    assert words[:4] == ["serve", "/bundle", "--state", "state"]
    options = ["127.0.0.1" if word == "0.0.0.0" else word for word in words[4:]]
    services = yaml.safe_load(text("compose.yml"))["services"]
    with ExitStack() as stack:
        replicas = []
        for name in ("medward-1", "medward-2"):
            given = {
                key: re.sub(r"\$\{REDIS_PASSWORD:[^}]*\}", "secret", value).replace("redis:6379", shared_redis)
                for key, value in services[name]["environment"].items()
            }
            (tmp_path / name).mkdir()
            replicas.append(stack.enter_context(serving(bundle.path, tmp_path / name, *options, environment=given)))
        store = open_store(given["MEDWARD_STORE"])
        stack.callback(store.close)
        headers = {"X-API-Key": KeyStore(tmp_path / "none.json", shared=store).add(("hospital-a",))}
        with httpx.Client(timeout=30, headers=headers) as client:
            for turn in range(4):
                reply = client.post(f"{replicas[turn % 2].url}/v1/predict", json={"inputs": [rows[turn].tolist()]})
                reply.raise_for_status()
        assert store.get("hospital-a")["e-process"]["n"] == 4
        counted = [len((each.state / "audit.jsonl").read_text().splitlines()) for each in replicas]
        assert counted == [2, 2]
        for each in replicas:
            each.process.send_signal(signal.SIGTERM)
        assert {each.process.wait(40) for each in replicas} == {-signal.SIGTERM}, "drained, and not killed"


@pytest.mark.skipif(find_spec("ray") is None, reason="needs medward[ray]")
def test_the_file_of_ray_serve_is_one_that_it_takes_and_names_arguments_that_exist():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own use of Pydantic
        from ray.serve.schema import ServeDeploySchema

        from medward.integrations.ray_serve import EndpointArguments, guarded_endpoint
    found = ServeDeploySchema.model_validate(yaml.safe_load(text("ray-serve.yml")))
    (application,) = found.applications
    assert application.import_path == f"{guarded_endpoint.__module__}:{guarded_endpoint.__name__}"
    arguments = EndpointArguments(store="redis://redis:6379/0", **application.args)
    assert arguments.replicas == 2
    guarded_endpoint(arguments)
    with pytest.raises(ValueError, match="no_such"):
        EndpointArguments(no_such=1, **application.args)
