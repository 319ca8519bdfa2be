"""The period of a commissioning: whom it is for, until when and for how many answers, kept beside the accounts.

It begins only where a server is started, ends at its time or with its last answer, and a restart finds it as it was:
the end is that of the first start, the answers are those that are left. Another one has the next number, so that an
option that was left in a unit file begins nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from medward.guard.accounts.names import checked_principal, folded_name
from medward.guard.accounts.stores import Store
from medward.guard.audit.record import AuditSink
from medward.guard.errors import MedwardError

_log = logging.getLogger("medward")
COMMISSIONING = "//commissioning"
"""Where a store keeps the last commissioning: no principal has an empty level."""
COMMISSIONING_ANSWERS = 500
"""How many rows one commissioning answers, of all its clients together."""
LONGEST_MINUTES = 1440
BACK = 60.0
"""Seconds that the clock may go back before a commissioning ends: a clock that is set back must not prolong it."""

BEGAN, RESUMED, ENDED = "commissioning began", "commissioning resumed", "commissioning ended"
COMMISSIONED = "commissioned"
"""The event of a query that was answered for commissioning: no monitor bet on it, so it is no record of a query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commissioning:
    """A commissioning is for one `organisation`, until Unix seconds `until`; `number` tells it from others.

    It covers nothing that `begin_commissioning` did not begin in the guard's store.
    """

    organisation: str
    until: float
    number: int = 1

    def __post_init__(self) -> None:
        """Spell the organisation as principals do."""
        object.__setattr__(self, "organisation", checked_principal((self.organisation,))[0])

    @property
    def until_text(self) -> str:
        """When it ends, UTC."""
        return datetime.fromtimestamp(self.until, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommissioningAsked:
    """What a person asks for who starts a server: minutes, for an organisation (None: the only one), the number."""

    minutes: float
    organisation: str | None = None
    number: int = 1

    def begin(
        self, store: Store, audit: AuditSink, known: Collection[str], clock: Callable[[], float]
    ) -> Commissioning | None:
        """Begin it, or go on with it, for one of the organisations `known`; see `begin_commissioning`.

        Raises `MedwardError` where it is for nobody known, or nothing says for which of several.
        """
        named = sorted(known)
        if self.organisation is None and len(named) != 1:
            raise MedwardError(
                f"commission-for: name one organisation; {', '.join(named) or 'none'} {'have' if named else 'has'} keys"
            )
        organisation = named[0] if self.organisation is None else folded_name(self.organisation)
        if organisation not in known:
            raise MedwardError(
                f"commission-for: no key begins with {organisation!r}; make one with `medward keys add`, or name "
                f"another organisation: {', '.join(named) or 'none has keys yet'}"
            )
        return begin_commissioning(
            store, audit, organisation=organisation, minutes=self.minutes, number=self.number, clock=clock
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommissioningClaim:
    """A claim is what became of asking for answers: whether they were `granted`, how many are `left`, why it `ended`.

    `totals` are queries, answers and words so far.
    """

    granted: bool
    left: int
    ended: str
    totals: Mapping[str, Any]


def begin_commissioning(
    store: Store,
    audit: AuditSink,
    *,
    organisation: str,
    minutes: float,
    number: int = 1,
    clock: Callable[[], float],
) -> Commissioning | None:
    """Begin commissioning `number` on record, or go on with it as it was; None where it has ended, which is logged.

    Raises `MedwardError` for another organisation than the one that it was begun for, for a number that is not the next
    and for the next one while one runs: none is prolonged.
    """
    (organisation,) = checked_principal((organisation,))
    if not 0 < minutes <= LONGEST_MINUTES:
        raise MedwardError(f"commission: from 1 to {LONGEST_MINUTES} minutes can be asked for, got {minutes:g}")
    now = clock()
    found, held = _begun(store.get(COMMISSIONING), organisation, minutes, number, now)
    running = Commissioning(organisation=held["organisation"], until=held["until"], number=held["number"])
    if found == ENDED:
        close_commissioning(store, audit, running, now)
        _log.warning(
            "commissioning %d ended, so every answer is guarded; leave --commission out, or ask for another with "
            "--commission-number %d",
            number,
            number + 1,
        )
        return None
    said = {"commissioning": number, "organisation": organisation, "until": running.until_text, "answers": held["left"]}
    audit.append({"event": found, **said})
    store.transact(COMMISSIONING, lambda state: (_begun(state, organisation, minutes, number, now)[1], None))
    _log.warning(
        "%s: until %s up to %d answers to %s are for testing, and nothing is charged to it",
        found,
        running.until_text,
        held["left"],
        organisation,
    )
    return running


def claim_answers(store: Store, commissioning: Commissioning, rows: int, now: float) -> CommissioningClaim:
    """Take `rows` of the answers that are left, in one transaction with whatever else asks.

    One that asks for more than are left ends the commissioning: what comes after is never half guarded.
    """
    return store.transact(COMMISSIONING, partial(_claimed, commissioning, rows, now))


def count_words(store: Store, commissioning: Commissioning, words: Mapping[str, int]) -> None:
    """Add the rows that `words` were said of to the totals."""

    def step(state: Any) -> tuple[Any, None]:
        if state is None or state["number"] != commissioning.number:
            return state, None
        counted = dict(state["words"])
        for word, rows in words.items():
            counted[word] = counted.get(word, 0) + rows
        return {**state, "words": counted}, None

    store.transact(COMMISSIONING, step)


def close_commissioning(store: Store, audit: AuditSink, commissioning: Commissioning, now: float) -> None:
    """Put the end of a commissioning on record, with its totals, unless it is there or it still runs."""
    claim = claim_answers(store, commissioning, 0, now)
    if claim.granted or claim.totals.get("closed"):
        return
    record_end(audit, commissioning, claim)
    store.transact(COMMISSIONING, lambda state: (state and {**state, "closed": True}, None))


def record_end(audit: AuditSink, commissioning: Commissioning, claim: CommissioningClaim) -> None:
    """Put on record why and with which totals a commissioning ended."""
    said = {name: claim.totals[name] for name in ("queries", "answers", "words") if name in claim.totals}
    audit.append(
        {
            "event": ENDED,
            "commissioning": commissioning.number,
            "organisation": commissioning.organisation,
            "why": claim.ended,
            **said,
        }
    )
    words = ", ".join(f"{word}: {rows}" for word, rows in said.get("words", {}).items()) or "nothing was strange"
    _log.warning(
        "commissioning %d of %s ended (%s): %s queries, %s answers; %s",
        commissioning.number,
        commissioning.organisation,
        claim.ended,
        said.get("queries", 0),
        said.get("answers", 0),
        words,
    )


def _begun(state: Any, organisation: str, minutes: float, number: int, now: float) -> tuple[str, dict[str, Any]]:
    """What asking for commissioning `number` comes to, and the state then."""
    last = 0 if state is None else int(state["number"])
    if state is not None and number == last:
        if _ended(state, now):
            return ENDED, state
        if state["organisation"] != organisation:
            raise MedwardError(
                f"commission: commissioning {number} is for {state['organisation']!r} until it ends, got "
                f"{organisation!r}; ask for that one, or wait"
            )
        return RESUMED, state
    if number != last + 1:
        raise MedwardError(
            f"commission-number: the last commissioning was {last}, so the next is {last + 1}, got {number}"
        )
    if state is not None and not _ended(state, now):
        raise MedwardError(
            f"commission-number: commissioning {last} still runs, and none is prolonged; wait for its end, or go on "
            f"with --commission-number {last}"
        )
    return BEGAN, {
        "number": number,
        "organisation": organisation,
        "until": now + minutes * 60,
        "seen": now,
        "left": COMMISSIONING_ANSWERS,
        "queries": 0,
        "answers": 0,
        "words": {},
        "ended": "",
        "closed": False,
    }


def _ended(state: Mapping[str, Any], now: float) -> str:
    """Why a commissioning is over, "" while it is not."""
    if state["ended"]:
        return str(state["ended"])
    if not now < state["until"]:
        return "its time is over"
    return "the clock went back" if now < state["seen"] - BACK else ""


def _claimed(commissioning: Commissioning, rows: int, now: float, state: Any) -> tuple[Any, CommissioningClaim]:
    if state is None or state["number"] != commissioning.number:
        return state, CommissioningClaim(granted=False, left=0, ended="another one was begun", totals={"closed": True})
    ended = _ended(state, now) or ("its answers were used up" if rows > state["left"] else "")
    if ended:
        after = {**state, "ended": ended}
        return after, CommissioningClaim(granted=False, left=0, ended=ended, totals=after)
    after = {
        **state,
        "seen": max(now, state["seen"]),
        "left": state["left"] - rows,
        "queries": state["queries"] + bool(rows),
        "answers": state["answers"] + rows,
    }
    return after, CommissioningClaim(granted=True, left=after["left"], ended="", totals=after)
