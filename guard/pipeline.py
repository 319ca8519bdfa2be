"""The serving path, top to bottom: check, model, screens, monitors, filter, audit, answer.

The model runs before the screens because one forward pass yields both its scores and the features the screens
judge; nothing of it leaves before they have judged. Flagged and clean queries take the same path, so time does not tell
which is which; where answers are certified it tells the radius, which is sought from the largest down. A report that is
streamed is the exception: it is judged before it is written, and of one that is withheld nothing is.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from medward.guard.accounts.budget import utc_day
from medward.guard.accounts.overview import AccountReader
from medward.guard.accounts.stores import MemoryStore, Store
from medward.guard.accounts.suspension import SuspensionWatch
from medward.guard.accounts.transaction import reset_account
from medward.guard.alarm import Alarm, tell_alarms
from medward.guard.answering import (
    decision_digests,
    released_scores,
    released_words,
    starved_reports,
)
from medward.guard.audit.record import AuditRecord, AuditSink, model_failure, submit_record
from medward.guard.certify.certifier import KeptBounds
from medward.guard.commissioning.commissioner import Commissioner
from medward.guard.commissioning.period import Commissioning
from medward.guard.defenses import Defenses, Judgement
from medward.guard.errors import MedwardError, ModelError, UnavailableError
from medward.guard.intake.burned_in_check import unreadable_inputs
from medward.guard.intake.deidentify.reading import TextReader
from medward.guard.models.base import Model, is_report_model, unwritten_outputs
from medward.guard.parts import GuardParts, check_profiles
from medward.guard.pending_answer import PendingAnswer, already_recorded, wait_recorded
from medward.guard.policy import Policy
from medward.guard.privacy_policy import idle_filters
from medward.guard.profile import Profile, idle_screens
from medward.guard.readiness import ModelTrial, lacking_parts
from medward.guard.releaser import Releaser
from medward.guard.report_stream import ReportStream
from medward.guard.request import Request
from medward.guard.types import Answer, Level, Outputs, Principal, Query, split_outputs

if TYPE_CHECKING:  # needs the extra `text`
    from medward.guard.release.memory.memory_filter import MemoryFilter

_log = logging.getLogger("medward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A model behind its defenses. Same kind of thing as the model: a batch in, an answer out.

    Guarantees: no answer says a decision the model did not make; an answer that leaves is in the audit log first.
    `salt` keys the input digests; keep it with the state, not with the log. `clock` (Unix seconds) tells the leakage
    budget its day and nothing else: near-duplicates are dated by the store's time. `sites` holds
    the calibrations of organisations (the first level of a principal) that have their own: their inputs and accounts
    are judged by it, the others by `profile`. What leaves is chosen by `profile` alone.

    `on_alarm` is called once for each new alarm of an account, those of near-duplicates included, after the answer was
    recorded or could not be, in the thread that answers: it must be quick, and hand slow work on. Its failure is logged
    and changes nothing. What it was not told because the process died then is in the audit log. A part that fails is no
    alarm: it would be one at every query of an outage, and is in the log, the verdicts and `check_ready`.
    `text_reader` reads burned-in text where the policy has it looked for, RapidOCR where it is None. `bounds` are what
    answers are certified by, where the policy asks for it; without them such a policy is refused, and so are bounds
    that the model answers a random row outside of. `memory` takes training text out of reports where the policy says
    so; such a policy is refused without it. While `commissioning` runs, queries of its organisation are answered for
    testing only, and charged to nobody (`guard.commissioning`); it needs an audit log. `bundle` is the digest of
    what is served, for the records.
    """

    model: Model
    policy: Policy
    profile: Profile
    store: Store = field(default_factory=MemoryStore)
    audit: AuditSink | None = None
    salt: bytes = b""
    clock: Callable[[], float] = time.time
    sites: Mapping[str, Profile] = field(default_factory=dict)
    on_alarm: Callable[[Alarm], object] | None = None
    text_reader: TextReader | None = None
    bounds: KeptBounds | None = None
    memory: MemoryFilter | None = None
    cautions: tuple[str, ...] = ()
    commissioning: Commissioning | None = None
    bundle: str = ""
    _commissioner: Commissioner | None = field(default=None, init=False, repr=False, compare=False)
    _parts: GuardParts = field(init=False, repr=False, compare=False)
    _defenses: Defenses = field(init=False, repr=False, compare=False)
    _releaser: Releaser = field(init=False, repr=False, compare=False)
    _suspended: SuspensionWatch = field(init=False, repr=False, compare=False)
    _worker: ThreadPoolExecutor = field(
        default_factory=partial(ThreadPoolExecutor, 1, "medward-guard"), init=False, repr=False, compare=False
    )
    _trial: ModelTrial = field(default_factory=ModelTrial, init=False, repr=False, compare=False)
    _within: threading.local = field(default_factory=threading.local, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse parts that lack what the policy asks for, and a site that is no organisation."""
        check_profiles(self.model.spec, self.policy, self.profile, self.sites)
        made = GuardParts.of(
            self.model, self.policy, self.profile, self.sites, self.text_reader, self.bounds, self.memory
        )
        object.__setattr__(self, "_parts", made)
        defenses = Defenses(
            spec=self.model.spec,
            policy=self.policy,
            profile=self.profile,
            parts=made,
            store=self.store,
            salt=self.salt,
        )
        object.__setattr__(self, "_defenses", defenses)
        releaser = Releaser(
            spec=self.model.spec,
            policy=self.policy,
            profile=self.profile,
            parts=made,
            store=self.store,
            clock=self.clock,
        )
        object.__setattr__(self, "_releaser", releaser)
        object.__setattr__(self, "_suspended", SuspensionWatch(self.store, self.policy.on_error == "withhold"))
        commissioner = Commissioner.of(self.commissioning, self.model, defenses, self.audit, self.clock)
        object.__setattr__(self, "_commissioner", commissioner)
        object.__setattr__(self, "bounds", made.bounds)  # so that a copy of this guard does not compare them again

    def answer(self, query: Query) -> Answer:
        """Answer one query, or raise `MedwardError` for input outside the model's specification.

        `SuspendedError` says that a person suspended the account; its query is not asked, judged or on record.
        `ModelError` says that the model itself failed.
        A defense that fails is handled as the policy's ``on_error`` says; `UnavailableError` is raised only when
        the audit log is away and the policy withholds on errors.
        """
        (found,) = self.submit_all([query])
        if isinstance(found, Exception):
            raise found
        return found.result()

    def submit(self, query: Query) -> PendingAnswer:
        """Answer one query but for the wait for its record, in which this thread can answer another; see `answer`."""
        (found,) = self.submit_all([query])
        if isinstance(found, Exception):
            raise found
        return found

    def answer_all(self, queries: Sequence[Query]) -> list[Answer | Exception]:
        """Answer several queries together, whoever asks: each has its answer, or the error that `answer` would raise.

        The model is asked once, the states of all accounts step in one transaction, and all records are written
        together. Guarantee: the queries count in their order, as if they were asked one after the other; one that is
        refused or fails takes nothing from the others. Only the last digits of a score may differ from those alone, as
        the model's do for other rows in a batch.
        """
        found: dict[int, Answer | Exception] = {}
        for place, pending in enumerate(self.submit_all(queries)):
            with _kept(found, place):
                if isinstance(pending, Exception):
                    raise pending
                found[place] = pending.result()
        return [found[place] for place in range(len(queries))]

    def submit_all(self, queries: Sequence[Query]) -> list[PendingAnswer | Exception]:
        """Answer several queries together but for the wait for their records; see `answer_all`."""
        found: dict[int, PendingAnswer | Exception] = {}
        asked: dict[int, tuple[Request, Outputs]] = {}
        admitted: dict[int, Request] = {}
        for place, query in enumerate(queries):
            with _kept(found, place):
                admitted[place] = self._admit(query)
        for place, outputs in self._forward_all(admitted, found).items():
            with _kept(found, place):
                tested = None
                if self._commissioner is not None:
                    tested = self._commissioner.answer(admitted[place], outputs)
                if tested is None:
                    asked[place] = admitted[place], outputs
                else:
                    found[place] = PendingAnswer(tested, already_recorded(), self._withholds)
        if asked:
            found |= self._guarded(asked)
        return [found[place] for place in range(len(queries))]

    def _guarded(self, asked: Mapping[int, tuple[Request, Outputs]]) -> dict[int, PendingAnswer | Exception]:
        """The answers to what the model gave, judged, charged, filtered and on their way to the log."""
        found: dict[int, PendingAnswer | Exception] = {}
        judged: dict[int, Judgement] = {}
        for place, judgement in zip(asked, self._defenses.judge_all([*asked.values()]), strict=True):
            if isinstance(judgement, Exception):
                found[place] = judgement
            else:
                judged[place] = judgement
        try:
            charged = self._releaser.charge([(*asked[place], judgement) for place, judgement in judged.items()])
            for (place, judgement), paid in zip(judged.items(), charged, strict=True):
                with _kept(found, place):
                    request, outputs = asked[place]
                    answer = self._releaser.answer(request, outputs, judgement, paid)
                    record = self._query_record(request, judgement, answer)
                    found[place] = PendingAnswer(answer, self._submit(record), self._withholds)
        finally:  # an alarm stands, whatever becomes of the answer
            for judgement in judged.values():
                tell_alarms(judgement.alarms, self.on_alarm)
        return found

    def stream(self, query: Query) -> ReportStream:
        """Answer one row with a report that leaves piece by piece, as it is written.

        The query is judged by the image and what the model starts from, charged and on record as admitted before this
        returns; only then is anything written. Raises as `answer` does, and `MedwardError` for more rows than one and
        for a model that writes none.
        """
        request, model = self._admit(query), self.model
        if not is_report_model(model):
            raise MedwardError(f"stream: {model.spec.name} {model.spec.rule}, which is no text; use answer")
        if len(request.inputs) != 1:
            raise MedwardError(f"stream: one row is written at a time, got {len(request.inputs)}; ask row by row")
        if self._commissioner is not None and self._commissioner.covers(request) and self._commissioner.status():
            raise MedwardError("stream: while commissioning no text leaves; ask with answer, which tells the findings")
        with self._reporting_failure(request):
            begun = model.prefill(request.inputs)
            outputs = _finite(unwritten_outputs(model.spec, begun))
        judgement = self._defenses.judge(request, outputs)
        try:
            (charged,) = self._releaser.charge([(request, outputs, judgement)])
            answer, redaction = self._releaser.open_answer(request, outputs, judgement, charged)
            stream = "" if answer.levels == (Level.WITHHELD,) else uuid.uuid4().hex
            self._append(self._query_record(request, judgement, answer, stream))
        finally:
            tell_alarms(judgement.alarms, self.on_alarm)
        return ReportStream(
            answer,
            iter(begun.texts[0]),
            redaction,
            stream=stream,
            principal=request.account,
            append=self._append,
        )

    async def answer_async(self, query: Query) -> Answer:
        """`answer` for an event loop, which goes on meanwhile: a thread of the guard's own answers query by query.

        They are answered and recorded in the order in which they were asked. Whoever is cancelled while waiting has
        not asked; a query that is being answered when its asker is cancelled is answered to the end and on record.
        Raises `MedwardError` in that thread itself, in which `on_alarm` is called: it would wait for itself.
        """
        if getattr(self._within, "worker", False):
            raise MedwardError(
                "guard: answer_async was called by on_alarm in the thread that answers, and would wait for itself; "
                "call guard.answer there"
            )
        try:
            work = self._worker.submit(copy_context().run, self._answer_within, query)
        except RuntimeError:
            raise UnavailableError("guard: is closed") from None
        return await asyncio.wrap_future(work)

    def _answer_within(self, query: Query) -> Answer:
        """`answer` in the guard's own thread, which is marked as that."""
        self._within.worker = True
        return self.answer(query)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as one may think, a sentence each: idle screens and filters, what none notices, budgets."""
        privacy, spec = self.policy.privacy, self.model.spec
        screens = idle_screens(self.profile, self.sites, self.policy.screen.rate)
        reports = self._parts.reports
        filters = idle_filters(privacy) if reports is None else reports.filters.notes
        starved = starved_reports(self.policy, spec.task)
        return (*screens, *self.cautions, *filters, *unreadable_inputs(privacy, spec), *starved)

    @property
    def redactions(self) -> Mapping[str, int]:
        """How many parts of reports were replaced so far, by the kind that their marks name; none where none leaves."""
        reports = self._parts.reports
        return {} if reports is None else reports.filters.replaced

    def reset(self, principal: Principal) -> None:
        """Forget what the monitors know of `principal` itself, after a person has looked into an alarm."""
        reset_account(self.store, principal, self.audit)

    @property
    def accounts(self) -> AccountReader:
        """Reads what the store knows of accounts, as these monitors and budgets see it, and changes nothing."""
        return AccountReader(
            store=self.store,
            policy=self.policy,
            monitors_of=self._defenses.monitors_of,
            release=self._parts.release_name,
            day=utc_day(self.clock()),
        )

    def close(self) -> None:
        """Finish what is being answered and let go of the store's files; a closed guard's store is away."""
        self._worker.shutdown()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_ready(self) -> tuple[str, ...]:
        """Write to the store, and try the audit log: what is away, a sentence each, while queries are answered.

        Raises `UnavailableError` where a query could not be answered now: with ``on_error = "withhold"``, if any is,
        and where the model failed at the last query and fails at a row of random numbers (`ModelTrial`).
        """
        self._trial.check(lambda row: _finite(self.model.predict(row)), self.model.spec)
        lacking = lacking_parts(self.store, self.audit, withhold=self.policy.on_error == "withhold")
        commissioned = "" if self._commissioner is None else self._commissioner.status()
        return (*lacking, commissioned) if commissioned else lacking

    def _admit(self, query: Query) -> Request:
        if not isinstance(query, Query):
            raise MedwardError(f"query: expected a Query, got {type(query).__name__}; Query(principal=..., inputs=...)")
        request = Request.admit(query, self.model.spec, self.salt)
        self._suspended.check(request.accounts)
        return request

    def _forward_all(
        self, requests: Mapping[int, Request], failed: dict[int, PendingAnswer | Exception]
    ) -> dict[int, Outputs]:
        """One forward pass over the rows of all; where that fails, one for each, so that none fails with others."""
        if len(requests) > 1:
            try:
                outputs = _finite(self.model.predict(np.concatenate([each.inputs for each in requests.values()])))
                sizes = [len(each.inputs) for each in requests.values()]
                return dict(zip(requests, split_outputs(outputs, sizes), strict=True))
            except (Exception, SystemExit) as error:
                _log.warning("%d requests cannot be asked together (%s); each is asked alone", len(requests), error)
        found = {}
        for place, request in requests.items():
            with _kept(failed, place), self._reporting_failure(request):
                found[place] = _finite(self.model.predict(request.inputs))
        return found

    @contextmanager
    def _reporting_failure(self, request: Request) -> Iterator[None]:
        """A model that fails within is on record, and its reasons stay with the operator."""
        try:
            yield
            self._trial.failed = False
        except (Exception, SystemExit) as error:
            self._trial.failed = True
            _log.exception("the model failed")
            self._append(model_failure(request.account, request.digests, request.origin))
            raise ModelError("the model could not answer this input") from error

    def _query_record(
        self, request: Request, judgement: Judgement, answer: Answer, stream: str = ""
    ) -> Mapping[str, Any]:
        """The record of a query, as the log keeps it."""
        kept = self.policy.audit.answers
        return AuditRecord(
            query=answer.id,
            principal=request.account,
            policy=self._parts.policy,
            inputs=request.digests,
            p_values=[None if np.isnan(p) else float(p) for p in judgement.p_values],
            bets=judgement.bets,
            levels=[level.label for level in answer.levels],
            verdicts=answer.verdicts,
            certified=() if judgement.certified is None else judgement.certified.radius.tolist(),
            stream=stream,
            answered=decision_digests(answer, self.salt),
            decisions=() if kept == "digests" else released_words(answer),
            scores=released_scores(answer) if kept == "scores" else (),
            model=self.model.spec.name,
            bundle=self.bundle,
            study=request.study_digest,
            origin=request.origin,
        ).content

    @property
    def _withholds(self) -> bool:
        return self.policy.on_error == "withhold"

    def _submit(self, record: Mapping[str, Any]) -> Future[None]:
        return already_recorded() if self.audit is None else submit_record(self.audit, record)

    def _append(self, record: Mapping[str, Any]) -> None:
        wait_recorded(self._submit(record), withhold=self._withholds)


@contextmanager
def _kept(found: dict[int, Any], place: int) -> Iterator[None]:
    """What raises within is what is found at `place`."""
    try:
        yield
    except Exception as error:
        found[place] = error


def _finite(outputs: Outputs) -> Outputs:
    """Refuse outputs that hold NaN or infinity."""
    if not np.isfinite(outputs.scores).all():
        raise MedwardError("a score is not finite")
    if outputs.features is not None and not np.isfinite(outputs.features).all():
        raise MedwardError("a feature is not finite")
    return outputs
