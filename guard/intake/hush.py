"""Silence for what a library says of a file: its warnings and log lines can hold what names a patient."""

from __future__ import annotations

import logging
import threading
import warnings
from typing import Any


class Hush:
    """A hush keeps the warnings and one library's log from being heard while any thread is within it.

    ``warnings.catch_warnings`` is no thread's own: two that overlap would leave warnings off for ever. So the first
    thread in turns them off, and the last one out turns them on.
    """

    def __init__(self, library: str) -> None:
        self._log = logging.getLogger(library)
        self._lock = threading.Lock()
        self._within = 0
        self._kept: Any = None
        self._level = logging.NOTSET

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1:
                self._kept = warnings.catch_warnings()
                self._kept.__enter__()
                warnings.simplefilter("ignore")
                self._level = self._log.level
                self._log.setLevel(logging.CRITICAL + 1)  # that of the loggers below it too

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                self._kept.__exit__(None, None, None)
                self._log.setLevel(self._level)
