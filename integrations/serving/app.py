"""The endpoint, put together: routes around a guard, problems for errors, limits at the edge."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI, Response
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from medward.guard.bundle.folder import Bundle
from medward.guard.errors import MedwardError
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Principal
from medward.integrations.clinical.dicomweb_source import DicomWebSource
from medward.integrations.clinical.fhir_settings import FhirSettings
from medward.integrations.serving import (
    admin,
    dicomweb_routes,
    health,
    inference_protocol,
    kserve_v1,
    predict,
    problems,
)
from medward.integrations.serving.account_rate import AccountRate
from medward.integrations.serving.arrivals import BodyMeter
from medward.integrations.serving.clinical_forms import DICOM_SR, ClinicalForms
from medward.integrations.serving.cross_origin import cross_origin_settings
from medward.integrations.serving.edge import Edge
from medward.integrations.serving.identity.authentication import Authenticator, Caller, Holds, anonymous, everybody
from medward.integrations.serving.identity.failed_authentication import (
    FailedAuthentication,
    FailureCounter,
    ignore_failure,
)
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.key_use import KeyUse
from medward.integrations.serving.keys import KeyStore
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.metrics import Metrics
from medward.integrations.serving.policy_reload import PolicyReloader
from medward.integrations.serving.rejections import RejectionRecords
from medward.integrations.serving.service import Service

if TYPE_CHECKING:  # imports cryptography, which only who takes tokens needs
    from medward.integrations.serving.identity.access_tokens import TokenVerifier

_log = logging.getLogger("medward")


def create_app(
    guard: Guard,
    *,
    keys: KeyStore | None,
    limits: Limits | None = None,
    resize: bool = False,
    version: str = "1",
    origins: Sequence[str] = (),
    rates_at: str | None = None,
    metrics: Metrics | None = None,
    identity: IdentitySettings | None = None,
    on_failed_authentication: Callable[[FailedAuthentication], None] = ignore_failure,
    fhir: FhirSettings | None = None,
    source: DicomWebSource | None = None,
    hosts: Collection[str] = (),
    bundle: Bundle | None = None,
    pinned: bool = False,
) -> FastAPI:
    """An ASGI app that answers for `guard`. It says what it releases, never what a defense concluded.

    `keys` None is for development: everybody is the principal ("anonymous",), shares one account, and may
    read ``/metrics`` and the notes of ``/readyz``, which are logged here as well. `resize` lets image files of another
    size in; see `guard.intake.decode`. `version` names the bundle. Web pages of `origins` may ask (CORS). `rates_at` is
    the address of a Redis that counts ``limits.rate`` for all replicas. `metrics` are those that the guard's own parts
    are counted in, if any. Beside keys the access tokens are taken that `identity` says. `on_failed_authentication` is
    told, in the event loop, who failed to say who asks, within ``limits.failures``. `fhir` is what answers in FHIR say
    of the site, `source` the archive that studies are fetched from. `hosts` are the names that Host may have, any where
    there are none. The guard's store is closed when the app shuts down. With `bundle`, that of `guard`, its policy can
    be reloaded (`PolicyReloader`, also ``app.state.reloader``); `pinned` says that it was loaded by a digest kept
    elsewhere.
    """
    limits = limits or Limits()
    metrics = metrics or Metrics()
    service = Service.of(guard, limits, metrics, shared=keys is not None, version=version, rates_at=rates_at)
    if isinstance(guard.model.spec.task, WrittenReport):
        metrics.redactions(lambda: service.guard.redactions)
    if keys is None:
        _log.warning("no keys are asked for: everybody who can reach this server is one anonymous principal")
    for note in guard.notes:
        _log.warning("note: %s", note)
    rejections = None if guard.audit is None else RejectionRecords(guard.audit, limits.rejections)

    def failed(failure: FailedAuthentication) -> None:
        if rejections is not None:
            rejections.failed(failure)
        on_failed_authentication(failure)

    known = None if keys is None else _authenticator(keys, service, identity, failed)
    asking: Callable[..., Awaitable[Principal]] = anonymous if known is None else Caller(known, "predict")
    watching: Callable[..., Awaitable[Principal]] = anonymous if known is None else Caller(known, "metrics")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if known is not None and known.use is not None:
            known.use.close()
        if rejections is not None:
            rejections.close()
        guard.store.close()

    app = FastAPI(
        title="Medward",
        version=version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.service = service
    reloader = None if bundle is None else PolicyReloader(bundle, service.place, metrics, pinned)
    app.state.reloader = reloader
    reachable = health.readiness_probe(service, known)
    app.include_router(health.health_router(service, reachable, Holds(known, "metrics") if known else everybody))
    forms = ClinicalForms(spec=guard.model.spec, settings=fhir or FhirSettings())
    app.include_router(predict.predict_router(service, asking, forms, resize=resize))
    if DICOM_SR in forms.types:
        app.include_router(dicomweb_routes.store_router(service, asking, forms, resize=resize))
    if source is not None:
        if DICOM_SR not in forms.types:
            raise MedwardError(f"source: {guard.model.spec.name} takes no image files, so no studies; leave it out")
        app.include_router(dicomweb_routes.source_router(service, asking, forms, source, resize=resize))
    for note in source_notes(guard.policy, source):
        _log.warning("note: %s", note)
    app.include_router(kserve_v1.kserve_router(service, asking, reachable))
    app.include_router(inference_protocol.inference_router(service, asking, watching, reachable))
    if known is not None:
        app.include_router(admin.admin_router(known.keys, guard.store, Caller(known, "admin"), reloader))

    @app.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **problems.problem_responses(401, 403, 429),
        },
        dependencies=[Depends(watching)],
    )
    async def exposition() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(asking)])
    async def schema() -> JSONResponse:
        if app.version != service.version:  # a reload's
            app.version, app.openapi_schema = service.version, None
        return JSONResponse(app.openapi())

    problems.install_handlers(app)
    app.add_middleware(GZipMiddleware, compresslevel=1)  # of answers, for clients that accept it
    app.add_middleware(BodyMeter)
    app.add_middleware(Edge, spec=guard.model.spec, limits=limits, metrics=metrics, rejections=rejections, hosts=hosts)
    if origins:
        app.add_middleware(CORSMiddleware, **cross_origin_settings(origins))
    return app


def _authenticator(
    keys: KeyStore,
    service: Service,
    identity: IdentitySettings | None,
    told: Callable[[FailedAuthentication], None],
) -> Authenticator:
    """Knows who asks of `service`, by keys and by what `identity` says."""
    failures = FailureCounter(metrics=service.metrics, rate=AccountRate.of(service.limits.failures), told=told)
    return Authenticator(keys=keys, failures=failures, tokens=token_verifier(identity), use=KeyUse(service.guard.store))


def token_verifier(identity: IdentitySettings | None) -> TokenVerifier | None:
    """What verifies the tokens that `identity` says, or None where none are taken."""
    if identity is None or not identity.issuer:
        return None
    try:
        from medward.integrations.serving.identity.access_tokens import TokenVerifier
        from medward.integrations.serving.identity.signing_keys import IssuerKeys
    except ModuleNotFoundError as error:
        raise MedwardError(f"identity: tokens need {error.name}: pip install 'medward[serve]'") from None
    return TokenVerifier(identity, IssuerKeys(identity))


def source_notes(policy: Policy, source: DicomWebSource | None) -> tuple[str, ...]:
    """What of the archive is not as one may think, a sentence each: where policy and server do not fit, clear text."""
    apart, notes = policy.source.uploads != "same" or policy.source.upload_bits > 0, []
    if source is not None and not apart:
        notes += ['a source is set, but [source] uploads = "same": uploads are told as much as studies of the archive']
    if source is None and apart:
        notes += ["the policy lets less leave of uploads, and no --source is set: every answer is such"]
    if source is not None and source.in_clear_text:
        notes += ["studies and the archive's authorization travel in clear text: give an https:// address"]
    return tuple(notes)
