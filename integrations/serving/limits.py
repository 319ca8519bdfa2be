"""What one request may cost, and what all of them together may: every bound of the endpoint, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from medward.guard.intake.picture import MOST_PIXELS
from medward.integrations.serving.option_field import check_option_ranges, option_field

A_MOMENT = 0.001  # seconds, the least that a time may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the endpoint; each is checked before the work it bounds is done.

    `workers` requests are answered at a time and `queue` wait, each from when its body is there. One account takes at
    most `share` of these places, of ``(workers + queue) * body_bytes`` of memory for bodies and of `connections`, and
    asks no more often than `rate` says. A request that is not answered within `deadline` seconds of taking its place
    is refused. Every field is a flag of ``medward serve``, a name in its ``--config`` file and an environment
    variable ``MEDWARD_SERVE_...``; what it bounds is in its help.
    """

    workers: int = option_field(2, "requests that are answered at a time, each in a thread")
    queue: int = option_field(32, "requests that wait, bodies and all, while every worker is busy", least=0)
    batch: int = option_field(32, "waiting requests of numbers, up to 64 KiB each, that the model is asked together")
    share: float = option_field(
        0.5, "part of places, body memory and connections that one account may take", least=0, most=1
    )
    rate: str = option_field(
        "", "how often one account may ask: '60/minute' or '10/second; 20000/day'; empty: no bound"
    )
    failures: str = option_field(
        "60/minute", "how often one address may fail to say who it is before its failures are 429; empty: no bound"
    )
    deadline: float = option_field(120.0, "seconds in which a request is answered or refused", least=A_MOMENT)
    body_bytes: int = option_field(16 * 2**20, "bytes that one request may hold; a raw mammogram takes 52428800")
    body_seconds: float = option_field(30.0, "seconds in which a body must arrive", least=A_MOMENT)
    rows: int = option_field(64, "rows that one request may hold")
    pixels: int = option_field(
        MOST_PIXELS, "pixels that one uploaded image may have; by default a full-size radiograph"
    )
    connections: int = option_field(256, "connections that may be open; health probes have room beyond them")
    header_seconds: float = option_field(
        10.0, "seconds that a connection may be open without a request", least=A_MOMENT
    )
    rejections: int = option_field(20, "refused requests of each status that are put on record in a minute", least=0)
    segment_mib: int = option_field(256, "MiB at which the audit log's file is closed as a segment; 0: never", least=0)
    segment_days: float = option_field(0.0, "days after which it is closed, whatever its size; 0: never", least=0)
    stream_seconds: float = option_field(
        300.0, "seconds in which a streamed report is written and taken", least=A_MOMENT
    )
    drain: float = option_field(5.0, "seconds after SIGTERM in which it answers on but is not ready", least=0)
    stop_seconds: float = option_field(
        30.0, "seconds that requests under way have to finish after that", least=A_MOMENT
    )

    def __post_init__(self) -> None:
        check_option_ranges(self, "limits")

    @property
    def places(self) -> int:
        """Requests that are answered or wait."""
        return self.workers + self.queue

    def share_of(self, total: int) -> int:
        """What one account may take of `total`, at least one."""
        return max(1, int(self.share * total))
