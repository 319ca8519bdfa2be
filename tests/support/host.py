"""What can happen to a host: several processes at once, kill -9, a full disk."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from medward import guard

ROOT = Path(guard.__file__).resolve().parents[1]


def start(code, *arguments):
    """Run Python `code` in a process of its own; its lines come back through `stdout`."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def killed(code, *arguments, after):
    """Kill -9 `code` once it has printed `after` lines; return every whole line it got to print."""
    worker = start(code, *arguments)
    told = [worker.stdout.readline() for _ in range(after)]
    worker.send_signal(signal.SIGKILL)
    told += worker.stdout.readlines()
    worker.communicate(timeout=60)
    lines = [line for line in told if line.endswith("\n")]
    assert len(lines) >= after
    return lines


@contextmanager
def files_no_larger_than(size):
    """A full disk, as far as this process is concerned."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
