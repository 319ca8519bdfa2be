"""A process that streams a report from a state folder, says when the first piece left, and waits to be killed."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from support.report_models import report_guard, report_images, report_model, report_policy

from medward.guard.state import open_state
from medward.guard.types import Query

WHO = ("clinic", "key")
LENGTH = 4000
TEXT = "The trachea is midline. The mediastinum is unremarkable. " * 30


def streaming_guard(folder: Path):
    model = report_model(TEXT, length=LENGTH)
    policy = report_policy(screen={"action": "allow"}, budget={"total_bits": 200_000, "parents": 0})
    state = open_state(folder)
    return report_guard(model, policy, store=state.store, audit=state.audit)


def main() -> None:
    guard = streaming_guard(Path(sys.argv[1]))
    stream = guard.stream(Query(principal=WHO, inputs=report_images(1, 5), id="killed"))
    print(f"left {next(stream)!r}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
