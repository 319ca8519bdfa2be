"""The serving path, top to bottom: check, model, screens, monitors, filter, audit, answer.

The model runs before the screens because one forward pass yields both its scores and the features the screens
judge; nothing of it leaves before they have judged. Flagged and clean queries take the same path, so time tells a
client nothing.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from medward.guard.accounts.budget import PriceRequest, budgets_for, charge_accounts, utc_day
from medward.guard.accounts.monitors import (
    MAX_DEPTH,
    AccountMonitors,
    BetValues,
    Observations,
    observation_sources,
    observe,
    strangeness_p_values,
    strata_of,
)
from medward.guard.accounts.names import by_folded, folded_name, hides_character
from medward.guard.accounts.stores import MemoryStore, Store
from medward.guard.accounts.transaction import NearDuplicateBatch, step_accounts
from medward.guard.errors import MedwardError, ModelError, UnavailableError
from medward.guard.models.base import Model
from medward.guard.monitors.near_duplicates import DuplicateCount, ImageSeen, NearDuplicateIndex
from medward.guard.policy import Policy
from medward.guard.profile import Profile, idle_screen
from medward.guard.statistics.combined_eprocess import STRANGE
from medward.guard.statistics.strata import STRATUM
from medward.guard.tasks.base import WITHHELD_DECISION, ReleaseSettings, check_level, offers
from medward.guard.tasks.classification import Classification
from medward.guard.types import Action, Answer, Array, Level, Outputs, Principal, Query, Verdict

_log = logging.getLogger("medward")
READINESS, READINESS_TTL = "//readiness", 60.0  # a key that no principal can have, and seconds it is kept
STORE_AWAY = "the store of accounts does not answer; until it does, answers leave without its monitors and budgets"
AUDIT_AWAY = "the audit log cannot be written; until it can, answers leave unrecorded"
MAX_NAME = 128  # characters of a level of a principal


class AuditSink(Protocol):
    """Where records go; ``append`` returns only once the record survives a kill."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Add `record`, or raise `UnavailableError`."""
        ...

    def check_writable(self) -> None:
        """Raise `UnavailableError` unless a record could be added now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A model behind its defenses. Same kind of thing as the model: a batch in, an answer out.

    Guarantees: no answer says a decision the model did not make; an answer that leaves is in the audit log first.
    `salt` keys the input digests; keep it with the state, not with the log. `clock` (Unix seconds) tells the leakage
    budget its day and nothing else: near-duplicates are dated by the store's time. `sites` holds
    the calibrations of organisations (the first level of a principal) that have their own: their inputs and accounts
    are judged by it, the others by `profile`. What leaves is chosen by `profile` alone.
    """

    model: Model
    policy: Policy
    profile: Profile
    store: Store = field(default_factory=MemoryStore)
    audit: AuditSink | None = None
    salt: bytes = b""
    clock: Callable[[], float] = time.time
    sites: Mapping[str, Profile] = field(default_factory=dict)
    _monitors: dict[tuple[str, int], AccountMonitors] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _own: Mapping[str, Profile] = field(init=False, repr=False, compare=False)  # `sites` as principals spell them

    def __post_init__(self) -> None:
        """Refuse a profile that lacks what the policy asks for, and a site that is no organisation."""
        for site in self.sites:
            checked_principal((site,))
        object.__setattr__(self, "_own", by_folded(self.sites, "sites"))
        check_level(self.model.spec.task, self.policy.release.default)
        if self.policy.release.default is Level.CODES and self.profile.codebook is None:
            raise MedwardError("profile: has no codebook; protect the model again, or set another release.level")
        profiles = {"profile": self.profile, **{f"site {site!r}": each for site, each in self.sites.items()}}
        for name, profile in profiles.items():
            if self.policy.monitor.shared and profile.residuals is None:
                raise MedwardError(
                    f"{name}: has no residuals for the shared-perturbation monitor; set monitor.shared = false"
                )

    def answer(self, query: Query) -> Answer:
        """Answer one query, or raise `MedwardError` for input outside the model's specification.

        `ModelError` says that the model itself failed.
        A defense that fails is handled as the policy's ``on_error`` says; `UnavailableError` is raised only when
        the audit log is away and the policy withholds on errors.
        """
        if not isinstance(query, Query):
            raise MedwardError(f"query: expected a Query, got {type(query).__name__}; Query(principal=..., inputs=...)")
        principal = checked_principal(query.principal)
        inputs = self.model.spec.check(query.inputs)
        digests = self._digests(inputs)
        outputs = self._forward(principal, inputs, digests)
        p_values, values, row_actions, verdicts = self._judge(principal, inputs, outputs, digests, query.study)
        levels = tuple(self._level(action) for action in row_actions)
        levels, charged = self._charge(principal, outputs, digests, levels)
        answer = self._release(query.id or uuid.uuid4().hex, outputs, levels, (*verdicts, *charged))
        self._record(principal, answer, digests, p_values, values)
        return answer

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not protected as the policy says, a sentence each: screens that are idle."""
        own = idle_screen(self.profile, self.policy.screen.rate)
        instead = "" if own else "; until then the bundle's own screen judges its inputs"
        idle = {site: idle_screen(profile, self.policy.screen.rate) for site, profile in self.sites.items()}
        return (*filter(None, [own]), *(f"site {site!r}: {said}{instead}" for site, said in idle.items() if said))

    def reset(self, principal: Principal) -> None:
        """Forget what the monitors know of `principal` itself, after a person has looked into an alarm."""
        reset_account(self.store, principal, self.audit)

    def check_ready(self) -> tuple[str, ...]:
        """Write to the store, and try the audit log: what is away, a sentence each, while queries are answered.

        Raises `UnavailableError` where a query could not be answered now: with ``on_error = "withhold"``, if any is.
        """
        return tuple(filter(None, [self._lack(STORE_AWAY, self._try_store), self._lack(AUDIT_AWAY, self._try_audit)]))

    def _try_store(self) -> None:
        self.store.transact(READINESS, lambda _: (True, None), ttl=READINESS_TTL)

    def _try_audit(self) -> None:
        if self.audit is not None:
            self.audit.check_writable()

    def _lack(self, said: str, part: Callable[[], None]) -> str:
        """`said` if `part` is away and queries are answered without it; its own reason is for the operator."""
        try:
            part()
        except UnavailableError as error:
            if self.policy.on_error == "withhold":
                raise
            _log.error("%s; on_error = flag; %s", said, error)
            return said
        return ""

    def _forward(self, principal: Principal, inputs: Array, digests: list[str]) -> Outputs:
        """One forward pass; a model that fails is on record, and its reasons stay with the operator."""
        try:
            outputs = self.model.predict(inputs)
            if not np.isfinite(outputs.scores).all():
                raise MedwardError("a score is not finite")
            if outputs.features is not None and not np.isfinite(outputs.features).all():
                raise MedwardError("a feature is not finite")
        except Exception as error:
            _log.exception("the model failed")
            self._append({"event": "model failed", "principal": "/".join(principal), "inputs": digests})
            raise ModelError("the model could not answer this input") from error
        return outputs

    def _judge(
        self, principal: Principal, inputs: Array, outputs: Outputs, digests: list[str], study: str
    ) -> tuple[Array, dict[str, BetValues], list[Action], tuple[Verdict, ...]]:
        """p-values ``(n,)``, what was bet on per account, the strictest action per row, and every verdict.

        A part that fails adds the action the site chose; it takes nothing away from what the others concluded.
        """
        profile = self._own.get(principal[0], self.profile)
        judged = self.model.spec.judged(outputs)
        sight, failed = self._sight(profile, inputs, judged)
        try:
            scores = profile.strangeness(inputs, judged)
            p_values = strangeness_p_values(self.policy, profile, scores)
            screened = self._screen(*self._screening(profile, scores, inputs, judged))
            summary = self._summary(screened)
            sight = {**sight, STRANGE: p_values}
        except Exception as error:
            summary = self._failed("screen", error)
            p_values, screened = np.full(len(inputs), np.nan), [summary.action] * len(inputs)
        near, unseen = self._near(principal, inputs, outputs, digests, study)
        failed += unseen
        monitored, values = self._monitor(principal, digests, sight, near)
        strictest = max(verdict.action for verdict in (*failed, *monitored))
        verdicts = (summary, *failed, *monitored)
        return p_values, values, [max(action, strictest) for action in screened], verdicts

    def _sight(self, profile: Profile, inputs: Array, outputs: Outputs) -> tuple[Observations, list[Verdict]]:
        """What the monitors see beside the screens' p-values, and a verdict for each that failed."""
        sight: dict[str, Any] = {}
        failed = []
        if (strata := strata_of(profile, outputs)) is not None:
            sight[STRATUM] = strata
        for source in observation_sources(self.policy, profile):
            try:
                sight.update(observe(source, profile, inputs, outputs))
            except Exception as error:
                failed.append(self._failed(source, error))
        return sight, failed

    def _near(
        self, principal: Principal, inputs: Array, outputs: Outputs, digests: list[str], study: str
    ) -> tuple[NearDuplicateBatch | None, list[Verdict]]:
        """What the index of near-duplicates sees of a batch, and a verdict if that failed.

        One map serves all sites, for an attacker may have accounts at several. Only the clients of one organisation
        vouch for one another's studies.
        """
        chosen, contents = self.policy.duplicates, self.profile.contents
        if contents is None or not chosen.watch:
            return None, []
        try:
            seen = zip(*contents.see(inputs), digests, self.model.spec.decide(outputs.scores).tolist(), strict=True)
            arrivals = [ImageSeen(*each, principal[0], study) for each in seen]
        except Exception as error:
            return None, [self._failed("duplicates", error)]
        ttl, ladder = chosen.ttl_days * 86400, [(limit.count, Action[limit.action.upper()]) for limit in chosen.ladder]
        return NearDuplicateBatch(
            index=NearDuplicateIndex(salt=self.salt, calibration=contents.fingerprint, slices=chosen.slices, ttl=ttl),
            monitor=DuplicateCount(ladder=tuple(ladder)),
            arrivals=arrivals,
        ), []

    def _failed(self, part: str, error: Exception, account: str = "") -> Verdict:
        away = isinstance(error, UnavailableError)  # whose sentence says it all, for every query of an outage
        said = f"{part}:{account}" if account else part
        _log.error("%s failed; on_error = %s; %s", said, self.policy.on_error, error, exc_info=None if away else error)
        action = Action.WITHHOLD if self.policy.on_error == "withhold" else Action.FLAG
        return Verdict(part=part, action=action, account=account, error=type(error).__name__)

    def _screening(self, profile: Profile, scores: Array, inputs: Array, outputs: Outputs) -> tuple[Array, float]:
        """Strangeness and its cut: the site's, or the bundle's where the site has too few rows for any."""
        cut = profile.screen_cut(self.policy.screen.rate)
        if profile is self.profile or np.isfinite(cut):
            return scores, cut
        return self.profile.strangeness(inputs, outputs), self.profile.screen_cut(self.policy.screen.rate)

    def _screen(self, scores: Array, cut: float) -> list[Action]:
        """The screen's action where an input is too strange; NaN is."""
        action = Action[self.policy.screen.action.upper()]
        passed = scores <= cut
        return [Action.ALLOW if ok else action for ok in passed]

    def _summary(self, screened: list[Action]) -> Verdict:
        strange = sum(action > Action.ALLOW for action in screened)
        return Verdict(part="screen", action=max(screened), evidence={"strange": float(strange)})

    def _monitor(
        self, principal: Principal, digests: list[str], sight: Observations, near: NearDuplicateBatch | None
    ) -> tuple[list[Verdict], dict[str, BetValues]]:
        """Step the state of the account and of each of its parents; alpha is split over these."""
        parents = Action[self.policy.monitor.parents.upper()]
        monitors = self._monitors_of(principal)
        keys = ["/".join(principal[:depth]) for depth in range(1, len(principal) + 1)]
        verdicts, values = [], {}
        watch, ttl = partial(monitors.watch, digests, sight), self.policy.monitor.ttl_days * 86400
        path, counted = step_accounts(self.store, keys, watch, near, ttl=ttl)
        for key, seen in zip(keys, path, strict=True):
            if isinstance(seen, Exception):
                verdicts.append(self._failed("account", seen, key))
                continue
            before, verdict, values[key] = seen
            most = Action.WITHHOLD if key == keys[-1] else parents
            action = min(verdict.action, most)
            if verdict.action > before:
                _log.warning("account %s: alarm, %s; %s", key, action.label, dict(verdict.evidence))
            verdicts.append(replace(verdict, account=key, action=action))
        if isinstance(counted, Exception):
            verdicts.append(self._failed("duplicates", counted))
        elif counted is not None:
            before, verdict = counted
            if verdict.action > before:
                _log.warning("account %s: near-duplicates, %s; %s", keys[-1], verdict.action.label, verdict.evidence)
            verdicts.append(replace(verdict, part="duplicates", account=keys[-1]))
        return verdicts, values

    def _monitors_of(self, principal: Principal) -> AccountMonitors:
        """Those of the principal's site and depth, built once."""
        site, depth = principal[0] if principal[0] in self._own else "", len(principal)
        if (site, depth) not in self._monitors:
            self._monitors[site, depth] = AccountMonitors.of(self.policy, self._own.get(site, self.profile), depth)
        return self._monitors[site, depth]

    def _level(self, action: Action) -> Level:
        if action is Action.WITHHOLD:
            return Level.WITHHELD
        if action is Action.COARSEN:
            return Level.LABEL if Level.LABEL in self.model.spec.task.levels else Level.WITHHELD
        return self.policy.release.default

    def _charge(
        self, principal: Principal, outputs: Outputs, digests: list[str], levels: tuple[Level, ...]
    ) -> tuple[tuple[Level, ...], list[Verdict]]:
        """The levels that fit the budgets of the account and its parents, who have then paid for them."""
        task, name = self.model.spec.task, f"{self.profile.thresholds.fingerprint}:{self.policy.fingerprint}"
        if (threshold := self.model.spec.threshold) is not None:
            name = f"{name}:{threshold}"  # at another one the same bytes are answered otherwise
        elif not isinstance(task, Classification):
            name = f"{name}:{task}"
        budgets = budgets_for(self.policy.budget, principal, name)
        if not budgets:
            return levels, []
        try:
            offered = {level: offers(task, outputs.scores, level, self._settings) for level in set(levels)}
            asks = [PriceRequest(digest, offered[level]) for digest, level in zip(digests, levels, strict=True)]
            step = partial(charge_accounts, list(budgets.values()), utc_day(self.clock()), asks)
            fitting, verdicts = self.store.transact_all(list(budgets), step)
        except Exception as error:
            failed = self._failed("budget", error)
            withheld = failed.action is Action.WITHHOLD
            return (Level.WITHHELD,) * len(levels) if withheld else levels, [failed]
        return tuple(fitting), verdicts

    @property
    def _settings(self) -> ReleaseSettings:
        chosen = self.policy.release
        return ReleaseSettings(
            decimals=chosen.decimals,
            top=chosen.top,
            temperature=chosen.temperature,
            codebook=self.profile.codebook,
        )

    def _release(
        self, query_id: str, outputs: Outputs, levels: tuple[Level, ...], verdicts: tuple[Verdict, ...]
    ) -> Answer:
        task, default = self.model.spec.task, self.policy.release.default
        labels = task.decide(outputs.scores)
        scores = np.full(outputs.scores.shape, np.nan)
        for level in set(levels):
            rows = np.array([each is level for each in levels])
            scores[rows] = task.release(outputs.scores[rows], level, self._settings)
        labels[[level is Level.WITHHELD for level in levels]] = WITHHELD_DECISION
        return Answer(
            id=query_id,
            labels=labels,
            scores=scores,
            levels=levels,
            output=task.output if task.output == "values" or default is Level.FULL else "probabilities",
            verdicts=verdicts,
        )

    def _record(
        self,
        principal: Principal,
        answer: Answer,
        digests: list[str],
        p_values: Array,
        values: dict[str, BetValues],
    ) -> None:
        record = {
            "query": answer.id,
            "principal": "/".join(principal),
            "policy": self.policy.fingerprint,
            "inputs": digests,
            "p_values": [None if np.isnan(p) else float(p) for p in p_values],
            "bets": values,
            "levels": [level.label for level in answer.levels],
            "verdicts": [verdict.content for verdict in answer.verdicts],
        }
        self._append(record)

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            if self.audit is not None:
                self.audit.append(record)
        except UnavailableError:
            if self.policy.on_error == "withhold":
                raise
            _log.exception("the audit log is away; on_error = flag, so the answer leaves unrecorded")

    def _digests(self, inputs: Array) -> list[str]:
        return [
            hashlib.blake2b(row.tobytes(), key=self.salt, digest_size=8).hexdigest()
            for row in np.ascontiguousarray(inputs)
        ]


