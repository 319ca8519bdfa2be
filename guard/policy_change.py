"""What another policy changes of a guard that is under way: keys, accounts that are acted upon otherwise, new tests.

States stay where they are, and a policy reads them. What that means for alarms and budgets is in ``docs/operate.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from medward.guard.accounts.overview import AccountOverview, known_accounts
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport

MOST_COMPARED = 2000
"""Accounts of a store, up to which it is found who is acted upon otherwise: each is read twice."""
_READ_BY_ACCOUNTS = ("monitor", "duplicates", "budget")
_WORDS = ("accept",)  # what people wrote, which no record repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChange:
    """A policy change is what differs between the guard before and the one after it, by their policies' fingerprints.

    `keys` are those that differ, with the value before and after, a section's as ``monitor.drift``. `restarted` says
    that the monitors' e-processes begin anew, alarms standing. `stricter` and `milder` are the accounts for which the
    action that their states ask for rises or falls, `spent` those whose budget now has nothing left; all three are None
    where the store holds more than `MOST_COMPARED` accounts, or does not answer.
    """

    before: str
    after: str
    keys: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    restarted: bool = False
    stricter: tuple[str, ...] | None = ()
    milder: tuple[str, ...] | None = ()
    spent: tuple[str, ...] | None = ()

    @classmethod
    def between(cls, old: Guard, new: Guard) -> PolicyChange:
        """What changes from `old` to `new`, which are of one bundle but for the policy, and of one store."""
        keys = changed_keys(old.policy, new.policy)
        change = cls(before=old.policy.fingerprint, after=new.policy.fingerprint, keys=keys)
        if not any(name in _READ_BY_ACCOUNTS for name in change.sections):
            return change
        before, after = old.accounts, new.accounts
        restarted = any(
            before.monitors_of((site,)).combined.calibration != after.monitors_of((site,)).combined.calibration
            for site in ("", *old.sites)
        )
        change = replace(change, restarted=restarted)
        try:
            few = len(known_accounts(old.store)) <= MOST_COMPARED
            pairs = zip(before.overviews(), after.overviews(), strict=False) if few else ()
            same = [(was, now) for was, now in pairs if was.account == now.account]  # another may have asked meanwhile
        except UnavailableError:  # a policy may be changed because of an outage
            few = False
        if not few:
            return replace(change, stricter=None, milder=None, spent=None)
        return replace(
            change,
            stricter=tuple(now.account for was, now in same if now.action > was.action),
            milder=tuple(now.account for was, now in same if now.action < was.action),
            spent=tuple(now.account for was, now in same if _is_spent(now) and not _is_spent(was)),
        )

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that differ, and keys that stand in none."""
        return tuple(dict.fromkeys(name.partition(".")[0] for name in self.keys))

    @property
    def content(self) -> dict[str, Any]:
        """The change as plain data, for a record and for whoever asked for it."""
        accounts = {"stricter": self.stricter, "milder": self.milder, "spent": self.spent}
        return {
            "before": self.before,
            "policy": self.after,
            "sections": list(self.sections),
            "keys": {name: list(values) for name, values in self.keys.items()},
            "restarted": self.restarted,
            **{name: None if found is None else list(found) for name, found in accounts.items()},
        }


def changed_keys(old: Policy, new: Policy) -> dict[str, tuple[Any, Any]]:
    """The keys that differ, as plain data before and after; of waivers only that they do."""
    before, after = (each.model_dump(mode="json") for each in (old, new))
    found: dict[str, tuple[Any, Any]] = {}
    for section, value in after.items():
        if section in _WORDS and value != before[section]:
            found[section] = (len(before[section]), len(value))
        elif isinstance(value, dict):
            found |= {
                f"{section}.{key}": (before[section][key], each)
                for key, each in value.items()
                if each != before[section][key]
            }
        elif value != before[section]:
            found[section] = (before[section], value)
    return found


def check_changeable(old: Policy, new: Policy, spec: ModelSpec) -> None:
    """Refuse, with `MedwardError`, what answers and readers of files are built for when a server starts."""
    if old.certify.enabled != new.certify.enabled:
        raise MedwardError("certify.enabled: what answers hold is fixed when the server starts; restart it")
    if isinstance(spec.task, WrittenReport) and old.privacy != new.privacy:
        raise MedwardError("[privacy] of a model that writes reports is fixed when the server starts; restart it")


def _is_spent(account: AccountOverview) -> bool:
    return account.bits_left is not None and account.bits_left <= 0
