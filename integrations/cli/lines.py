"""Log records as lines of a console: what a library logs for a person, a command prints."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Lines(logging.Handler):
    """A handler that prints each record as one line; warnings say that they are."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message."""
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        self.console.print(prefix + record.getMessage(), markup=False)


@contextmanager
def printed_log(console: Console, name: str) -> Iterator[None]:
    """Print what the logger called `name` is told while the block runs, and only here: Opacus listens to all logs."""
    log, handler = logging.getLogger(name), Lines(console)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.setLevel(level)
        log.propagate = propagate
        log.removeHandler(handler)


@contextmanager
def alarms_expected() -> Iterator[None]:
    """Keep the guard's alarms off the screen while attacks raise them on purpose; the report has them."""
    log = logging.getLogger("medward")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
