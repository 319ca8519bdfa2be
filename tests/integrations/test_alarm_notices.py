"""Alarms told to other systems: signed, tried again, in order, and nobody waits for them."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3

from medward.guard.alarm import Alarm
from medward.guard.errors import MedwardError
from medward.guard.types import Action
from medward.integrations.serving import alarm_notices
from medward.integrations.serving.alarm_notices import SIGNATURE, AlarmNotifier, syslog, webhook


def alarm(number=0):
    return Alarm(
        account="clinic/key",
        action=Action.WITHHOLD,
        part="e-process",
        evidence={"log_e": 9.5, "peak": 9.5, "share:strange": 1.0},
        query=f"q{number}",
        time=datetime(2026, 1, 2, tzinfo=UTC),
    )


@contextmanager
def receiver(*statuses):
    """A receiver that answers with `statuses` in turn, then 200; what it was sent, with its headers."""
    got, left = [], list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = left.pop(0) if left else 200
            got.append((status, body, dict(self.headers)))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/alarms", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(alarm_notices, "WEBHOOK_TRIES", alarm_notices.WEBHOOK_TRIES.new(backoff_factor=0))


def test_a_receiver_reads_who_what_and_when_and_can_check_the_signature():
    with receiver() as (url, got):
        webhook(url, "s3cret")(alarm())
    ((_, body, headers),) = got
    said = json.loads(body)
    assert (said["account"], said["action"], said["query"]) == ("clinic/key", "withhold", "q0")
    assert said["time"] == "2026-01-02T00:00:00+00:00"
    assert headers[SIGNATURE] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()


def test_failures_that_may_pass_are_tried_again_and_others_are_said():
    with receiver(503, 500, 429) as (url, got):
        webhook(url)(alarm())
    assert [status for status, *_ in got] == [503, 500, 429, 200]
    assert SIGNATURE not in got[0][2]
    with receiver(404) as (url, got), pytest.raises(OSError, match=r"http://127\.0\.0\.1 answered 404"):
        webhook(url)(alarm())
    with receiver(302) as (url, got), pytest.raises((OSError, urllib3.exceptions.HTTPError)):
        webhook(url)(alarm())
    assert len(got) == 1, "redirects are not followed"


def test_all_notices_get_all_alarms_in_order_though_one_fails(caplog):
    first, second = [], []

    def failing(each):
        first.append(each)
        raise OSError("away")

    notifier = AlarmNotifier([failing, second.append])
    for number in range(5):
        notifier(alarm(number))
    notifier.close()
    assert [each.query for each in first] == [each.query for each in second] == [f"q{i}" for i in range(5)]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 5
    assert "was not told" in caplog.text


def test_nobody_waits_for_a_receiver_that_hangs_and_what_is_too_many_is_logged(monkeypatch, caplog):
    go, seen = threading.Event(), []

    def slow(each):
        assert go.wait(20)
        seen.append(each)

    monkeypatch.setattr(alarm_notices, "WAITING", 2)
    notifier = AlarmNotifier([slow])
    for number in range(10):
        notifier(alarm(number))
    assert "this one is in the logs alone" in caplog.text
    go.set()
    notifier.close()
    assert 2 <= len(seen) <= 3


def test_syslog_gets_one_line_by_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(10)
        syslog(f"127.0.0.1:{daemon.getsockname()[1]}")(alarm())
        said = daemon.recv(65536).decode()
    assert said.startswith("<36>medward: {"), "facility auth, severity warning"
    assert json.loads(said.partition("medward: ")[2].rstrip("\x00"))["account"] == "clinic/key"


def test_a_syslog_that_is_not_there_is_said(tmp_path):
    with pytest.raises(OSError, match=r"[Nn]o"):
        syslog(str(tmp_path / "log"))(alarm())


@pytest.mark.parametrize(
    ("make", "address", "said"),
    [
        (webhook, "http://elsewhere.example/x?token=1", "alarm-webhook: http://elsewhere.example: give an https://"),
        (webhook, "file:///etc/passwd", "alarm-webhook: file://: give an https://"),
        (webhook, "https://jo:pw@a.example/", "alarm-webhook: https://a.example: give a host, and no name or password"),
        (syslog, "somewhere", "alarm-syslog: 'somewhere' is no address; give /dev/log, or host:514"),
        (syslog, "host:0", "alarm-syslog: 'host:0' is no address"),
    ],
)
def test_an_address_that_will_not_do_is_one_sentence(make, address, said):
    with pytest.raises(MedwardError) as refused:
        make(address)
    assert str(refused.value).startswith(said)
    assert "pw" not in str(refused.value)
