"""The folder that a hardening writes: complete or not there, and replaced only where it is an earlier result."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medward.guard.certificate import CERTIFICATE, CERTIFIED, ORIGINAL
from medward.guard.errors import MedwardError
from medward.guard.files import sync_to_disk
from medward.guard.harden.audit_rows import CANARIES, MANIFEST

MODEL, WEIGHTS = CERTIFIED, "weights.pt"
WRITTEN = (MODEL, ORIGINAL, WEIGHTS, CERTIFICATE, CANARIES, MANIFEST)


@contextmanager
def replaced_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to build in that becomes `path` when the block ends well, and is gone when it does not.

    A `path` that is not empty is refused, unless `overwrite` is set and it is an earlier result.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    build, old = (path.with_name(f".{path.name}.{kind}") for kind in ("tmp", "old"))
    with _alone(build, path):
        if old.exists() and not _ours(old):
            build.rmdir()
            raise MedwardError(f"{old}: is in the way and not from a hardening; move it away")
        try:
            if old.exists() and not path.exists():  # a run was killed between its two last steps
                old.rename(path)
            _check(path, overwrite)
            yield build
            build.chmod(0o755)
            for each in (*build.iterdir(), build):
                sync_to_disk(each)
            shutil.rmtree(old, ignore_errors=True)
            if path.exists():
                path.rename(old)
            build.rename(path)
            sync_to_disk(path.parent)
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            shutil.rmtree(build, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(build: Path, path: Path) -> Iterator[None]:
    """Make the folder `build`, empty and locked: what a killed run left there is gone, a run at work is left alone."""
    try:
        build.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(build, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise MedwardError(f"{build}: cannot build there: {error.strerror}; move it away") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.path.samestat(os.fstat(handle), build.stat())  # not one that a run has just made a result of
        except (BlockingIOError, FileNotFoundError):
            free = False
        except OSError as error:
            raise MedwardError(f"{build}: cannot be locked: {error.strerror}; choose a local folder") from None
        if not free:
            raise MedwardError(f"{path}: another run is hardening into it; wait for it, or choose another folder")
        if not _ours(build):
            raise MedwardError(f"{build}: is in the way and not from a hardening; move it away")
        for each in build.iterdir():
            each.unlink()
        yield
    finally:
        os.close(handle)


def _ours(folder: Path) -> bool:
    """Whether all that `folder` holds are files that a hardening writes."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(each.name in WRITTEN and each.is_file() and not each.is_symlink() for each in folder.iterdir())


def _check(path: Path, overwrite: bool) -> None:
    """Refuse a `path` that holds anything but, with `overwrite`, an earlier result."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise MedwardError(f"{path}: exists and is not a folder; choose another place for the hardened model")
    names = {each.name for each in path.iterdir()} if path.exists() else set()
    if names and not overwrite:
        raise MedwardError(f"{path}: is not empty; choose another folder, or replace it with --overwrite")
    if names and not (CERTIFICATE in names and _ours(path)):
        other = ", ".join(sorted(names - set(WRITTEN))) or "folders or links"
        raise MedwardError(f"{path}: holds more than a hardened model ({other}) and is not overwritten; choose another")
