"""Alarms: what a person is told when the guard begins to act on an account, in the log and by a callback."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from medward.guard.accounts.monitors import DUPLICATES
from medward.guard.types import Action, Verdict

_log = logging.getLogger("medward")
SHARE_OF = "share:"  # begins the name of a part's share in the wealth of an account
TOLD = 3  # parts are named, those that rose most


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alarm says that an account reached a higher action than before, and why.

    `account` is the path that it is raised for: the account that asked, or one above it. `action` is what is done from
    now on, `part` what saw it (the account's monitors together, or the count of near-duplicates), with its `evidence`.
    `query` is the id of the answer at which it rose, `time` is in UTC.
    """

    account: str
    action: Action
    part: str
    evidence: Mapping[str, float]
    query: str
    time: datetime

    @classmethod
    def raised(cls, verdict: Verdict, query: str) -> Alarm:
        """The alarm that `verdict` is, raised now."""
        return cls(
            account=verdict.account,
            action=verdict.action,
            part=verdict.part,
            evidence=dict(verdict.evidence),
            query=query,
            time=datetime.now(UTC),
        )

    def __str__(self) -> str:
        """One line for a person: account, action, what rose and how far, query and time."""
        what = "near-duplicates" if self.part == DUPLICATES else "alarm"
        when = self.time.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"account {self.account}: {what}, {self.action.label}; {self._evidence}; query {self.query}; {when}"

    @property
    def _evidence(self) -> str:
        if "log_e" not in self.evidence:
            return ", ".join(f"{name} {value:g}" for name, value in self.evidence.items())
        shares = {
            name.removeprefix(SHARE_OF): each for name, each in self.evidence.items() if name.startswith(SHARE_OF)
        }
        most = sorted(shares, key=lambda name: shares[name], reverse=True)[:TOLD]
        said = ", ".join(f"{name} {shares[name]:.0%}" for name in most if shares[name] >= 0.005)
        return f"e-value {factor_text(self.evidence['peak'])}" + (f" ({said})" if said else "")


def factor_text(log_factor: float) -> str:
    """A factor whose natural logarithm is given, as a person reads it: ``1,230`` or ``3.4e12``."""
    tens = log_factor / math.log(10)
    if tens < 6:
        return f"{math.exp(log_factor):,.3g}" if tens < 3 else f"{math.exp(log_factor):,.0f}"
    power = math.floor(tens)
    return f"{10 ** (tens - power):.1f}e{power}"


def tell_alarms(alarms: Iterable[Alarm], on_alarm: Callable[[Alarm], object] | None) -> None:
    """Log each alarm, then hand it to `on_alarm`, whose failure is logged and goes no further."""
    for alarm in alarms:
        _log.warning("%s", alarm)
        if on_alarm is None:
            continue
        try:
            on_alarm(alarm)
        except Exception:
            _log.exception("on_alarm failed for account %s; the alarm stands", alarm.account)
