"""The deployable folder: a model file, ``policy.toml``, ``profile.npz`` and ``card.json``. No pickle inside.

An organisation with a calibration of its own (a site) adds a file: a profile, as ``profile.npz`` is. What answers are
certified by, where the policy asks for it, is one more (`guard.bundle.bounds`). The card holds the SHA-256 of every
other file and of itself. Digests are compared before anything is parsed, and the bytes that were digested are the bytes
that are parsed. They detect corruption and careless edits. Whoever can rewrite the whole folder can rewrite the digests
too; only `expect`, a digest kept elsewhere, detects that.
"""

from __future__ import annotations

import contextlib
import io
import logging
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from medward.guard import models
from medward.guard.accounts.monitors import check_monitors
from medward.guard.accounts.names import checked_principal, first_alike
from medward.guard.accounts.stores import MemoryStore, Store
from medward.guard.audit.record import AuditSink
from medward.guard.bundle.bounds import bounds_data, bounds_file, open_bounds, uncounted_radius
from medward.guard.bundle.card import (
    BOUNDS_FILES,
    CARD,
    FORMAT,
    POLICY,
    PROFILE,
    SITE,
    Card,
    CertifiedShareOfRows,
    Site,
    bundle_versions,
    sha256,
    site_file,
)
from medward.guard.bundle.power import Power, power_cautions
from medward.guard.bundle.shaping import check_installed, shaping_plugins
from medward.guard.certificate import AnyCertificate
from medward.guard.certify.certifier import KeptBounds
from medward.guard.data.task_quality import AnyQuality
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.files import sync_to_disk, write_durably
from medward.guard.intake.burned_in_check import check_shows_text
from medward.guard.models.base import WrappedModel, first_line
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.state import SALT_BYTES, open_state
from medward.guard.tasks.base import check_level
from medward.guard.types import Array
from medward.guard.waiver_policy import ended_waivers

