"""An examination of a host, or of a deployment as ``medward serve`` with the same settings would open it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from medward.guard.accounts.stores import Store
from medward.guard.bundle.folder import Bundle
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.state import ACCOUNTS_FILE, AUDIT_FILE
from medward.integrations.clinical.dicomweb_source import DicomWebSource
from medward.integrations.clinical.fhir_settings import FhirSettings
from medward.integrations.doctor.bundle_part import bundle_remarks, guard_remarks, needed_extras, policy_remarks
from medward.integrations.doctor.libraries import REINSTALL, host_remarks, provider_remarks
from medward.integrations.doctor.reach_part import archive_remarks, certificate_remarks, issuer_remarks
from medward.integrations.doctor.remark import Remark, examined
from medward.integrations.doctor.state_part import folder_remarks, key_remarks, log_remarks, store_remarks
from medward.integrations.serving.app import source_notes
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.store import is_shared, open_store
from medward.integrations.serving.transport import check_transport

_EDIT = "edit the bundle's policy.toml and run medward seal, or protect the model again"
_AS_SERVER = "run medward doctor as the server's own user, on the server's host"
_RESTORE = "restore it from a backup (docs/operate.md), with the server stopped"
_REACH = "start the store, or mend --store and the network between"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedDeployment:
    """An examined deployment is what ``medward serve`` is started with; without a `bundle` only the host is looked at.

    `store` is an address as `open_store` has it, None for the file in the folder `state`.
    """

    bundle: Path | None = None
    state: Path = Path("state")
    store: str | None = None
    host: str = "127.0.0.1"
    anonymous: bool = False
    allow_code: bool = False
    expect: str | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    fhir: Path | None = None
    source: DicomWebSource | None = None

    @property
    def named(self) -> bool:
        """Whether there is more to look at than the host."""
        return self.bundle is not None or self.state.exists() or is_shared(self.store)


def examine(deployment: ExaminedDeployment) -> tuple[Remark, ...]:
    """Everything there is to say of the host and `deployment`, part by part; no part that fails hides another.

    The store and the log are tried as readiness tries them, and nothing of that stays. A state folder that is not
    there is not made. Logs nothing, and raises nothing.
    """
    with _quiet():
        return tuple(_remarks(deployment))


def _remarks(deployment: ExaminedDeployment) -> Iterator[Remark]:
    loaded: list[Bundle] = []
    if deployment.bundle is not None:
        look = partial(
            bundle_remarks,
            deployment.bundle,
            allow_code=deployment.allow_code,
            expect=deployment.expect,
            found=loaded,
        )
        of_bundle = examined("bundle", look, "restore the bundle from its source, or protect the model again")
    yield from host_remarks(_needed(deployment, loaded))
    if deployment.bundle is not None:
        yield from examined("onnxruntime", provider_remarks, REINSTALL)
        yield from of_bundle
    for bundle in loaded:
        yield from examined("policy", partial(policy_remarks, bundle.policy, bundle.card.spec), _EDIT)
        yield from examined("guard", partial(guard_remarks, bundle), _EDIT)
        if deployment.fhir is not None:
            yield from examined("FHIR", partial(_fhir, deployment.fhir, bundle), "mend the file of --fhir")
        notes = source_notes(bundle.policy, deployment.source)
        yield from (Remark(part="archive", said=said, state="note") for said in notes)
    if deployment.named:
        yield from examined("transport", partial(_transport, deployment), "mend the options of medward serve")
        yield from _state(deployment)
    for what, path in (
        ("the certificate", deployment.certificate),
        ("an authority's certificate", deployment.client_ca),
    ):
        if path is not None:
            yield from examined("TLS", partial(certificate_remarks, what, path), "name a PEM file that can be read")
    if deployment.identity.issuer:
        remedy = "check --identity-jwks, and that this host reaches it"
        yield from examined("identity", partial(issuer_remarks, deployment.identity), remedy)
    if deployment.source is not None:
        remedy = "check --source and MEDWARD_SOURCE_AUTHORIZATION, and that this host reaches the archive"
        yield from examined("archive", partial(archive_remarks, deployment.source), remedy)


def _needed(deployment: ExaminedDeployment, loaded: list[Bundle]) -> dict[str, str]:
    """The extras that the bundle and the settings need, each with what for."""
    needed = {"redis": "needed for --store"} if is_shared(deployment.store) else {}
    needed |= {} if deployment.source is None else {"dicomweb": "needed for --source"}
    for bundle in loaded:
        needed |= needed_extras(bundle.policy, bundle.card.spec)
    return needed


def _transport(deployment: ExaminedDeployment) -> Iterator[Remark]:
    clear_text = check_transport(
        deployment.host,
        anonymous=deployment.anonymous,
        tokens=bool(deployment.identity.issuer),
        certificate=deployment.certificate,
        private_key=deployment.private_key,
        client_ca=deployment.client_ca,
    )
    if clear_text:
        said, _, remedy = clear_text.partition(": ")
        yield Remark(part="transport", said=said, state="note", remedy=remedy)
    if deployment.anonymous:
        said = "no keys are asked for: everybody on this machine is one anonymous principal"
        yield Remark(part="transport", said=said, state="note")


def _state(deployment: ExaminedDeployment) -> Iterator[Remark]:
    """The state folder, and the store, wherever it is."""
    state, accounts = deployment.state, deployment.state / ACCOUNTS_FILE
    if not state.exists():
        said = f"{state}: there is no such folder; medward serve makes it"
        yield Remark(part="state", said=said, state="note")
    else:
        yield from examined("state", partial(folder_remarks, state), _AS_SERVER)
        yield from examined("audit log", partial(log_remarks, state / AUDIT_FILE), _RESTORE)
    opened: list[Store] = []
    if is_shared(deployment.store):
        yield from examined(
            "store", partial(_open, str(deployment.store), "the store that replicas share", opened), _REACH
        )
    elif deployment.store or accounts.exists():
        where = deployment.store or str(accounts)
        yield from examined("store", partial(_open, where, where, opened), _RESTORE)
    else:
        yield Remark(part="store", said=f"{accounts}: there is none yet; the first start makes it", state="note")
    try:
        if not deployment.anonymous and state.exists():
            shared = opened[0] if opened and is_shared(deployment.store) else None
            look = partial(key_remarks, state, shared, tokens=bool(deployment.identity.issuer))
            yield from examined("keys", look, _RESTORE)
    finally:
        for store in opened:
            with suppress(MedwardError, UnavailableError):
                store.close()


def _open(where: str, said: str, opened: list[Store]) -> Iterator[Remark]:
    opened.append(open_store(where, existing=True))
    yield from store_remarks(opened[0], said)


def _fhir(path: Path, bundle: Bundle) -> Iterator[Remark]:
    settings = FhirSettings.load(path, bundle.card.spec)
    yield Remark(part="FHIR", said=f"{path}: is read and fits the model, with codes of {len(settings.codes)} names")


@contextmanager
def _quiet() -> Iterator[None]:
    """What parts would log is said by remarks."""
    log = logging.getLogger("medward")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
