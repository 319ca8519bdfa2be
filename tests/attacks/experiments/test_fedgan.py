"""The table of poisoned generators: plans, cells that resume, refusals, pictures."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from medward.attacks.benchmarks.generators.gan import ConditionalGan
from medward.attacks.experiments.fedgan import run as fedgan
from medward.attacks.experiments.fedgan.cells import NONE, FederationSetting
from medward.attacks.experiments.fedgan.run import FederationPlan, plan_federations, read_federations, run_federations
from medward.attacks.experiments.fedgan.servers import ROBUST, SERVERS, PublishedServer, build_server
from medward.attacks.experiments.fedgan.tables import blocks, settled_mean
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.update import ClientUpdate

TINY = FederationPlan(
    tasks=("phantom",),
    servers=("weighted-mean", "bulyan", ROBUST),
    attacks=(NONE, "trigger-lying"),
    seeds=(0,),
    rounds=2,
    rows=16,
    size=16,
    width=8,
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    out = tmp_path_factory.mktemp("fedgan")
    console = Console(file=io.StringIO(), width=200)
    return out, run_federations(TINY, out, console=console, shown=False), console.file.getvalue()


@pytest.mark.slow
def test_every_setting_has_a_row_and_a_picture(filled) -> None:
    out, cells, printed = filled
    assert len(cells) == 6
    for server in TINY.servers:
        assert printed.count(server) >= 2
    record = json.loads((out / "table.json").read_text())
    assert [each["setting"]["server"] for each in record["cells"]] == [each["setting"]["server"] for each in cells]
    pictures = sorted((out / "pictures").iterdir())
    done = [each for each in cells if "refused" not in each]
    assert len(pictures) == len(done)
    with Image.open(pictures[0]) as picture:
        assert picture.size == (8 * 16, 16)
    assert all(f"pictures/{each.name}" in (out / "table.md").read_text() for each in pictures)


def test_a_rule_that_cannot_bear_so_many_says_so(filled) -> None:
    _, cells, printed = filled
    refused = [each for each in cells if each["setting"]["server"] == "bulyan"]
    assert all("needs 7 clients to bear 1 malicious ones" in each["refused"] for each in refused)
    assert "refused" in printed


def test_a_finished_cell_is_recalled(filled, monkeypatch) -> None:
    out, cells, _ = filled
    monkeypatch.setattr(fedgan, "measure_federation", lambda setting: pytest.fail(f"{setting.name} was trained again"))
    assert run_federations(TINY, out, console=Console(file=io.StringIO()), shown=False) == cells


def test_an_attackers_update_is_taken_where_nothing_stops_it(filled) -> None:
    _, cells, _ = filled
    by = {(each["setting"]["attack"], each["setting"]["server"]): each for each in cells}
    attacked = by["trigger-lying", "weighted-mean"]["rounds"]
    assert all(each["refused"] == [] for each in attacked)
    assert attacked[-1]["malicious_weight"] == pytest.approx(0.25, abs=0.1)
    assert by[NONE, "weighted-mean"]["rounds"][-1]["malicious_weight"] == 0
    assert settled_mean(by[NONE, ROBUST], "effective_clients") == pytest.approx(4)


def test_a_row_is_told_for_each_attack_and_server(filled) -> None:
    ((title, rows),) = blocks(filled[1])
    assert title == "phantom, gan, 1/4 malicious, iid"
    assert [row[:2] for row in rows] == [[attack, server] for attack in TINY.attacks for server in TINY.servers]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": ("mnist",)}, "task 'mnist' is not known"),
        ({"attacks": ("backdoor",)}, "attack 'backdoor' is not known"),
        ({"servers": ()}, "server: name at least one of"),
        ({"federations": ((4, 2),)}, "federation 2/4: at least one hospital and fewer than half may be malicious"),
        ({"seeds": ()}, "seeds: at least 1 is needed"),
        ({"width": 4}, "width 8 or more"),
    ],
)
def test_plans_that_cannot_run_are_refused(given, message) -> None:
    with pytest.raises(MedwardError, match=message):
        plan_federations(**given)


def test_federations_are_read_as_malicious_of_all() -> None:
    assert read_federations(["1/4", "5/20"]) == ((4, 1), (20, 5))
    with pytest.raises(MedwardError, match="federation '4': malicious of all hospitals are needed, such as 1/4"):
        read_federations(["4"])


def test_settings_have_names_of_their_own() -> None:
    names = [each.name for each in FederationPlan(skews=("iid", "dirichlet"), federations=((4, 1), (10, 2))).settings()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_steps_or_says_why_not(name) -> None:
    """With as many clients as any rule needs."""
    gan = ConditionalGan(channels=1, size=16, classes=2, width=8)
    clients = 12
    server = build_server(name, gan, clients=clients, malicious=2, seed=0)
    start = gan.initial(0)
    rng = np.random.default_rng(0)
    updates = [
        ClientUpdate(
            node=f"h{place}",
            parameters=[
                (each + rng.normal(0, 0.01, each.shape)).astype(each.dtype) if each.dtype.kind == "f" else each
                for each in start
            ],
            examples=10,
            metrics={"loss": 1.0 + place / 100},
        )
        for place in range(clients)
    ]
    own = updates[0].parameters if name == "fltrust" else None
    _, result = server.step(FederationState(), start, updates, [each.node for each in updates], own)
    moved = any(not np.array_equal(a, b) for a, b in zip(start, result.parameters, strict=True))
    assert moved
    assert sum(result.weights.values()) == pytest.approx(1)
    assert isinstance(server, PublishedServer | Aggregator)


def test_a_setting_says_what_it_is() -> None:
    assert FederationSetting(task="blood").name == "blood gan 1/4 iid none weighted-mean seed 0"
