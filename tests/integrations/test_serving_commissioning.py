"""A server that is commissioned, over HTTP and from the command line; and that no client begins or prolongs that."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.processes import serving

from medward.guard.audit.log import read_log
from medward.guard.bundle.make import protect
from medward.guard.commissioning.period import COMMISSIONED, CommissioningAsked
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.integrations.cli import main
from medward.integrations.serving import load_app
from medward.integrations.serving.keys import KeyStore

ROWS = np.random.default_rng(3).normal(size=(300, 4)).astype(np.float32)
TESTED, OTHER = ("hospital-b", "pacs"), ("hospital-a", "radiology")
INVERTED = (-30 * np.abs(ROWS[:20])).tolist()
HEADER = "Medward-Commissioning"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    path = tmp_path_factory.mktemp("served") / "bundle"
    return protect(model, Split(ROWS), Policy(on_error="withhold"), path, classes=("no", "yes"))


class Site:
    """A server with a key for each of two organisations, commissioned as asked."""

    def __init__(self, bundle, folder):
        self.bundle, self.state = bundle, folder / "state"
        self.state.mkdir()
        keys = KeyStore(self.state / "keys.json")
        self.keys = {who: keys.add(who) for who in (TESTED, OTHER)}
        self.watcher = keys.add(("operations",), scope="metrics")

    def serve(self, organisation="hospital-b", minutes=5, number=1):
        asked = CommissioningAsked(minutes=minutes, organisation=organisation, number=number) if minutes else None
        return TestClient(load_app(self.bundle.path, state=self.state, commissioning=asked))

    def ask(self, client, who, rows=INVERTED, **headers):
        return client.post("/v1/predict", json={"inputs": rows}, headers={"X-API-Key": self.keys[who], **headers})

    def records(self, event):
        return [each for each in read_log(self.state / "audit.jsonl") if each.get("event") == event]


@pytest.fixture
def site(bundle, tmp_path):
    return Site(bundle, tmp_path)


def test_the_organisation_is_answered_with_a_mark_and_words_and_the_other_is_guarded(site):
    with site.serve() as client:
        tested, other = site.ask(client, TESTED), site.ask(client, OTHER)
    body = tested.json()
    assert tested.headers[HEADER].startswith("for testing only until ")
    assert body["levels"] == ["label"] * 20
    assert body["scores"] == [None] * 20
    assert body["commissioning"]["for_testing_only"] is True
    assert body["commissioning"]["rows_compared"] == 20
    assert body["commissioning"]["answers_left"] == 480
    assert any("of 20 rows" in note for note in body["commissioning"]["notes"])
    assert HEADER not in other.headers
    assert "commissioning" not in other.json()
    assert "withheld" in other.json()["levels"]


def test_the_open_inference_protocol_marks_it_too(site):
    tensor = {"name": "inputs", "shape": [20, 4], "datatype": "FP32", "data": np.ravel(INVERTED).tolist()}
    with site.serve() as client:
        path = f"/v2/models/{site.bundle.model.spec.name}/infer"
        told = [
            client.post(path, json={"inputs": [tensor]}, headers={"X-API-Key": site.keys[who]})
            for who in (TESTED, OTHER)
        ]
    said = told[0].json()["parameters"]["commissioning"]
    assert said.startswith("for testing only until ")
    assert "480 answers left: " in said
    assert "of 20 rows" in said
    assert HEADER in told[0].headers
    assert "commissioning" not in told[1].json()["parameters"]


def test_ready_says_until_when_and_names_nobody(site):
    watching = {"X-API-Key": site.watcher}
    with site.serve() as client:
        assert "commissioning" not in client.get("/readyz").text
        notes = client.get("/readyz", headers=watching).json()["notes"]
    assert [each for each in notes if each.startswith("commissioning until ") and "500 more at most" in each]
    assert "hospital" not in str(notes)
    with site.serve(minutes=0) as client:
        assert "commissioning" not in client.get("/readyz", headers=watching).text


def test_a_client_that_asks_for_it_gets_none(site):
    wanted = {HEADER: "for testing only until 2099-01-01", "Medward-Commission": "60", "X-Request-ID": "commissioning"}
    with site.serve(minutes=0) as client:
        plain = site.ask(client, TESTED, **wanted)
        asked = client.post(
            "/v1/predict",
            json={"inputs": INVERTED, "commissioning": {"for_testing_only": True}},
            headers={"X-API-Key": site.keys[TESTED]},
        )
        query = client.post(
            "/v1/predict?commission=60", json={"inputs": INVERTED}, headers={"X-API-Key": site.keys[TESTED]}
        )
    assert asked.status_code == 422
    for response in (plain, query):
        assert "commissioning" not in response.json()
        assert "withheld" in response.json()["levels"]
    assert site.records(COMMISSIONED) == []


def test_a_client_cannot_prolong_it_and_its_queries_stay_on_record(site):
    with site.serve() as client:
        until = {
            site.ask(client, TESTED, rows=ROWS[i : i + 1].tolist()).json()["commissioning"]["until"] for i in range(10)
        }
    assert len(until) == 1
    assert len(site.records(COMMISSIONED)) == 10


def test_a_restart_goes_on_and_an_end_outlives_it(site):
    with site.serve() as client:
        first = site.ask(client, TESTED).json()["commissioning"]
    with site.serve(minutes=1440) as client:
        again = site.ask(client, TESTED).json()["commissioning"]
    assert again["until"] == first["until"]
    assert again["answers_left"] == 460
    with site.serve() as client:
        while (answer := site.ask(client, TESTED).json()).get("commissioning"):
            pass
        assert "withheld" in answer["levels"]
    with site.serve() as client:
        assert "commissioning" not in site.ask(client, TESTED).json()
    (end,) = site.records("commissioning ended")
    assert (end["answers"], end["why"]) == (500, "its answers were used up")
    with site.serve(number=2) as client:
        assert site.ask(client, TESTED).json()["commissioning"]["answers_left"] == 480


def test_organisations_are_those_that_have_keys(site):
    with pytest.raises(MedwardError, match="name one organisation; hospital-a, hospital-b, operations have keys"):
        site.serve(organisation=None)
    with pytest.raises(MedwardError, match="no key begins with 'hospital-c'"):
        site.serve(organisation="hospital-c")


def test_the_command_serves_it_and_the_log_is_summed_up(bundle, tmp_path, capsys, monkeypatch):
    with serving(bundle.path, tmp_path, "--no-keys", "--commission", "5") as server:
        reply = httpx.post(f"{server.url}/v1/predict", json={"inputs": INVERTED})
        assert "commissioning until" in httpx.get(f"{server.url}/readyz").text
    assert reply.json()["commissioning"]["for_testing_only"] is True
    monkeypatch.chdir(tmp_path)
    for command, said in (
        (["audit", "commissioning", "state"], "commissioning 1 of anonymous: began "),
        (["drift", str(bundle.path), "state"], "1 queries of commissioning in the log are left out"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert stopped.value.code == 0
        assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--commission-for", "hospital-b"], "say for how many minutes with --commission"),
        (["--commission", "2000"], "--commission"),
        (["--commission", "5", "--commission-number", "2"], "so the next is 1, got 2"),
    ],
)
def test_a_wrong_option_is_one_sentence(bundle, tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["serve", str(bundle.path), "--no-keys", *options])
    assert stopped.value.code == 3
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error
