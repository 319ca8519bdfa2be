"""What the routes share: the guard behind its pool."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence, Sized
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from fastapi import Header, Path, Request
from starlette.requests import ClientDisconnect

from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.intake.instance import DicomInstance
from medward.guard.pending_answer import PendingAnswer
from medward.guard.pipeline import Guard
from medward.guard.report_stream import ReportStream
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import LONGEST_ORIGIN, Answer, Array, Level, Principal, Query, QueryOrigin
from medward.integrations.serving.account_rate import AccountRate
from medward.integrations.serving.arrivals import Arrivals
from medward.integrations.serving.body import media_type
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.metrics import Metrics
from medward.integrations.serving.pool import Pool
from medward.integrations.serving.refusal import refusal
from medward.integrations.serving.served_guard import ServedGuard, ServedPlace
from medward.integrations.serving.work import Work

if TYPE_CHECKING:  # needs the extra `text`
    from medward.guard.release.text.known import KnownIdentifiers

_R = TypeVar("_R")
_log = logging.getLogger("medward")
TOGETHER_BYTES = 65536
"""Of a request's body, up to which it is answered together with others: it is read as soon as a model answers."""
LONGEST_STUDY = 128  # characters; a UID has 64
Study = Annotated[
    str,
    Header(
        alias="Medward-Study",
        max_length=LONGEST_STUDY,
        description="What all images of the request belong to, as a StudyInstanceUID: slices of one study look alike.",
    ),
]


