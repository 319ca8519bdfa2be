"""Files that survive a kill: written whole or not at all, and on disk when the call returns."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_durably(path: Path, content: bytes, *, mode: int = 0o644, beside: Path | None = None) -> None:
    """Replace `path` by `content`; a kill at any moment leaves the old file or the new one.

    The new one is first built in the folder `beside`, by default that of `path`, under a name with a leading dot.
    """
    handle, name = tempfile.mkstemp(dir=beside or path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(mode)
        sync_to_disk(temporary)
        temporary.replace(path)
        sync_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def append_durably(path: Path, content: bytes) -> None:
    """Add `content` at the end of `path`, made where there is none; a kill can leave a part of it there."""
    new = not path.exists()
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_to_disk(path.parent)


def sync_to_disk(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
