"""An answer that waits for its record, so that whoever computes answers need not wait with it."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import dataclass

from medward.guard.errors import UnavailableError
from medward.guard.types import Answer

_log = logging.getLogger("medward")


@dataclass(frozen=True, slots=True)
class PendingAnswer:
    """A pending answer is judged and charged, and leaves by `result` only, once its record is durable.

    `recorded` is done then, or has the `UnavailableError` for which it cannot be. `withhold` is what the policy's
    ``on_error`` says of that. `version` names what answered, where a server says so.
    """

    _answer: Answer
    recorded: Future[None]
    withhold: bool
    version: str = ""

    def result(self) -> Answer:
        """The answer, once `recorded` is done; waits for it.

        Raises `UnavailableError` where the record cannot be kept and the policy withholds on errors.
        """
        wait_recorded(self.recorded, withhold=self.withhold)
        return self._answer


def wait_recorded(recorded: Future[None], *, withhold: bool) -> None:
    """Wait for a record; one that cannot be kept raises `UnavailableError` with `withhold` and is logged without."""
    try:
        recorded.result()
    except UnavailableError:
        if withhold:
            raise
        _log.exception("the audit log is away; on_error = flag, so the answer leaves unrecorded")


def already_recorded() -> Future[None]:
    """What is done: a record that is durable, or that nobody keeps."""
    done: Future[None] = Future()
    done.set_result(None)
    return done
