"""The deployment kit: every option, variable, route and metric that its files name is one that the server has."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml
from starlette.testclient import TestClient

from medward.guard.accounts.stores import MemoryStore
from medward.integrations.cli import app as commands
from medward.integrations.serving import create_app

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
