"""GDCM in a process of its own: a damaged file can kill it, and must not kill a server.

GDCM is the only decoder of some compressed forms (JPEG lossless). The helper is started when it is first needed, is
given one file at a time through a pipe, writes nothing to disk, and is started anew once it has died.
"""

from __future__ import annotations

import atexit
import io
import struct
import subprocess
import sys
import threading
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError

DAMAGED = "is a DICOM file whose pixels cannot be decoded (damaged, or compressed in a way that no decoder here knows)"
SECONDS = 60.0  # for one file
_HEAD = struct.Struct(">QI")  # bytes that follow, and the frame that is asked for


class DecodingProcess:
    """A decoding process decodes one frame of one file at a time, for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def decode(self, file: bytes, frame: int) -> NDArray[Any]:
        """The stored values of `frame`, counted from 0, of a DICOM `file`."""
        with self._lock:
            process = self._running()
            late = threading.Timer(SECONDS, process.kill)
            late.start()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(_HEAD.pack(len(file), frame) + file)
                process.stdin.flush()
                answer = read_message(process.stdout)
            except OSError:
                answer = None
            finally:
                late.cancel()
            if answer is None:
                self._end()
        if not answer or not answer[0]:
            raise MedwardError(DAMAGED)
        pixels: NDArray[Any] = np.load(io.BytesIO(answer[0]), allow_pickle=False)
        return pixels

    def close(self) -> None:
        """End the helper, if there is one."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import answer_messages; answer_messages()"
            self._process = subprocess.Popen(  # noqa: S603 this very Python
                [sys.executable, "-I", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def read_message(source: IO[bytes]) -> tuple[bytes, int] | None:
    """The next message and its number; None where the other side has gone."""
    head = source.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    size, number = _HEAD.unpack(head)
    content = source.read(size)
    return (content, number) if len(content) == size else None


def answer_messages() -> None:
    """Be the helper: decode each file that comes in, until none does; what fails is answered by nothing."""
    from pydicom import dcmread
    from pydicom.pixels import pixel_array

    out = sys.stdout.buffer
    while (message := read_message(sys.stdin.buffer)) is not None:
        answer = io.BytesIO()
        try:
            np.save(answer, pixel_array(dcmread(io.BytesIO(message[0])), index=message[1], decoding_plugin="gdcm"))
        except Exception:
            answer = io.BytesIO()
        out.write(_HEAD.pack(len(answer.getvalue()), 0) + answer.getvalue())
        out.flush()