@dataclass(frozen=True, slots=True)
class Received:
    """The rows of a request, the studies that its files say they are of, what makes the files' own images, what is
    known of their patients, and which DICOM instance each row is, where that is asked for.

    `retrieved` says that the server itself fetched them from the site's archive, `version` which bundle answered them,
    once that is so.
    """

    inputs: Sized
    studies: frozenset[str] = frozenset()
    pictures: Sequence[Callable[[], Array]] = ()
    known: Sequence[KnownIdentifiers | None] = ()
    instances: Sequence[DicomInstance | None] = ()
    retrieved: bool = False
    version: str = ""

    def refuse_several_studies(self) -> None:
        """Raise `MedwardError` where the files are of more than one study."""
        if len(self.studies) > 1:
            raise MedwardError(
                f"the files are of {len(self.studies)} studies; send those of one study per request, or say in the "
                "header Medward-Study what they all belong to"
            )

    @property
    def study(self) -> str:
        """The one study of all files, or ""."""
        self.refuse_several_studies()
        return next(iter(self.studies), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The guard that answers, in its `place`, and the bounds within which it is asked."""

    place: ServedPlace
    limits: Limits
    pool: Pool
    arrivals: Arrivals
    metrics: Metrics
    rate: AccountRate | None = None

    @classmethod
    def of(
        cls, guard: Guard, limits: Limits, metrics: Metrics, *, shared: bool, version: str, rates_at: str | None
    ) -> Service:
        """All that asks `guard` within `limits`. `shared` says that there are several accounts, so one has a share."""
        place = ServedPlace(ServedGuard(guard, version))
        submit_all = partial(submit_to_served, place, limits.rows)
        pool = Pool(limits, shared, metrics.refused, note=metrics.stage, submit_all=submit_all)
        metrics.serving(guard.model.spec.name, version, lambda: pool.jobs)
        return cls(
            place=place,
            limits=limits,
            pool=pool,
            arrivals=Arrivals(limits, shared, metrics.refused),
            metrics=metrics,
            rate=AccountRate.of(limits.rate, rates_at),
        )

    @property
    def guard(self) -> Guard:
        """The guard that answers now."""
        return self.place.now.guard

    @property
    def version(self) -> str:
        """The name of the bundle that answers now; that of an answer is what `Received` says."""
        return self.place.now.version

    @asynccontextmanager
    async def admitted(self, request: Request, principal: Principal) -> AsyncIterator[None]:
        """Admit a request of `principal`: what its body takes counts as its account's while it is read and answered.

        A request for which there would be no place is refused before its body is read, and so is one that its account
        asks too soon.
        """
        account = "/".join(principal)
        self.pool.check_place(account)
        await self._keep_rate(account)
        with self.arrivals.arriving(request, account):
            yield

    async def answer(
        self, request: Request, principal: Principal, read: Callable[[], Received], study: str = ""
    ) -> Answer:
        """The answer of `answer_received`."""
        return (await self.answer_received(request, principal, read, study))[0]

    async def answer_received(
        self, request: Request, principal: Principal, read: Callable[[], Received], study: str = ""
    ) -> tuple[Answer, Received]:
        """Take a place, read the inputs, of one `study`, and answer them in a worker thread; `read` may refuse them.

        Gives the answer and what was read.

        Without a `study` said it is the one that the files say, of which there may then be one only.

        The caller is `admitted`. A client that leaves before the model is asked has not asked, nor has a request whose
        deadline ends before that: nothing is charged or on record. What the model was asked is charged and on record,
        whoever is still there. An answer that is withheld because a part does not answer raises
        `UnavailableError`: the client is to ask again, not to take it for a verdict. It stays on record as it is.
        """
        held: list[Received] = []

        def query() -> Query:
            held.append(read())
            return self._query(principal, held[0], study, request_origin(request))

        account = "/".join(principal)
        with self.pool.place(account):
            work = self.pool.ask(account, query, alone=self._slow(request))
            pending = await self._wanted(request, work)
            answer = await self._recorded(pending)
        self.metrics.answer(answer)
        _refuse_unavailable(answer)
        return answer, replace(held[0], version=pending.version)

    async def stream(
        self, request: Request, principal: Principal, read: Callable[[], Received], study: str = ""
    ) -> ReportStream:
        """Read the one input, and admit a report of it that is yet to be written, in a worker thread; see `answer`.

        The caller holds a place. Whoever gets the report closes it.
        """

        def job(work: Work[ReportStream]) -> ReportStream:
            query = self._query(principal, read(), study, request_origin(request))
            work.begin()
            with self.place.answering() as served:
                return served.guard.stream(query)

        work = self.pool.submit("/".join(principal), job, ReportStream.close)
        stream = await self._wanted(request, work)
        if stream.level is Level.WITHHELD:
            self.metrics.answer(stream.answer)
            _refuse_unavailable(stream.answer)
        return stream

    def _slow(self, request: Request) -> bool:
        """Whether others would wait for this request if they were answered together: a file, a large body, a text."""
        size = request.headers.get("content-length", "")
        small = size.isdecimal() and len(size) < 10 and int(size) <= TOGETHER_BYTES
        numbers = media_type(request) in ("", "application/json", "application/octet-stream")
        plain = "content-encoding" not in request.headers
        return not (small and numbers and plain) or isinstance(self.guard.model.spec.task, WrittenReport)

    async def _recorded(self, pending: PendingAnswer) -> Answer:
        """The answer once its record is on the disk, for which no thread waits; 503 after the deadline."""
        recorded = asyncio.wrap_future(pending.recorded)
        await _first_of(recorded, within=self.limits.deadline)  # which cancels nothing
        if not recorded.done():
            said = f"the answer was not on record within {self.limits.deadline:g} s; what was asked is charged"
            raise refusal(self.metrics.refused, 503, "deadline", said, 5)
        recorded.exception()
        return pending.result()

    async def _keep_rate(self, account: str) -> None:
        """Count the request and refuse it if `account` asks too often; ``on_error`` decides where that is not known."""
        if self.rate is None:
            return
        try:
            after = await self.rate.wait(account)
        except UnavailableError as error:
            if self.guard.policy.on_error == "withhold":
                raise
            _log.error("%s; on_error = flag, so the request is not counted", error)
            return
        if after:
            said = f"this account may ask {self.limits.rate}; ask again in {math.ceil(after)} s"
            raise refusal(self.metrics.refused, 429, "rate", said, after)

    async def _wanted(self, request: Request, work: Work[_R]) -> _R:
        """What `work` comes to, while its client is there and its deadline has not passed; else it is given up."""
        gone = asyncio.ensure_future(_left(request))
        try:
            await _first_of(work.outcome, gone, within=self.limits.deadline)
            if work.outcome.done():
                return work.outcome.result()
            unasked = self.pool.give_up(work)
            if gone.done():
                if unasked:
                    self.metrics.refused("left")
                raise ClientDisconnect
            said = f"there was no answer within {self.limits.deadline:g} s; "
            said += "nothing was asked or charged" if unasked else "what was asked is on record and charged"
            raise refusal(self.metrics.refused, 503, "deadline", said, 5)
        finally:
            gone.cancel()
            if not work.outcome.done():  # cancelled: the server stops
                self.pool.give_up(work)

    def _query(self, principal: Principal, received: Received, study: str, origin: QueryOrigin) -> Query:
        rows = len(received.inputs)
        if rows > self.limits.rows:
            raise MedwardError(f"inputs: at most {self.limits.rows} rows per request, got {rows}")
        return Query(
            principal=principal,
            inputs=received.inputs,
            study=study or received.study,
            pictures=received.pictures,
            known=received.known,
            retrieved=received.retrieved,
            origin=origin,
        )


def submit_to_served(place: ServedPlace, rows: int, queries: Sequence[Query]) -> list[PendingAnswer | Exception]:
    """The answers of the guard that is in `place` now to all `queries`, whatever takes its place meanwhile."""
    with place.answering() as served:
        found = submit_in_turns(served.guard, rows, queries)
    return [replace(each, version=served.version) if isinstance(each, PendingAnswer) else each for each in found]


def submit_in_turns(guard: Guard, rows: int, queries: Sequence[Query]) -> list[PendingAnswer | Exception]:
    """The answers of `guard` to all `queries`, asked together as far as they have so many `rows` in all."""
    found: list[PendingAnswer | Exception] = []
    together: list[Query] = []
    held = 0
    for query in queries:
        own = len(cast(Sized, query.inputs))  # counted when it was read
        if together and held + own > rows:
            found += guard.submit_all(together)
            together, held = [], 0
        together.append(query)
        held += own
    return found + (guard.submit_all(together) if together else [])


async def _first_of(*ends: asyncio.Future[Any], within: float) -> None:
    """Return once one of `ends` is done, or after so many seconds."""
    await asyncio.wait(ends, timeout=within, return_when=asyncio.FIRST_COMPLETED)


async def _left(request: Request) -> None:
    """Return once the client has closed its connection; the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refuse_unavailable(answer: Answer) -> None:
    if answer.unavailable:
        raise UnavailableError(f"withheld: {', '.join(answer.unavailable)}")


def request_origin(request: Request) -> QueryOrigin:
    """How `request` came in, once it is known who asks; its id is the client's own text within `edge.REQUEST_ID`."""
    identity = getattr(request.state, "identity", None)
    return QueryOrigin(
        credential="" if identity is None else identity.credential,
        request=request.state.request_id,
        client=recordable_text(request.client.host if request.client else ""),
    )


def recordable_text(text: str) -> str:
    """What a `QueryOrigin` takes of `text`: as much of it as it may hold, with "?" for what cannot be printed."""
    return "".join(each if each.isascii() and each.isprintable() else "?" for each in text[:LONGEST_ORIGIN])


def model_name(spec: ModelSpec) -> Any:
    """The path parameter that OpenAPI documents with the one name served here."""
    return Path(description="The model's name.", json_schema_extra={"enum": [spec.name]})
