"""What a site says of its own traffic: how much an account asks, and how many accounts an organisation has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from medward.guard.errors import MedwardError

ORDINARY_THIEF = "in-domain"
"""Begins the names of thieves who ask about ordinary cases alone, from whom a budget is proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTraffic:
    """Declared traffic is the most `answers` that an account gets on an ordinary day, and an organisation's `accounts`.

    Said by the site, never guessed: without it no limit is proposed.
    """

    answers: int
    accounts: int

    def __post_init__(self) -> None:
        for name, value in (("traffic", self.answers), ("accounts", self.accounts)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
                raise MedwardError(
                    f"{name}: must be a whole number from 1 to 1000000, got {value!r}; traffic is the answers of one "
                    "account on its busiest ordinary day, accounts how many an organisation has"
                )

    @classmethod
    def said(cls, traffic: int | None, accounts: int | None) -> DeclaredTraffic | None:
        """Both, or neither: one without the other says nothing of an organisation."""
        if traffic is None and accounts is None:
            return None
        if traffic is None or accounts is None:
            given, missing = ("accounts", "traffic") if traffic is None else ("traffic", "accounts")
            raise MedwardError(
                f"{given}: says nothing of an organisation without {missing}; give both, the answers of one account "
                "on its busiest ordinary day and how many accounts an organisation has"
            )
        return cls(answers=traffic, accounts=accounts)

    @property
    def text(self) -> str:
        """As it is said."""
        return f"{self.answers} answers a day an account, {self.accounts} accounts an organisation"


def unproposed_note(traffic: DeclaredTraffic | None, ran: Collection[str], left_out: Collection[str]) -> str:
    """Why declared `traffic` brought no budget: no thief of ordinary cases was among those that `ran`; "" else."""
    if traffic is None or any(name.startswith(ORDINARY_THIEF) for name in ran):
        return ""
    mine = [name for name in left_out if name.startswith(ORDINARY_THIEF)]
    why = f"{mine[0]} was left out" if mine else "no thief of ordinary cases was run"
    return f"no budget proposed: {why}; run --attacks {mine[0] if mine else f'{ORDINARY_THIEF}-soft'}"
