"""Alarms told to other systems: a webhook and syslog, from a thread of their own.

They are told as soon as may be and at least tried again, but the audit log is the record: what a receiver missed while
it or this process was away, `medward incidents` says.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import logging.handlers
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import urllib3

from medward.guard.alarm import Alarm
from medward.guard.errors import MedwardError

_log = logging.getLogger("medward")
WAITING = 1000
"""Alarms that wait at most; further ones are logged and told to nobody."""
WEBHOOK_TRIES = urllib3.Retry(
    total=4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None, redirect=0
)
WEBHOOK_TIMEOUT = urllib3.Timeout(connect=3.0, read=5.0)
SIGNATURE = "Medward-Signature"
LAST_SECONDS = 5.0
"""Seconds that closing waits for what is still to be told."""
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")

Notice = Callable[[Alarm], None]
"""Tells one alarm, or raises what kept it from that."""


def alarm_content(alarm: Alarm) -> dict[str, Any]:
    """An alarm as a receiver reads it; no input, no answer, no patient."""
    return {
        "event": "alarm",
        "account": alarm.account,
        "action": alarm.action.label,
        "part": alarm.part,
        "evidence": dict(alarm.evidence),
        "query": alarm.query,
        "time": alarm.time.isoformat(timespec="seconds"),
        "summary": str(alarm),
    }


def webhook(url: str, secret: str = "") -> Notice:
    """A notice that posts JSON to `url`, again after failures that may pass; with a `secret` it is signed.

    ``Medward-Signature: sha256=`` is HMAC-SHA256 of the body's bytes. Redirects are not followed. Raises
    `MedwardError` for a URL that is not https, or http to this machine.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _THIS_MACHINE):
        raise MedwardError(f"alarm-webhook: {_where(url)}: give an https:// address, or http:// on this machine")
    if not parts.hostname or parts.username is not None:
        raise MedwardError(f"alarm-webhook: {_where(url)}: give a host, and no name or password in the address")
    pool = urllib3.PoolManager(retries=WEBHOOK_TRIES, timeout=WEBHOOK_TIMEOUT)

    def post(alarm: Alarm) -> None:
        body = json.dumps(alarm_content(alarm)).encode()
        headers = {"Content-Type": "application/json"}
        if secret:
            headers[SIGNATURE] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        status = pool.request("POST", url, body=body, headers=headers).status
        if not 200 <= status < 300:
            raise OSError(f"{_where(url)} answered {status}")

    return post


def syslog(address: str) -> Notice:
    """A notice that sends a line to a syslog daemon: ``/dev/log``, or ``host:514`` by UDP (RFC 5424 facility auth).

    Raises `MedwardError` for an address that is neither.
    """
    host, _, port = address.rpartition(":")
    if not address.startswith("/") and not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise MedwardError(f"alarm-syslog: {address!r} is no address; give /dev/log, or host:514")
    where: str | tuple[str, int] = address if address.startswith("/") else (host.strip("[]"), int(port))

    def send(alarm: Alarm) -> None:
        handler = logging.handlers.SysLogHandler(where, facility=logging.handlers.SysLogHandler.LOG_AUTH)
        handler.ident = "medward: "
        line = logging.LogRecord("medward", logging.WARNING, "", 0, json.dumps(alarm_content(alarm)), None, None)
        failed: list[logging.LogRecord] = []
        handler.handleError = failed.append  # type: ignore[method-assign, assignment]
        try:
            handler.emit(line)
        finally:
            handler.close()
        if failed:
            raise OSError(f"{address} takes no message")

    return send


@dataclass(eq=False)
class AlarmNotifier:
    """Tells alarms to all `notices`, in order, from one thread, and lets nobody wait: an `on_alarm` of a guard.

    What cannot be told is logged. `close` waits for `LAST_SECONDS` seconds at most.
    """

    notices: Sequence[Notice]
    _waiting: queue.Queue[Alarm | None] = field(default_factory=lambda: queue.Queue(WAITING), init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._tell_all, name="medward-alarms", daemon=True)
        self._thread.start()

    def __call__(self, alarm: Alarm) -> None:
        """Have `alarm` told."""
        try:
            self._waiting.put_nowait(alarm)
        except queue.Full:
            _log.error("%d alarms wait to be told; this one is in the logs alone: %s", WAITING, alarm)

    def close(self) -> None:
        """Tell what waits, and stop."""
        try:
            self._waiting.put(None, timeout=LAST_SECONDS)
        except queue.Full:
            return
        self._thread.join(LAST_SECONDS)

    def _tell_all(self) -> None:
        while (alarm := self._waiting.get()) is not None:
            for notice in self.notices:
                try:
                    notice(alarm)
                except (OSError, urllib3.exceptions.HTTPError) as error:
                    _log.error("an alarm was not told (%s): %s", type(error).__name__, alarm)
                except Exception:
                    _log.exception("an alarm was not told: %s", alarm)


def _where(url: str) -> str:
    """The address without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}"
