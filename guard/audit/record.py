"""The records of an audit log, as types: what the guard writes is what replay, drift and excess read.

A log holds records of queries (`AuditRecord`) and of events, which have a name under ``event``. The chain's own fields
are `guard.audit.log`'s; of these a record that was read knows its number and time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from medward.guard.errors import UnavailableError
from medward.guard.types import UNKNOWN_ORIGIN, QueryOrigin, Verdict

StreamEnd = Literal["finished", "stopped", "failed"]
"""How a report that leaves piece by piece ended: with its text, by who asked, or by the model."""
REPORT_ENDED = "report ended"
RESET = "reset"
POLICY_CHANGED = "policy changed"
"""The event of a policy that takes another's place while a server runs; the records after it name theirs each."""
REJECTED = "rejected"
"""The event of a request that was refused; `medward.integrations.serving` writes it."""


class AuditSink(Protocol):
    """Where records go; ``append`` returns only once the record survives a kill."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Add `record`, or raise `UnavailableError`."""
        ...

    def check_writable(self) -> None:
        """Raise `UnavailableError` unless a record could be added now."""
        ...


@runtime_checkable
class QueuedSink(AuditSink, Protocol):
    """A sink that takes records without making their writers wait, as `guard.audit.log.AuditLog` does."""

    def submit(self, record: Mapping[str, Any]) -> Future[None]:
        """Have `record` added; done once it survives a kill, or has the `UnavailableError`; it cannot be cancelled."""
        ...


def submit_record(audit: AuditSink, record: Mapping[str, Any]) -> Future[None]:
    """Have `record` added to `audit`; a sink that takes none without waiting is waited for here."""
    if isinstance(audit, QueuedSink):
        return audit.submit(record)
    done: Future[None] = Future()
    try:
        audit.append(record)
    except UnavailableError as error:
        done.set_exception(error)
    else:
        done.set_result(None)
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """An audit record of a query says who asked, what was bet on, and what left.

    `principal` is the account's key, `inputs` are the digests of its rows, ``p_values (n,)`` those of the screens (None
    where these failed), `bets` what each account's monitors bet on, by account and part, `levels` how much of each row
    left, ``certified (n,)`` the radii that answers are certified at, in the policy's unit, where it has them certified.
    What was answered is in `answered`, a keyed digest of each row's decision, and only where the policy keeps them in
    `decisions`, in words as the client read them, and in `scores`, as released; each is None where it did not leave.
    `model` and `bundle` (its digest) say by what, `study` is a keyed digest, `origin` how the query came in; a log of
    an older release has none of these. `stream` names a report that is to leave piece by piece, whose end is another
    record (`report_ended`), "" for none.
    `seq` and `time` are the log's, 0 and "" until it is written.
    """

    query: str
    principal: str
    policy: str
    inputs: Sequence[str]
    p_values: Sequence[float | None]
    bets: Mapping[str, Mapping[str, Sequence[float]]]
    levels: Sequence[str]
    verdicts: tuple[Verdict, ...]
    certified: Sequence[float] = ()
    stream: str = ""
    answered: Sequence[str | None] = ()
    decisions: Sequence[Any] = ()
    scores: Sequence[Any] = ()
    model: str = ""
    bundle: str = ""
    study: str = ""
    origin: QueryOrigin = UNKNOWN_ORIGIN
    seq: int = 0
    time: str = ""

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> AuditRecord:
        """Read a record of a query back. Raises KeyError, TypeError or ValueError for what is none.

        Without bets (of medward 0.1), p-values or levels it reads as one that has none of them.
        """
        bets, principal = record.get("bets", {}), record["principal"]
        if not isinstance(principal, str) or not isinstance(bets, Mapping):
            raise TypeError("a principal is a text, and bets are by account")
        return cls(
            query=str(record.get("query", "")),
            principal=principal,
            policy=record["policy"],
            inputs=record["inputs"],
            p_values=record.get("p_values", ()),
            bets=bets,
            levels=record.get("levels", ()),
            verdicts=tuple(map(Verdict.recorded, record["verdicts"])),
            certified=record.get("certified", ()),
            stream=str(record.get("stream", "")),
            answered=record.get("answered", ()),
            decisions=record.get("decisions", ()),
            scores=record.get("scores", ()),
            model=str(record.get("model", "")),
            bundle=str(record.get("bundle", "")),
            study=str(record.get("study", "")),
            origin=QueryOrigin(**{name: str(record.get(name, "")) for name in ("credential", "request", "client")}),
            seq=record.get("seq", 0),
            time=record.get("time", ""),
        )

    @property
    def content(self) -> dict[str, Any]:
        """The record as a log keeps it, without the chain's fields."""
        proven: dict[str, Any] = {"certified": list(self.certified)} if len(self.certified) else {}
        streamed = {"stream": self.stream} if self.stream else {}
        said = {"answered": self.answered, "decisions": self.decisions, "scores": self.scores}
        by = {"model": self.model, "bundle": self.bundle, "study": self.study}
        return {
            "query": self.query,
            "principal": self.principal,
            "policy": self.policy,
            "inputs": list(self.inputs),
            "p_values": list(self.p_values),
            "bets": {account: dict(values) for account, values in self.bets.items()},
            "levels": list(self.levels),
            "verdicts": [verdict.content for verdict in self.verdicts],
            **proven,
            **streamed,
            **{name: list(value) for name, value in said.items() if len(value)},
            **{name: value for name, value in by.items() if value},
            **self.origin.content,
        }

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts on the path, from the organisation down."""
        names = self.principal.split("/")
        return tuple("/".join(names[:depth]) for depth in range(1, len(names) + 1))

    @property
    def organisation(self) -> str:
        """The first level of the principal."""
        return self.principal.split("/")[0]


def is_query_record(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a query, and of no other event."""
    return "verdicts" in record


def report_ended(
    *,
    stream: str,
    query: str,
    principal: str,
    ended: StreamEnd,
    level: str,
    written: int,
    left: int,
    replaced: int,
    findings: Mapping[str, str] | None,
) -> dict[str, Any]:
    """The record of how the report `stream` ended, and never of its text.

    `written` and `left` are how many characters the model wrote and how many left, `replaced` how many parts filters
    took out, `findings` what the text says, None where it was not written to its end.
    """
    said = {"stream": stream, "query": query, "principal": principal, "ended": ended, "level": level}
    counts = {"written": written, "left": left, "replaced": replaced}
    return {"event": REPORT_ENDED, **said, **counts, "findings": None if findings is None else dict(findings)}


def model_failure(principal: str, inputs: Sequence[str], origin: QueryOrigin = UNKNOWN_ORIGIN) -> dict[str, Any]:
    """The record of a query that the model could not answer."""
    return {"event": "model failed", "principal": principal, "inputs": list(inputs), **origin.content}


def policy_changed(
    change: Mapping[str, Any], bundle_before: str, bundle: str, operator: str, origin: QueryOrigin = UNKNOWN_ORIGIN
) -> dict[str, Any]:
    """The record that a policy takes another's place: what changes, the digests of both bundles, and who asked."""
    said = {"operator": operator, "bundle_before": bundle_before, "bundle": bundle}
    return {"event": POLICY_CHANGED, **said, **change, **origin.content}


def account_reset(principal: str, reason: str = "", operator: str = "") -> dict[str, Any]:
    """The record of an account that a person made the guard forget, with why and who where it was said."""
    said = {"reason": reason, "operator": operator}
    return {"event": RESET, "principal": principal, **{name: each for name, each in said.items() if each}}
