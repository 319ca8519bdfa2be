"""Answers queries of a commissioning: with decisions for testing, words for what is strange, and nothing charged.

The screens and monitors judge as ever, in accounts that are thrown away with the process: what they conclude is on
record and not told, as it would teach a thief which steps are seen. What is told is said of batches only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from medward.guard.accounts.stores import MemoryStore, Store
from medward.guard.answering import decision_digests, release_settings, released_answer
from medward.guard.audit.record import AuditSink
from medward.guard.commissioning.explain_batch import explain_batch
from medward.guard.commissioning.notes import FEWEST_COMPARED
from medward.guard.commissioning.period import (
    COMMISSIONED,
    Commissioning,
    CommissioningClaim,
    claim_answers,
    close_commissioning,
    count_words,
)
from medward.guard.defenses import Defenses, Judgement
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.models.base import Model
from medward.guard.profile import Profile
from medward.guard.request import Request
from medward.guard.types import Answer, Array, CommissioningRemarks, Level, Outputs

_log = logging.getLogger("medward")
BATCH_ROWS = 20
"""How many different rows are compared at once; the first comparison is made of `FEWEST_COMPARED`."""
OLD_PROFILE = (
    "this bundle's calibration is of an older release: mirrored, turned, darker and brighter images and single columns "
    "cannot be told; protect the model again"
)
FAILED = "the rows could not be compared; the server's log says why"


@dataclass(slots=True)
class WaitingRows:
    """Waiting rows are those that were not compared yet, no two of them the same, of one commissioning."""

    _rows: dict[str, Array] = field(default_factory=dict)
    _looked: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, digests: tuple[str, ...], inputs: Array) -> Array | None:
        """Add rows; those to compare now, None while there are too few."""
        with self._lock:
            self._rows |= dict(zip(digests, inputs, strict=True))
            enough = len(self._rows) >= BATCH_ROWS
            if not enough and (self._looked or len(self._rows) < FEWEST_COMPARED):
                return None
            rows = np.stack(list(self._rows.values()))
            self._looked = True
            if enough:
                self._rows = {}
            return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What is said of so many `rows`: sentences, and of how many rows each word."""

    notes: tuple[str, ...] = ()
    words: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Commissioner:
    """A commissioner answers the organisation of one commissioning while that runs.

    Guarantees: no state of an account changes, no more rows are answered than `COMMISSIONING_ANSWERS` however many
    processes do so, every answer is on record first, says that it is for testing and shows decisions only.
    """

    commissioning: Commissioning
    model: Model
    defenses: Defenses
    audit: AuditSink
    clock: Callable[[], float]
    waiting: WaitingRows = field(default_factory=WaitingRows)
    _shadow: Defenses = field(init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        commissioning: Commissioning | None,
        model: Model,
        defenses: Defenses,
        audit: AuditSink | None,
        clock: Callable[[], float],
    ) -> Commissioner | None:
        """The commissioner where something is commissioned. Raises `MedwardError` without an audit log."""
        if commissioning is None:
            return None
        if audit is None:
            raise MedwardError("commissioning: every query of it is on record; give the guard an audit log")
        return cls(commissioning=commissioning, model=model, defenses=defenses, audit=audit, clock=clock)

    def __post_init__(self) -> None:
        """Give the defenses accounts of their own."""
        object.__setattr__(self, "_shadow", replace(self.defenses, store=MemoryStore()))

    @property
    def store(self) -> Store:
        """Where the commissioning itself is kept, beside the accounts."""
        return self.defenses.store

    def covers(self, request: Request) -> bool:
        """Whether `request` is of the organisation that is commissioned."""
        return request.organisation == self.commissioning.organisation

    def answer(self, request: Request, outputs: Outputs) -> Answer | None:
        """The answer to `request`, None where the commissioning does not cover it: the guard answers as ever.

        Raises `UnavailableError` where the audit log is away, whatever the policy says of errors.
        """
        if not self.covers(request) or (claim := self._claim(len(request.inputs))) is None:
            return None
        said = self._compared(request)
        judgement = self._shadow.judge(request, outputs)
        spec = self.model.spec
        level = Level.LABEL if Level.LABEL in spec.task.levels else Level.WITHHELD
        levels, policy, profile = (level,) * len(request.inputs), self.defenses.policy, self.defenses.profile
        settings, texts = release_settings(policy, profile.codebook, profile.pools), (None,) * len(outputs.texts)
        answer = released_answer(
            request.id, spec, outputs, levels, judgement.verdicts, policy.release.default, settings, texts
        )
        certifier = self.defenses.parts.certifier
        if certifier is not None and judgement.certified is not None:
            answer = replace(answer, certified=certifier.released(judgement.certified, levels))
        self.audit.append(self._record(request, judgement, answer, said))
        self._count(said.words)
        remarks = CommissioningRemarks(
            until=self.commissioning.until_text, left=claim.left, compared=said.rows, notes=said.notes
        )
        return replace(answer, commissioning=remarks)

    def status(self) -> str:
        """What ``/readyz`` says while the commissioning runs, "" else; puts its end on record.

        No organisation is named: whoever probes needs no key.
        """
        now = self.clock()
        try:
            claim = claim_answers(self.store, self.commissioning, 0, now)
            if not claim.granted:
                close_commissioning(self.store, self.audit, self.commissioning, now)
                return ""
        except UnavailableError:
            return ""
        return (
            f"commissioning until {self.commissioning.until_text}: answers to one organisation, {claim.left} more at "
            "most, are for testing only and are charged to nobody"
        )

    def _claim(self, rows: int) -> CommissioningClaim | None:
        """The claim of so many answers; None where none are granted, or the store cannot tell."""
        now = self.clock()
        try:
            claim = claim_answers(self.store, self.commissioning, rows, now)
            if claim.granted:
                return claim
            close_commissioning(self.store, self.audit, self.commissioning, now)
        except UnavailableError as error:
            _log.error("commissioning: the query is guarded as ever; %s", error)
        return None

    def _compared(self, request: Request) -> _Said:
        """What is said of the rows that wait, once these are enough."""
        rows, profile = self.waiting.add(request.digests, request.inputs), self._profile(request)
        if rows is None:
            return _Said()
        try:
            found = explain_batch(self.model, profile, rows)
        except Exception:
            _log.exception("commissioning: the comparison failed")
            return _Said(notes=(FAILED,))
        words: dict[str, int] = {}
        for note in found:
            words[note.word] = words.get(note.word, 0) + note.rows
        unknown = (OLD_PROFILE,) if profile.ordinary is None else ()
        return _Said(notes=(*(note.text for note in found), *unknown), words=words, rows=len(rows))

    def _profile(self, request: Request) -> Profile:
        return self.defenses.parts.sites.get(request.organisation, self.defenses.profile)

    def _count(self, words: Mapping[str, int]) -> None:
        if not words:
            return
        try:
            count_words(self.store, self.commissioning, words)
        except UnavailableError as error:
            _log.error("commissioning: words are in the audit log and not in the totals; %s", error)

    def _record(self, request: Request, judgement: Judgement, answer: Answer, said: _Said) -> dict[str, object]:
        return {
            "event": COMMISSIONED,
            "commissioning": self.commissioning.number,
            "query": request.id,
            "principal": request.account,
            "policy": self.defenses.parts.policy,
            "inputs": list(request.digests),
            "p_values": [None if np.isnan(p) else float(p) for p in judgement.p_values],
            "levels": [level.label for level in answer.levels],
            "answered": decision_digests(answer, self.defenses.salt),
            "model": self.model.spec.name,
            **({"study": request.study_digest} if request.study_digest else {}),
            **request.origin.content,
            "judged": [verdict.content for verdict in judgement.verdicts],
            "words": dict(said.words),
            "notes": list(said.notes),
        }
