"""How often one account may ask, in one server and in replicas that share a Redis."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack

import anyio
import pytest
from starlette.testclient import TestClient
from support.redis_server import DURABLE, running

from medward.guard.audit.record import REJECTED
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.integrations.serving import Limits, create_app
from medward.integrations.serving.account_rate import AccountRate
from medward.integrations.serving.keys import KeyStore

BODY = {"inputs": [[0.5, -1.0, 2.0]]}


class Records(list):
    """Records of what was asked; that others were refused is on record too, and tested elsewhere."""

    def append(self, record):
        if record.get("event") != REJECTED:
            super().append(dict(record))


@pytest.fixture
def keys(tmp_path):
    return KeyStore(tmp_path / "keys.json")


@pytest.fixture
def replica(make_guard, keys):
    def make(rate, *, on_error="withhold", audit=None, redis=None):
        guard = make_guard(Policy(on_error=on_error), audit=audit)
        app = create_app(guard, keys=keys, limits=Limits(rate=rate), rates_at=redis)
        return TestClient(app, raise_server_exceptions=False)

    return make


def ask(client, token, path="/v1/predict"):
    return client.post(path, json=BODY, headers={"X-API-Key": token})


def test_an_account_that_asks_too_often_is_told_when_to_ask_again(replica, keys):
    """Its other key counts with it, another account does not, and what is refused is neither charged nor on record."""
    audit = Records()
    first, second, other = keys.add(("a", "k")), keys.add(("a", "k")), keys.add(("b", "k"))
    client = replica("2/hour", audit=audit)
    assert [ask(client, token).status_code for token in (first, second)] == [200, 200]
    for token in (first, second):
        refused = ask(client, token)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert 3500 < int(refused.headers["retry-after"]) <= 3601
        assert "this account may ask 2/hour" in refused.json()["detail"]
    assert ask(client, first, "/v2/models/linear/infer").status_code == 429
    assert ask(client, other).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert [record["principal"] for record in audit] == ["a/k", "a/k", "b/k"]
    assert 'medward_refused_requests_total{reason="rate"} 3.0' in client.app.state.service.metrics.text().decode()


def test_of_several_rates_each_holds(replica, keys):
    token = keys.add(("a",))
    client = replica("3/day; 1/day")
    assert [ask(client, token).status_code for _ in range(3)] == [200, 429, 429]


def test_without_a_rate_there_is_none(replica, keys):
    token = keys.add(("a",))
    client = replica("")
    assert [ask(client, token).status_code for _ in range(9)] == [200] * 9


@pytest.mark.parametrize("rate", ["often", "0/minute", "-1/minute", "10/fortnight", "1.5/minute"])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(MedwardError, match="is not a rate; write '60/minute'"):
        AccountRate.of(rate)


def test_replicas_that_share_a_redis_count_together_and_others_do_not(replica, keys, tmp_path):
    token = keys.add(("a",))
    with running(tmp_path, *DURABLE) as server:
        replicas = [replica("5/hour", redis=server.url) for _ in range(2)]
        found = [ask(replicas[number % 2], token).status_code for number in range(8)]
        assert found == [200] * 5 + [429] * 3
        apart = [replica("5/hour") for _ in range(2)]
        assert [ask(apart[number % 2], token).status_code for number in range(8)] == [200] * 8


@pytest.mark.parametrize(("on_error", "status"), [("withhold", 503), ("flag", 200)])
def test_a_redis_that_does_not_count_is_an_outage_as_the_policy_has_it(replica, keys, tmp_path, on_error, status):
    token, audit = keys.add(("a",)), Records()
    with running(tmp_path, *DURABLE) as server:
        client = replica("2/hour", redis=server.url, on_error=on_error, audit=audit)
        assert ask(client, token).status_code == 200
        server.freeze()
        answers = [ask(client, token) for _ in range(4)]
        assert [each.status_code for each in answers] == [status] * 4
        assert len(audit) == (1 if status == 503 else 5)
        if status == 503:
            assert answers[0].headers["retry-after"] == "5"
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("years", [10, -10])
@pytest.mark.parametrize("shared", [False, True])
def test_a_clock_that_jumps_locks_nobody_out_for_longer_than_the_window(tmp_path, monkeypatch, years, shared):
    """The control is a clock that goes on."""
    now = time.time()
    with ExitStack() as stack:
        redis = stack.enter_context(running(tmp_path, *DURABLE)).url if shared else None
        rate = AccountRate.of("2/minute", redis)
        monkeypatch.setattr(time, "time", lambda: now)

        def waits():
            return [anyio.run(rate.wait, "clinic") for _ in range(3)]

        assert [each > 0 for each in waits()] == [False, False, True]
        now += 1
        assert [0 < each <= 60 for each in waits()] == [True] * 3
        now += years * 365 * 86400
        assert [each > 0 for each in waits()] == [False, False, True]
        now -= years * 365 * 86400
        assert max(waits()) < 61, "what was counted before may still count"
