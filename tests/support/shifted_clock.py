"""The wall clock of another process, set to any time: a library before libc's that adds what a file says."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from support.needed import lacking

SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile int64_t *seconds;
static int (*original)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void) {
    original = dlsym(RTLD_NEXT, "clock_gettime");
    int file = open(getenv("SHIFTED_CLOCK"), O_RDONLY);
    void *found = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) seconds = found;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = original(id, now);
    if (!failed && seconds && id == CLOCK_REALTIME) now->tv_sec += *seconds;
    return failed;
}
"""


class ShiftedClock:
    """The clock of processes that run in `environment`, so many seconds off; timers go by another and are right."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or lacking("cc", "gcc")
        (folder / "clock.c").write_text(SOURCE)
        library, self._file = folder / "clock.so", folder / "clock"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "clock.c", "-ldl"], check=True)
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}

    def shift(self, seconds: int) -> None:
        """The clock is `seconds` ahead from now on; below 0 it is behind."""
        file = os.open(self._file, os.O_WRONLY)
        os.pwrite(file, struct.pack("=q", seconds), 0)
        os.close(file)
