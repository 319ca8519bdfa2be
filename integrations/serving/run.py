"""Serve a bundle: load it, open its state folder, run uvicorn."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI

from medward.guard.accounts.names import folded_name
from medward.guard.alarm import Alarm
from medward.guard.audit.log import AuditLog
from medward.guard.bundle import folder as bundles
from medward.guard.certificate import certificate_sentence
from medward.guard.commissioning.period import CommissioningAsked
from medward.guard.errors import MedwardError
from medward.guard.state import AUDIT_FILE
from medward.integrations.clinical.dicomweb_source import DicomWebSource
from medward.integrations.clinical.fhir_settings import FhirSettings
from medward.integrations.serving.alarm_notices import AlarmNotifier, Notice
from medward.integrations.serving.app import create_app
from medward.integrations.serving.circuit_breaker import BreakerStore
from medward.integrations.serving.cross_origin import checked_origins
from medward.integrations.serving.identity.settings import LOOPBACK_HOSTS, IdentitySettings
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.logs import LogFormat, LogLevel, structured_logs
from medward.integrations.serving.metrics import Metrics
from medward.integrations.serving.server import server_of
from medward.integrations.serving.store import is_shared, open_store
from medward.integrations.serving.transport import check_transport

_log = logging.getLogger("medward")
_told = logging.getLogger("medward.serving")


def load_app(
    bundle: Path,
    *,
    state: Path,
    store: str | None = None,
    anonymous: bool = False,
    limits: Limits | None = None,
    resize: bool = False,
    allow_code: bool = False,
    expect: str | None = None,
    commissioning: CommissioningAsked | None = None,
    origins: Sequence[str] = (),
    on_alarm: Callable[[Alarm], object] | None = None,
    identity: IdentitySettings | None = None,
    fhir: Path | None = None,
    source: DicomWebSource | None = None,
    hosts: Collection[str] = (),
) -> FastAPI:
    """The endpoint of the bundle at `bundle`, verified on loading.

    `state` is the folder of what outlives a restart (`guard.state`), with ``keys.json`` in it. `store` (see
    `open_store`) names another place for what the monitors know: replicas of one bundle that share it share its
    accounts, its salt and the keys kept there, each with a folder, a log and keys of its own beside them. Access tokens
    are taken as `identity` says.
    `on_alarm` is the guard's. `allow_code` and `expect` are those of `guard.bundle.folder.load`. `commissioning` is
    begun, or gone on with where it was begun before; without keys it is that of the one anonymous organisation. `fhir`
    is a file of `FhirSettings`, `source` the archive that studies are fetched from, `hosts` those of `create_app`.
    """
    loaded = bundles.load_bundle(bundle, allow_code=allow_code, expect=expect)
    if loaded.card.certificate is not None:
        _told.info("certificate: %s", certificate_sentence(loaded.card.certificate))
    guard = loaded.guard(state=state, store=open_store(store) if store else None)
    metrics = Metrics()

    def alarmed(alarm: Alarm) -> None:
        metrics.alarm(alarm)
        if on_alarm is not None:
            on_alarm(alarm)

    limits = limits or Limits()
    audit = AuditLog(
        state / AUDIT_FILE,
        fsync=True,
        segment_bytes=limits.segment_mib * 2**20,
        segment_seconds=limits.segment_days * 86400,
    )
    guard = replace(guard, store=BreakerStore(guard.store, note=metrics.stage), audit=audit, on_alarm=alarmed)
    tokens = identity is not None and bool(identity.issuer)
    keys = KeyStore(state / "keys.json", shared=guard.store if is_shared(store) else None)
    if not anonymous and not tokens and not keys.list():
        _log.warning("%s holds no key yet: every request is refused until one is added", keys.path)
    known = {folded_name(key.principal[0]) for key in keys.list()}
    if identity is not None and identity.organisation:
        known.add(folded_name(identity.organisation))
    for site in sorted(site for site in loaded.sites if folded_name(site) not in known):
        _log.warning("site %r has a calibration of its own, but no key begins with that name", site)
    if commissioning is not None and guard.audit is not None:
        served = {"anonymous"} if anonymous else known
        begun = commissioning.begin(guard.store, guard.audit, served, guard.clock)
        guard = replace(guard, commissioning=begun)
    version = loaded.digest[:12]
    return create_app(
        guard,
        keys=None if anonymous else keys,
        limits=limits,
        resize=resize,
        version=version,
        origins=origins,
        rates_at=store if is_shared(store) else None,
        metrics=metrics,
        identity=identity,
        fhir=FhirSettings.load(fhir, guard.model.spec) if fhir else None,
        source=source,
        hosts=hosts,
        bundle=loaded,
        pinned=expect is not None,
    )


def serve_bundle(
    bundle: Path,
    *,
    state: Path,
    store: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    anonymous: bool = False,
    limits: Limits | None = None,
    resize: bool = False,
    allow_code: bool = False,
    expect: str | None = None,
    certificate: Path | None = None,
    private_key: Path | None = None,
    client_ca: Path | None = None,
    commissioning: CommissioningAsked | None = None,
    origins: Sequence[str] = (),
    notices: Sequence[Notice] = (),
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
    identity: IdentitySettings | None = None,
    fhir: Path | None = None,
    source: DicomWebSource | None = None,
) -> None:
    """Serve until interrupted; requests under way are finished first (`DrainingServer`).

    `limits` bound what one request, one account and all connections together cost.
    `certificate` and `private_key` (PEM) switch TLS on; with `client_ca` clients need a certificate of one of its
    authorities besides their key or token. Web pages of `origins` may ask (CORS), and access tokens are taken as
    `identity` says. Alarms are told by all `notices`. The log goes to stderr (`structured_logs`).
    Raises `MedwardError` for an anonymous server that others could reach.
    """
    clear_text = check_transport(
        host,
        anonymous=anonymous,
        tokens=identity is not None and bool(identity.issuer),
        certificate=certificate,
        private_key=private_key,
        client_ca=client_ca,
    )
    if clear_text:
        _log.warning("%s", clear_text)
    limits, origins = limits or Limits(), checked_origins(origins)
    _check_free(host, port)
    with ExitStack() as held:
        held.enter_context(structured_logs(log_format, log_level))
        told = held.enter_context(closing(AlarmNotifier(notices))) if notices else None
        app = load_app(
            bundle,
            state=state,
            store=store,
            anonymous=anonymous,
            limits=limits,
            resize=resize,
            allow_code=allow_code,
            expect=expect,
            commissioning=commissioning,
            origins=origins,
            on_alarm=told,
            identity=identity,
            fhir=fhir,
            source=source,
            hosts=LOOPBACK_HOSTS if anonymous else (),
        )
        server = server_of(
            app,
            limits,
            host=host,
            port=port,
            certificate=certificate,
            private_key=private_key,
            client_ca=client_ca,
        )
        with suppress(KeyboardInterrupt):  # raised anew once it has stopped
            server.run()
        if not server.started:
            raise MedwardError(f"{host}:{port}: the server did not start; the log says why")


def _check_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on, before anything is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise MedwardError(f"{host}:{port}: cannot listen there ({error.strerror}); choose another --port") from None