def reset_account(store: Store, principal: Principal, audit: AuditSink | None) -> None:
    """Forget the account `principal`, not its parents or children; with an audit log, on record first.

    Raises `UnavailableError`, the account being kept, when the log or the store is away.
    """
    key = "/".join(checked_principal(principal))
    if audit is not None:
        audit.append({"event": "reset", "principal": key})
    store.delete(key)


def checked_principal(principal: Principal) -> Principal:
    """The account of `principal`: every level in its one spelling (`guard.accounts.names`).

    Refuses an empty path, and names that could be mistaken for one another once joined or hide a character.
    """
    if isinstance(principal, str):
        raise MedwardError(
            f"principal: a path is a tuple of names, got the text {principal!r}; give {tuple(principal.split('/'))!r}"
        )
    if not principal or len(principal) > MAX_DEPTH:
        raise MedwardError(f"principal: needs 1 to {MAX_DEPTH} levels, got {len(principal)}")
    return tuple(_checked_level(name) for name in principal)


def _checked_level(name: str) -> str:
    if len(name) <= MAX_NAME and not hides_character(name):
        spelled = folded_name(name)
        if spelled and "/" not in spelled and len(spelled) <= MAX_NAME:
            return spelled
    raise MedwardError(
        f"principal: a level is 1 to {MAX_NAME} printable characters without '/', got {name[: MAX_NAME + 1]!r}"
    )
