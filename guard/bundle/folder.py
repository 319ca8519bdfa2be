"""The deployable folder: a model file, ``policy.toml``, ``profile.npz`` and ``card.json``. No pickle inside.

An organisation with a calibration of its own (a site) adds a file: a profile, as ``profile.npz`` is. What answers are
certified by, where the policy asks for it, is one more (`guard.bundle.bounds`). The card holds the SHA-256 of every
other file and of itself. Digests are compared before anything is parsed, and the bytes that were digested are the bytes
that are parsed. They detect corruption and careless edits. Whoever can rewrite the whole folder can rewrite the digests
too; only `expect`, a digest kept elsewhere, detects that.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from medward.guard import models
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
    bundle_versions,
    sha256,
    site_file,
)
from medward.guard.bundle.parts import built_folder, profile_bytes, read_card, read_policy, read_profile, verified_parts
from medward.guard.bundle.power import Power
from medward.guard.bundle.power_words import power_cautions
from medward.guard.bundle.shaping import check_installed, shaping_plugins
from medward.guard.certificate import AnyCertificate
from medward.guard.certify.certifier import KeptBounds
from medward.guard.data.task_quality import AnyQuality
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.files import write_durably
from medward.guard.intake.burned_in_check import check_shows_text
from medward.guard.models.base import WrappedModel
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.state import SALT_BYTES, open_state
from medward.guard.tasks.base import check_level
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
        """What its calibrations cannot notice, a sentence each; its own is named "bundle" beside those of sites."""
        own = "bundle: " if self.card.sites else ""
        return tuple(
            f"site {site!r}: {said}" if site else f"{own}{said}"
            for site, power in self.power_by_site.items()
            for said in power_cautions(power)
        )

    @property
    def power_by_site(self) -> Mapping[str, Power | None]:
        """What each of its calibrations can notice, its own under ""; None where that was never measured."""
        return {"": self.card.power, **{name: site.power for name, site in self.card.sites.items()}}

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
            bundle=self.digest,
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
    with built_folder(path) as build:
        exported = model.export(build)
        (build / POLICY).write_text(policy.to_toml(), encoding="utf-8")
        (build / PROFILE).write_bytes(profile_bytes(profile))
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
    card = read_card(path)
    if expect is not None and card.digest != expect:
        raise IntegrityError(f"{path}: is bundle {card.digest[:12]}, expected {expect[:12]}")
    parts = verified_parts(path, card, skip=())
    check_installed(card.plugins)
    policy = read_policy(parts)
    profile = read_profile(PROFILE, parts, policy)
    sites = {site: read_profile(site_file(site), parts, policy) for site in card.sites}
    model = models.load_model(
        card.model, parts[card.model], spec=card.spec, options=card.options, allow_code=allow_code
    )
    opened = open_bounds(card, parts, policy)
    bounds = None if opened is None else opened.checked_against(model)
    return Bundle(path=path, card=card, model=model, policy=policy, profile=profile, sites=sites, bounds=bounds)


def seal_bundle(path: Path | str) -> str:
    """Accept an edited ``policy.toml``: check it and rewrite its digest in the card; returns the new one.

    Every other file must still match the card. What a policy means differently by now is logged as a warning: a radius
    of certificates that nothing was counted at, and waivers whose last day is over.
    """
    path = Path(path)
    card = read_card(path)
    parts = verified_parts(path, card, skip=(POLICY,))
    policy = read_policy(parts)
    check_level(card.spec.task, policy.release.default)
    check_shows_text(policy.privacy, card.spec)
    open_bounds(card, parts, policy)
    for calibration in (PROFILE, *map(site_file, card.sites)):
        read_profile(calibration, parts, policy)
    for warning in (uncounted_radius(card, policy), *ended_waivers(policy.accept, datetime.now(UTC).date())):
        if warning:
            _log.warning("%s: %s", POLICY, warning)
    new = card.model_copy(update={"files": {**card.files, POLICY: sha256(parts[POLICY])}}).sealed()
    # Built beside the folder: a kill must not leave a file inside that `load_bundle` would refuse.
    mode = (path / CARD).stat().st_mode & 0o777
    write_durably(path / CARD, new.to_bytes(), mode=mode, beside=path.resolve().parent)
    return new.digest
