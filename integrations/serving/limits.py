"""What one request may cost, and what all of them together may: every bound of the endpoint, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.intake.picture import MOST_PIXELS

A_MOMENT = 0.001  # seconds, the least that a time may be


def _bound(default: Any, said: str, *, least: float = 1, most: float = float("inf")) -> Any:
    """A field with its help for the command line and its range."""
    return field(default=default, metadata={"help": said, "least": least, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the endpoint; each is checked before the work it bounds is done.

    `workers` requests are answered at a time and `queue` wait, each from when its body is there. One account takes at
    most `share` of these places, of ``(workers + queue) * body_bytes`` of memory for bodies and of `connections`, and
    asks no more often than `rate` says. A request that is not answered within `deadline` seconds of taking its place
    is refused. Every field is a flag of ``medward serve``, a name in its ``--config`` file and an environment
    variable ``MEDWARD_SERVE_...``; what it bounds is in its help.
    """

    workers: int = _bound(2, "requests that are answered at a time, each in a thread")
    queue: int = _bound(32, "requests that wait, bodies and all, while every worker is busy", least=0)
    share: float = _bound(0.5, "part of places, body memory and connections that one account may take", least=0, most=1)
    rate: str = _bound("", "how often one account may ask: '60/minute' or '10/second; 20000/day'; empty: no bound")
    deadline: float = _bound(120.0, "seconds in which a request is answered or refused", least=A_MOMENT)
    body_bytes: int = _bound(16 * 2**20, "bytes that one request may hold; a raw mammogram takes 52428800")
    body_seconds: float = _bound(30.0, "seconds in which a body must arrive", least=A_MOMENT)
    rows: int = _bound(64, "rows that one request may hold")
    pixels: int = _bound(MOST_PIXELS, "pixels that one uploaded image may have; by default a full-size radiograph")
    connections: int = _bound(256, "connections that may be open; health probes have room beyond them")
    header_seconds: float = _bound(10.0, "seconds that a connection may be open without a request", least=A_MOMENT)
    stream_seconds: float = _bound(300.0, "seconds in which a streamed report is written and taken", least=A_MOMENT)
    drain: float = _bound(5.0, "seconds after SIGTERM in which it answers on but is not ready", least=0)
    stop_seconds: float = _bound(30.0, "seconds that requests under way have to finish after that", least=A_MOMENT)

    def __post_init__(self) -> None:
        for bound in fields(self):
            value, least, most = getattr(self, bound.name), bound.metadata["least"], bound.metadata["most"]
            if isinstance(value, str):
                continue
            if not value >= least:
                raise MedwardError(f"limits.{bound.name} must be >= {least}, got {value}")
            if not value <= most:
                raise MedwardError(f"limits.{bound.name} must be <= {most}, got {value}")

    @property
    def places(self) -> int:
        """Requests that are answered or wait."""
        return self.workers + self.queue

    def share_of(self, total: int) -> int:
        """What one account may take of `total`, at least one."""
        return max(1, int(self.share * total))