_log = logging.getLogger("medward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle, ready to serve."""

    path: Path
    card: Card
    model: WrappedModel
    policy: Policy
    profile: Profile
    sites: Mapping[str, Profile] = field(default_factory=dict)
    bounds: KeptBounds | None = None

    @property
    def digest(self) -> str:
        """SHA-256 that stands for the whole bundle; keep it elsewhere and give it to `load_bundle` as `expect`."""
        return self.card.digest

    @property
    def cautions(self) -> tuple[str, ...]:
        """What its calibrations cannot notice, a sentence each."""
        own = power_cautions(self.card.power)
        sites = {name: power_cautions(each.power) for name, each in self.card.sites.items()}
        return (*own, *(f"site {name!r}: {said}" for name, found in sites.items() for said in found))

    @property
    def digest_without_waivers(self) -> str:
        """SHA-256 of all that its answers depend on: what its site lives with changes none, and not this."""
        policy = self.policy.model_copy(update={"accept": ()})
        return sha256(f"{self.card.digest_without(POLICY)}{policy.to_toml()}".encode())

    def guard(
        self,
        *,
        state: Path | str | None = None,
        store: Store | None = None,
        audit: AuditSink | None = None,
        salt: bytes | None = None,
        ephemeral: bool = False,
        **settings: Any,
    ) -> Guard:
        """The model behind its defenses, with its memory and its audit log in the folder `state`, as when it is served.

        `store`, `audit` and `salt` take the place of the folder's (`guard.state`), or of the folder when all are given.
        Where one is missing `ephemeral` must say so: the guard then remembers in memory, records nothing, draws a salt
        of its own, each unless it was given. `settings` are passed on to `Guard`.
        Raises `MedwardError` where nothing says what is to outlive the process.
        """
        if state is not None:
            if ephemeral:
                raise MedwardError(
                    f"guard: state = {str(state)!r} is kept and ephemeral keeps nothing; give one of them"
                )
            opened = open_state(state, store=store)
            store, audit = opened.store, opened.audit if audit is None else audit
            salt = opened.salt if salt is None else salt
        parts = {"store": store, "audit": audit, "salt": salt}
        missing = [name for name, part in parts.items() if part is None]
        if missing and not ephemeral:
            raise MedwardError(
                f"guard: has no {', '.join(missing)}, so a restart forgets alarms or leaves no record; "
                'write guard(state="state/"), or guard(ephemeral=True) to try it in memory'
            )
        if store is None:
            _warn_once()
        return Guard(
            model=self.model,
            policy=self.policy,
            profile=self.profile,
            store=MemoryStore() if store is None else store,
            audit=audit,
            salt=secrets.token_bytes(SALT_BYTES) if salt is None else salt,
            sites=self.sites,
            bounds=self.bounds,
            cautions=self.cautions,
            **settings,
        )


@cache
def _warn_once() -> None:
    _log.warning("guard: is ephemeral: what it knows of accounts is lost with this process; guard(state=...) keeps it")


def save_bundle(
    path: Path | str,
    model: WrappedModel,
    policy: Policy,
    profile: Profile,
    *,
    data_digest: str,
    sizes: Mapping[str, int],
    quality: AnyQuality | None = None,
    target: str | None = None,
    patient: str | None = None,
    source: str | None = None,
    certificate: AnyCertificate | None = None,
    bounds: tuple[KeptBounds, CertifiedShareOfRows] | None = None,
    power: Power | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Export `model` and write a bundle to `path`; returns it as `load_bundle` read it back.

    The folder is built beside `path` and renamed, so a kill leaves no half bundle under the final name. An
    existing folder is refused unless it is empty, or is a bundle and `overwrite` is set; calibrations of sites go
    with the model they were made with. `data_digest` names the calibration data, `sizes` says how many rows it had,
    `quality` how well the model did on them, `target` and `patient` which columns held labels and patients.
    `source`, `certificate` and `power` are those of `Card`, `bounds` what `guard.bundle.bounds` built of the model.
    """
    path = Path(path).absolute()
    if not hasattr(model, "export"):
        raise MedwardError(f"model: {type(model).__name__} cannot be exported; make it with medward.guard.models.wrap")
    check_target(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _built(path) as build:
        exported = model.export(build)
        (build / POLICY).write_text(policy.to_toml(), encoding="utf-8")
        (build / PROFILE).write_bytes(_npz(profile))
        digest = sha256((build / exported.file).read_bytes())
        kept = {} if bounds is None else {bounds_file(bounds[0]): bounds_data(bounds[0], digest)}
        for name, data in kept.items():
            (build / name).write_bytes(data)
        card = Card(
            format=FORMAT,
            spec=model.spec,
            model=exported.file,
            options=dict(exported.options),
            files={name: sha256((build / name).read_bytes()) for name in (exported.file, POLICY, PROFILE, *kept)},
            data_digest=data_digest,
            sizes=dict(sizes),
            quality=quality,
            target=target,
            patient=patient,
            source=source,
            certificate=certificate,
            certified=None if bounds is None else bounds[1],
            power=power,
            plugins=shaping_plugins(profile),
            versions=bundle_versions(),
        ).sealed()
        (build / CARD).write_bytes(card.to_bytes())
        built = load_bundle(build, allow_code=True, expect=card.digest)
        build.chmod(0o755)
    return replace(built, path=path)


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse to write a bundle to `path` unless nothing is there, or with `overwrite` a bundle."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir() or path.is_symlink():
        raise MedwardError(f"{path}: exists and is not a folder; choose another place for the bundle")
    names = {each.name for each in path.iterdir()}
    if not names:
        return
    if not overwrite:
        raise MedwardError(f"{path}: is not empty; choose another folder, or replace it with --overwrite")
    sites = {name for name in names if SITE.fullmatch(name)}
    if CARD not in names or not names <= {CARD, POLICY, PROFILE, *models.FILES, *BOUNDS_FILES, *sites}:
        raise MedwardError(f"{path}: is not a bundle and is not overwritten; choose another folder")


def load_bundle(path: Path | str, *, allow_code: bool = False, expect: str | None = None) -> Bundle:
    """Verify every digest, then read the bundle; raises `IntegrityError` naming the first broken file.

    `allow_code` permits a bundle whose model is a Python entry point, which is imported. `expect` is the
    bundle's digest kept elsewhere: only it detects a folder rewritten together with its digests. Bounds must name the
    model file, and the model answer random rows within them.
    """
    path = Path(path)
    card = _card(path)
    if expect is not None and card.digest != expect:
        raise IntegrityError(f"{path}: is bundle {card.digest[:12]}, expected {expect[:12]}")
    parts = _verified(path, card, skip=())
    check_installed(card.plugins)
    policy = Policy.from_toml(_text(parts[POLICY]), source=POLICY)
    profile = _profile(PROFILE, parts, policy)
    sites = {site: _profile(site_file(site), parts, policy) for site in card.sites}
    model = models.load_model(
        card.model, parts[card.model], spec=card.spec, options=card.options, allow_code=allow_code
    )
    opened = open_bounds(card, parts, policy)
    bounds = None if opened is None else opened.checked_against(model)
    return Bundle(path=path, card=card, model=model, policy=policy, profile=profile, sites=sites, bounds=bounds)


def add_site(
    bundle: Bundle,
    site: str,
    profile: Profile,
    *,
    data_digest: str,
    sizes: Mapping[str, int],
    power: Power | None = None,
) -> Bundle:
    """Write the calibration of `site` into the folder of `bundle`, replacing one of that name; the new bundle.

    `site` is the first level of a principal; names that differ in spelling only are one. The folder is built anew from
    verified bytes and renamed, as `save_bundle` does.
    Raises `MedwardError` when the folder is no longer what was loaded.
    """
    checked_principal((site,))
    site = next((known for known in bundle.sites if first_alike((known, site))), site)
    path, file = bundle.path.resolve(), site_file(site)
    if _card(path).digest != bundle.digest:
        raise MedwardError(f"{path}: was changed since it was loaded; try again")
    parts = {**_verified(path, bundle.card, skip=()), file: _npz(profile)}
    read = _profile(file, parts, bundle.policy)
    described = Site(data_digest=data_digest, sizes=dict(sizes), power=power)
    files = {**bundle.card.files, file: sha256(parts[file])}
    changed = {
        "files": files,
        "sites": {**bundle.card.sites, site: described},
        "plugins": {**bundle.card.plugins, **shaping_plugins(profile)},
    }
    card = bundle.card.model_copy(update=changed).sealed()
    with _built(path) as build:
        for name, data in {**parts, CARD: card.to_bytes()}.items():
            (build / name).write_bytes(data)
            shutil.copymode(path / (PROFILE if name == file else name), build / name)
        shutil.copymode(path, build)
    return replace(bundle, card=card, sites={**bundle.sites, site: read})


def seal_bundle(path: Path | str) -> str:
    """Accept an edited ``policy.toml``: check it and rewrite its digest in the card; returns the new one.

    Every other file must still match the card. What a policy means differently by now is logged as a warning: a radius
    of certificates that nothing was counted at, and waivers whose last day is over.
    """
    path = Path(path)
    card = _card(path)
    parts = _verified(path, card, skip=(POLICY,))
    policy = Policy.from_toml(_text(parts[POLICY]), source=POLICY)
    check_level(card.spec.task, policy.release.default)
    check_shows_text(policy.privacy, card.spec)
    open_bounds(card, parts, policy)
    for calibration in (PROFILE, *map(site_file, card.sites)):
        _profile(calibration, parts, policy)
    for warning in (uncounted_radius(card, policy), *ended_waivers(policy.accept, datetime.now(UTC).date())):
        if warning:
            _log.warning("%s: %s", POLICY, warning)
    new = card.model_copy(update={"files": {**card.files, POLICY: sha256(parts[POLICY])}}).sealed()
    # Built beside the folder: a kill must not leave a file inside that `load_bundle` would refuse.
    mode = (path / CARD).stat().st_mode & 0o777
    write_durably(path / CARD, new.to_bytes(), mode=mode, beside=path.resolve().parent)
    return new.digest


def _card(path: Path) -> Card:
    """The card, checked against itself."""
    if not path.is_dir():
        raise MedwardError(f"{path}: is not a bundle folder")
    return Card.from_bytes(_read(path / CARD))


def _verified(path: Path, card: Card, *, skip: tuple[str, ...]) -> dict[str, bytes]:
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


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MedwardError(f"{POLICY}: not valid UTF-8") from None


def _npz(profile: Profile) -> bytes:
    arrays: dict[str, Any] = dict(profile.to_arrays())
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _profile(file: str, parts: Mapping[str, bytes], policy: Policy) -> Profile:
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
def _built(path: Path) -> Iterator[Path]:
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
