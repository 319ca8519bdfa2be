"""A report that leaves piece by piece: what was admitted before the first piece stands, and the end is on record.

An audit log has two records of a stream: that it was admitted, at which level and for how many bits, which is on disk
before a word is written; and how it ended. Where the second is missing the process was killed in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from medward.guard.answering import released_answer
from medward.guard.audit.record import StreamEnd, report_ended
from medward.guard.errors import MedwardError, ModelError, UnavailableError
from medward.guard.release.redaction_stream import RedactionStream
from medward.guard.report_filter import filter_verdict
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Answer, Level, Outputs

_log = logging.getLogger("medward")


class ReportStream:
    """A report stream is an iterator over the pieces of one text, filtered as they are written.

    Guarantee: the pieces together are the text that `Guard.answer` gives of the same row; nothing leaves that was not
    admitted, charged and on record before; the last piece leaves once the end is on record. At level label no piece
    leaves, and at withheld nothing is written. The level is not chosen again while the text is written.

    `answer` is there at the end, with the findings. Where a mark took the words of a finding, it has no text and is at
    level label: what was streamed does not stand. Whoever stops before calls `close`, or uses it in ``with``.
    One thread at a time. Raises `ModelError` where the text cannot be written to its end, and `UnavailableError` where
    the end cannot be recorded.
    """

    def __init__(
        self,
        admitted: Answer,
        pieces: Iterator[str],
        redaction: RedactionStream | None,
        *,
        stream: str,
        principal: str,
        append: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._admitted, self._pieces, self._redaction = admitted, pieces, redaction
        self._stream, self._principal, self._append = stream, principal, append
        self._written, self._left, self._size = list[str](), list[str](), 0
        self._open = self.level is not Level.WITHHELD
        self._ended: StreamEnd | None = None
        self._answer = None if self._open else admitted

    @property
    def id(self) -> str:
        """The name of the answer."""
        return self._admitted.id

    @property
    def level(self) -> Level:
        """The level at which it was admitted."""
        return self._admitted.levels[0]

    @property
    def ended(self) -> StreamEnd | None:
        """How the text ended; None before, where none was to be written, and where the end is not on record."""
        return self._ended

    @property
    def answer(self) -> Answer:
        """The whole answer, once the text has ended. Raises `MedwardError` before, and where it did not end."""
        if self._answer is None:
            raise MedwardError("report stream: the text has not ended; iterate over it to its end first")
        return self._answer

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        """The next piece that may leave."""
        while self._open:
            try:
                piece = next(self._pieces, None)
                chunk = self._pushed(piece) if piece is not None else self._rest()
            except Exception as error:
                _log.exception("the model failed while it wrote a report")
                self._stop("failed")
                raise ModelError("the report could not be written to its end") from error
            if piece is None:
                self._finish()
            if chunk:
                return chunk
        raise StopIteration

    def close(self) -> None:
        """Write no more; a stream that has not ended is on record as stopped."""
        if self._open:
            self._stop("stopped")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _task(self) -> WrittenReport:
        task = self._admitted.spec.task
        assert isinstance(task, WrittenReport)
        return task

    def _pushed(self, piece: str) -> str:
        """What may leave once `piece` is written."""
        self._size += len(piece.encode())
        self._task.check_size(self._size, self._admitted.spec.name)
        self._written.append(piece)
        return self._kept("" if self._redaction is None else self._redaction.push(piece))

    def _rest(self) -> str:
        return self._kept("" if self._redaction is None else self._redaction.finish())

    def _kept(self, chunk: str) -> str:
        self._left.append(chunk)
        return chunk

    def _finish(self) -> None:
        """Read the findings, and put the end on record."""
        written, left, spec = "".join(self._written), "".join(self._left), self._admitted.spec
        level, text, verdicts = self.level, None, self._admitted.verdicts
        if self._redaction is not None:
            stands = self._task.said_in(left) == self._task.said_in(written)
            level, text = (level, left) if stands else (Level.LABEL, None)
            verdicts = (*verdicts, filter_verdict(len(self._redaction.spans), not stands))
        outputs = Outputs(self._task.read([written], spec.name), texts=(written,))
        answer = released_answer(self.id, spec, outputs, (level,), verdicts, level, ReleaseSettings(), (text,))
        self._end("finished", findings=self._task.word(int(answer.labels[0])), level=level)
        self._answer = answer

    def _stop(self, ended: StreamEnd) -> None:
        """End before the text does."""
        if isinstance(self._pieces, Generator):
            self._pieces.close()
        try:
            self._end(ended)
        except UnavailableError:
            _log.exception("the audit log is away; a report that %s has no closing record", ended)

    def _end(self, ended: StreamEnd, *, findings: Mapping[str, str] | None = None, level: Level | None = None) -> None:
        self._open = False
        self._append(
            report_ended(
                stream=self._stream,
                query=self.id,
                principal=self._principal,
                ended=ended,
                level=(self.level if level is None else level).label,
                written=sum(map(len, self._written)),
                left=sum(map(len, self._left)),
                replaced=0 if self._redaction is None else len(self._redaction.spans),
                findings=findings,
            )
        )
        self._ended = ended
