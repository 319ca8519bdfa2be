"""The files of a bundle folder: verified before they are parsed, and written so that a kill leaves no half bundle."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medward.guard.accounts.monitors import check_monitors
from medward.guard.bundle.card import CARD, POLICY, Card, sha256
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.files import sync_to_disk
from medward.guard.models.base import first_line
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.types import Array


def read_card(path: Path) -> Card:
    """The card, checked against itself."""
    if not path.is_dir():
        raise MedwardError(f"{path}: is not a bundle folder")
    return Card.from_bytes(_read(path / CARD))


def verified_parts(path: Path, card: Card, *, skip: tuple[str, ...]) -> dict[str, bytes]:
    """The bytes of every part, as the card says except for files in `skip`; no other file is there."""
    extra = sorted({each.name for each in path.iterdir()} - {CARD, *card.files})
    if extra:
        raise IntegrityError(f"{extra[0]}: is not part of the bundle; remove it")
    parts = {}
    for name, digest in sorted(card.files.items()):
        parts[name] = _read(path / name)
        if name not in skip and sha256(parts[name]) != digest:
            remedy = "run `medward seal` if you edited it" if name == POLICY else "restore it from its source"
            raise IntegrityError(f"{name}: does not match its digest in {CARD}; {remedy}")
    return parts


def _read(file: Path) -> bytes:
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise IntegrityError(f"{file.name}: must be a regular file, not a link or folder")
    try:
        return file.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{file.name}: cannot be read from {file.parent}: {error.strerror}") from None


def read_policy(parts: Mapping[str, bytes]) -> Policy:
    """The policy among `parts`."""
    try:
        text = parts[POLICY].decode()
    except UnicodeDecodeError:
        raise MedwardError(f"{POLICY}: not valid UTF-8") from None
    return Policy.from_toml(text, source=POLICY)


def profile_bytes(profile: Profile) -> bytes:
    """The npz file of a profile."""
    arrays: dict[str, Any] = dict(profile.to_arrays())
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_profile(file: str, parts: Mapping[str, bytes], policy: Policy) -> Profile:
    """The profile in `file`, its thresholds at the calibration risk of the policy."""
    try:
        with np.load(io.BytesIO(parts[file]), allow_pickle=False) as archive:
            arrays: dict[str, Array] = {key: archive[key] for key in archive.files}
        profile = Profile.from_arrays(arrays)
    except Exception as error:
        raise MedwardError(f"{file}: cannot be read: {first_line(error)}") from error
    remedy = f"protect the model again, or set {{switch}} = false in {POLICY} and run `medward seal`"
    check_monitors(policy, profile, f"{file}:", remedy)
    risk = policy.monitor.calibration_risk
    try:
        return profile if profile.risk == risk else profile.at_risk(risk)
    except MedwardError as error:
        raise MedwardError(f"{file}: {error}") from None


@contextlib.contextmanager
def built_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` to fill; it takes the place of `path` once all of it is on disk, or is deleted."""
    build = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield build
        for each in (*build.iterdir(), build):
            sync_to_disk(each)
        _put(build, path)
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _put(build: Path, path: Path) -> None:
    """Rename `build` to `path`; an old bundle steps aside first and is deleted last."""
    old = build.with_suffix(".old")
    if path.exists():
        path.rename(old)
    try:
        build.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    sync_to_disk(path.parent)
    shutil.rmtree(old, ignore_errors=True)
