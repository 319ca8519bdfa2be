"""Hot reload of a policy: reread, checked against the bundle that is served, put on record, and then in force.

A reload takes what lies in the bundle's folder, sealed; nobody can send a policy.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from medward.guard.audit.record import policy_changed
from medward.guard.bundle.folder import Bundle
from medward.guard.bundle.new_policy import reread_policy
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.policy_change import PolicyChange, check_changeable
from medward.guard.types import UNKNOWN_ORIGIN, QueryOrigin
from medward.integrations.serving.metrics import Metrics
from medward.integrations.serving.served_guard import ServedGuard, ServedPlace

_log = logging.getLogger("medward")
SIGNALLED = "signal SIGHUP"
"""Who asks for a reload by a signal; the system does not say which of the host's users."""


class PolicyRefused(MedwardError):
    """The policy in the bundle's folder is not taken, and the one before goes on; the sentence says why."""


@dataclass(slots=True, eq=False)
class PolicyReloader:
    """Puts a guard with the policy that lies in the folder of `bundle` in the place of the one that answers.

    Guarantees: model, calibration, store, log and salt stay the same; a batch is judged, charged and recorded by one
    policy; the change is on record before any answer under it and after all under the one before, whatever ``on_error``
    says; a policy that is refused changes nothing but what readiness says. `pinned` says that the server was started
    with ``--expect``: then whoever asks must know the new digest.
    """

    bundle: Bundle
    place: ServedPlace
    metrics: Metrics
    pinned: bool = False
    _one: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def reload(self, operator: str, *, origin: QueryOrigin = UNKNOWN_ORIGIN, expect: str | None = None) -> PolicyChange:
        """Take the policy that `operator` sealed; gives what changes. Raises `PolicyRefused`, and changes nothing."""
        with self._one:
            try:
                change = self._change(operator, origin, expect)
            except Exception as error:
                known = isinstance(error, MedwardError | UnavailableError)
                if not known:
                    _log.exception("the policy could not be reloaded")
                why = str(error) if known else f"it could not be tried ({type(error).__name__}); the log says why"
                raise self._refused(why) from error
        self.place.refused = ""
        return change

    def _change(self, operator: str, origin: QueryOrigin, expect: str | None) -> PolicyChange:
        bundle, old = reread_policy(self.bundle, expect=expect), self.place.now.guard
        if bundle.digest == self.bundle.digest:
            self.metrics.reloaded("unchanged")
            return PolicyChange(before=old.policy.fingerprint, after=old.policy.fingerprint)
        if self.pinned and expect is None:
            raise MedwardError(
                "the server was started with --expect; send the new bundle's digest with POST /admin/v1/reload"
            )
        check_changeable(self.bundle.policy, bundle.policy, bundle.card.spec)
        new = replace(
            old,
            policy=bundle.policy,
            profile=bundle.profile,
            sites=bundle.sites,
            cautions=bundle.cautions,
            bundle=bundle.digest,
        )
        change = PolicyChange.between(old, new)
        with self.place.between_batches():
            if old.audit is not None:
                old.audit.append(policy_changed(change.content, self.bundle.digest, bundle.digest, operator, origin))
            self.bundle, self.place.now = bundle, ServedGuard(new, bundle.digest[:12])
        self.metrics.reloaded("taken")
        self.metrics.served(bundle.card.spec.name, bundle.digest[:12])
        _log.warning("policy %s took the place of %s, by %s; %s", change.after, change.before, operator, _words(change))
        return change

    def _refused(self, why: str) -> PolicyRefused:
        """The error for a policy that is not taken, which readiness says until one is."""
        kept = self.place.now.guard.policy.fingerprint
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.place.refused = f"the policy in the bundle's folder was refused at {when}, and {kept} goes on: {why}"
        _log.error("%s", self.place.refused)
        self.metrics.reloaded("refused")
        return PolicyRefused(why)


def _words(change: PolicyChange) -> str:
    """What changes, in one line for a person."""
    said = [f"changed: {', '.join(change.keys) or 'no key'}"]
    said += ["every account's e-process begins anew, and alarms stand"] if change.restarted else []
    for word, accounts in (("stricter", change.stricter), ("milder", change.milder), ("out of budget", change.spent)):
        if accounts is None:
            said.append(f"{word}: not counted, of too many accounts or a store that is away")
        elif accounts:
            said.append(f"{word}: {', '.join(accounts)}")
    return "; ".join(said)
