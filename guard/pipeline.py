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
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from guard.errors import MedwardError, ModelError, UnavailableError
from guard.monitor import Ask, EProcess, Residuals, SharedPerturbation, Sighting, budgets_for, charge, utc_day
from guard.policy import Policy
from guard.profile import Profile
from guard.protocols import Model, Store
from guard.release import ReleaseLevels
from guard.stores import CorruptStateError, MemoryStore
from guard.types import Action, Answer, Array, Level, Observation, Outputs, Principal, Query, Verdict

log = logging.getLogger("medward")
MAX_DEPTH = 8  # levels of a principal
Seen = tuple[Action, list[Verdict], list[float]]
"""Of one account: the action that stood before, the verdicts, the p-values of `shared`."""
SHARED, DIRECTION = "shared", "direction"  # the second e-process, and what its p-values come from


class AuditSink(Protocol):
    """Where records go; ``append`` returns only once the record survives a kill."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Add `record`, or raise `UnavailableError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A model behind its defenses. Same kind of thing as the model: a batch in, an answer out.

    Guarantees: no answer names a class the model did not; an answer that leaves is in the audit log first.
    `salt` keys the input digests; keep it with the state, not with the log. `clock` (Unix seconds) tells the leakage
    budget its day.
    """

    model: Model
    policy: Policy
    profile: Profile
    store: Store = field(default_factory=MemoryStore)
    audit: AuditSink | None = None
    salt: bytes = b""
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        """Refuse a profile that lacks what the policy asks for."""
        if self.policy.release.default is Level.CODES and self.profile.codebook is None:
            raise MedwardError("profile: has no codebook; protect the model again, or set another release.level")
        if self.policy.monitor.shared and self.profile.residuals is None:
            raise MedwardError(
                "profile: has no residuals for the shared-perturbation monitor; set monitor.shared = false"
            )

    def answer(self, query: Query) -> Answer:
        """Answer one query, or raise `MedwardError` for input outside the model's specification.

        `ModelError` says that the model itself failed.
        A defense that fails is handled as the policy's ``on_error`` says; `UnavailableError` is raised only when
        the audit log is away and the policy withholds on errors.
        """
        principal = checked_principal(query.principal)
        inputs = self.model.spec.check(query.inputs)
        digests = self._digests(inputs)
        outputs = self._forward(principal, inputs, digests)
        p_values, shared, row_actions, verdicts = self._judge(principal, inputs, outputs, digests)
        levels = tuple(self._level(action) for action in row_actions)
        levels, charged = self._charge(principal, outputs, digests, levels)
        answer = self._release(query.id or uuid.uuid4().hex, outputs, levels, (*verdicts, *charged))
        self._record(principal, answer, digests, p_values, shared)
        return answer

    def reset(self, principal: Principal) -> None:
        """Forget what the monitors know of `principal` itself, after a person has looked into an alarm."""
        reset(self.store, principal, self.audit)

    def _forward(self, principal: Principal, inputs: Array, digests: list[str]) -> Outputs:
        """One forward pass; a model that fails is on record, and its reasons stay with the operator."""
        try:
            outputs = self.model.predict(inputs)
            if not np.isfinite(outputs.scores).all():
                raise MedwardError("a score is not finite")
        except Exception as error:
            log.exception("the model failed")
            self._append({"event": "model failed", "principal": "/".join(principal), "inputs": digests})
            raise ModelError("the model could not answer this input") from error
        return outputs

    def _judge(
        self, principal: Principal, inputs: Array, outputs: Outputs, digests: list[str]
    ) -> tuple[Array, dict[str, list[float]], list[Action], tuple[Verdict, ...]]:
        """p-values ``(n,)``, the shared monitor's per account, the strictest action per row, and every verdict.

        A part that fails adds the action the site chose; it takes nothing away from what the others concluded.
        """
        observations: list[Observation] = []
        try:
            scores = self.profile.strangeness(inputs, outputs)
            p_values = self.profile.thresholds.p_values(scores)
            screened = self._screen(scores)
            summary = self._summary(screened)
            observations = [Observation(float(p), d) for p, d in zip(p_values, digests, strict=True)]
        except Exception as error:
            summary = self._failed("screen", error)
            p_values, screened = np.full(len(inputs), np.nan), [summary.action] * len(inputs)
        sightings, failed = self._sight(inputs, digests)
        monitored, shared = self._monitor(principal, observations, sightings)
        strictest = max(verdict.action for verdict in (*failed, *monitored))
        verdicts = (summary, *failed, *monitored)
        return p_values, shared, [max(action, strictest) for action in screened], verdicts

    def _sight(self, inputs: Array, digests: list[str]) -> tuple[list[Sighting], list[Verdict]]:
        """What the shared-perturbation monitor sees, and a verdict if that failed."""
        residuals = self.profile.residuals
        if not self.policy.monitor.shared or residuals is None:
            return [], []
        try:
            seen = zip(residuals.vectors(inputs), residuals.codes(inputs), digests, strict=True)
            return [Sighting(*each) for each in seen], []
        except Exception as error:
            return [], [self._failed("residuals", error)]

    def _failed(self, part: str, error: Exception) -> Verdict:
        log.error("%s failed; on_error = %s", part, self.policy.on_error, exc_info=error)
        action = Action.WITHHOLD if self.policy.on_error == "withhold" else Action.FLAG
        return Verdict(source=f"error:{part}:{type(error).__name__}", action=action)

    def _screen(self, scores: Array) -> list[Action]:
        """The screen's action where an input is too strange; NaN is."""
        action = Action[self.policy.screen.action.upper()]
        passed = scores <= self.profile.screen_cut(self.policy.screen.rate)
        return [Action.ALLOW if ok else action for ok in passed]

    def _summary(self, screened: list[Action]) -> Verdict:
        strange = sum(action > Action.ALLOW for action in screened)
        return Verdict(source="screen", action=max(screened), evidence={"strange": float(strange)})

    def _monitor(
        self, principal: Principal, observations: list[Observation], sightings: list[Sighting]
    ) -> tuple[list[Verdict], dict[str, list[float]]]:
        """Step the state of the account and of each of its parents; alpha is split over the levels and monitors."""
        parents = Action[self.policy.monitor.parents.upper()]
        monitors = Monitors.of(self.policy, self.profile, len(principal))
        keys = ["/".join(principal[:depth]) for depth in range(1, len(principal) + 1)]
        verdicts, shared = [], {}
        for key, seen in zip(keys, self._step(keys, partial(monitors.watch, observations, sightings)), strict=True):
            if isinstance(seen, Exception):
                verdicts.append(self._failed(f"account:{key}", seen))
                continue
            before, found, p_values = seen
            if p_values:
                shared[key] = p_values
            worst = max(found, key=lambda verdict: verdict.action)
            if worst.action > before:
                log.warning("account %s: alarm, %s; %s %s", key, worst.action.label, worst.source, dict(worst.evidence))
            for verdict in found:
                action = verdict.action if key == keys[-1] else min(verdict.action, parents)
                verdicts.append(Verdict(source=f"{verdict.source}:{key}", action=action, evidence=verdict.evidence))
        return verdicts, shared

    def _step(self, keys: list[str], watch: Callable[[Any], tuple[Any, Seen]]) -> list[Seen | Exception]:
        """Step every state of a path in one transaction. One that fails is kept, and takes nothing from the others."""

        def step(states: list[Any]) -> tuple[list[Any], list[Seen | Exception]]:
            stepped = list(states)
            seen: list[Seen | Exception] = []
            for i, state in enumerate(states):
                try:
                    stepped[i], found = watch(state)
                    seen.append(found)
                except Exception as error:
                    seen.append(error)
            return stepped, seen

        try:
            return self.store.transact_all(keys, step, ttl=self.policy.monitor.ttl_days * 86400)
        except CorruptStateError as error:
            return [error] if len(keys) == 1 else [each for key in keys for each in self._step([key], watch)]
        except Exception as error:
            return [error] * len(keys)

    def _level(self, action: Action) -> Level:
        if action is Action.WITHHOLD:
            return Level.WITHHELD
        if action is Action.COARSEN:
            return Level.LABEL
        return self.policy.release.default

    def _charge(
        self, principal: Principal, outputs: Outputs, digests: list[str], levels: tuple[Level, ...]
    ) -> tuple[tuple[Level, ...], list[Verdict]]:
        """The levels that fit the budgets of the account and its parents, who have then paid for them."""
        name = f"{self.profile.thresholds.fingerprint}:{self.policy.fingerprint}"
        budgets = budgets_for(self.policy.budget, principal, name)
        if not budgets:
            return levels, []
        try:
            offers = {level: self._filter.offers(outputs.scores, level) for level in set(levels)}
            asks = [Ask(digest, offers[level]) for digest, level in zip(digests, levels, strict=True)]
            step = partial(charge, list(budgets.values()), utc_day(self.clock()), asks)
            fitting, verdicts = self.store.transact_all(list(budgets), step)
        except Exception as error:
            failed = self._failed("budget", error)
            withheld = failed.action is Action.WITHHOLD
            return (Level.WITHHELD,) * len(levels) if withheld else levels, [failed]
        return tuple(fitting), verdicts

    @property
    def _filter(self) -> ReleaseLevels:
        chosen = self.policy.release
        return ReleaseLevels(
            output=self.model.spec.output,
            decimals=chosen.decimals,
            top=chosen.top,
            temperature=chosen.temperature,
            codebook=self.profile.codebook,
        )

    def _release(
        self, query_id: str, outputs: Outputs, levels: tuple[Level, ...], verdicts: tuple[Verdict, ...]
    ) -> Answer:
        spec, release = self.model.spec, self._filter
        labels = release.labels(outputs.scores)
        scores = np.full(outputs.scores.shape, np.nan)
        for level in set(levels):
            rows = np.array([each is level for each in levels])
            scores[rows] = release.release(outputs.scores[rows], level)
        labels[[level is Level.WITHHELD for level in levels]] = -1
        return Answer(
            id=query_id,
            labels=labels,
            scores=scores,
            levels=levels,
            output=spec.output if self.policy.release.default is Level.FULL else "probabilities",
            verdicts=verdicts,
        )

    def _record(
        self,
        principal: Principal,
        answer: Answer,
        digests: list[str],
        p_values: Array,
        shared: dict[str, list[float]],
    ) -> None:
        record = {
            "query": answer.id,
            "principal": "/".join(principal),
            "policy": self.policy.fingerprint,
            "inputs": digests,
            "p_values": [None if np.isnan(p) else float(p) for p in p_values],
            "shared": shared,
            "levels": [level.label for level in answer.levels],
            "verdicts": [
                {"source": v.source, "action": v.action.label, "evidence": dict(v.evidence)} for v in answer.verdicts
            ],
        }
        self._append(record)

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            if self.audit is not None:
                self.audit.append(record)
        except UnavailableError:
            if self.policy.on_error == "withhold":
                raise
            log.exception("the audit log is away; on_error = flag, so the answer leaves unrecorded")

    def _digests(self, inputs: Array) -> list[str]:
        return [
            hashlib.blake2b(row.tobytes(), key=self.salt, digest_size=8).hexdigest()
            for row in np.ascontiguousarray(inputs)
        ]


def reset(store: Store, principal: Principal, audit: AuditSink | None) -> None:
    """Forget the account `principal`, not its parents or children; with an audit log, on record first.

    Raises `UnavailableError`, the account being kept, when the log or the store is away.
    """
    key = "/".join(checked_principal(principal))
    if audit is not None:
        audit.append({"event": "reset", "principal": key})
    store.delete(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitors:
    """The monitors of one account: `strange` bets on the screens' p-values, `bettor` on those of `shared`."""

    strange: EProcess
    shared: SharedPerturbation | None = None
    bettor: EProcess | None = None

    @classmethod
    def of(cls, policy: Policy, profile: Profile, depth: int) -> Monitors:
        """For each of `depth` accounts on one path."""
        thresholds = profile.thresholds
        strange = eprocess_for(policy, thresholds.levels, depth, thresholds.fingerprint)
        if not policy.monitor.shared or profile.residuals is None:
            return cls(strange=strange)
        shared = shared_for(policy, profile.residuals)
        return cls(
            strange=strange,
            shared=shared,
            bettor=eprocess_for(policy, shared.levels, depth, shared.calibration, SHARED),
        )

    def watch(
        self, observations: list[Observation], sightings: list[Sighting], state: Any
    ) -> tuple[Any, tuple[Action, list[Verdict], list[float]]]:
        """Step them all through a batch: the action that stood before, the verdicts, the p-values of `shared`.

        What rises above the action before is news to a person.
        """
        if state is None or "hits" in state:  # as written by medward 0.1
            state = {} if state is None else {self.strange.name: state}
        state = dict(state)
        p_values: list[float] = []
        bets = [(self.strange, observations)]
        if self.shared is not None and self.bettor is not None:
            state[DIRECTION], p_values = self.shared.judge(self.shared.resume(state.get(DIRECTION)), sightings)
            seen = [Observation(p, each.digest) for p, each in zip(p_values, sightings, strict=True)]
            bets.append((self.bettor, seen))
        before, verdicts = Action.ALLOW, []
        for monitor, batch in bets:
            standing = monitor.resume(state.get(monitor.name))
            before = max(before, monitor.verdict(standing).action)
            state[monitor.name], verdict = fold(monitor, standing, batch)
            verdicts.append(verdict)
        return state, (before, verdicts, p_values)


def shared_for(policy: Policy, residuals: Residuals) -> SharedPerturbation:
    """The direction watched in each account of a path.

    The e-process's thresholds are one event of the calibration draw, whoever asks. Directions are each account's own,
    so their part of the calibration risk is split over a path, evenly over the longest there can be: accounts below
    a parent may lie at different depths, and the parent's thresholds must not change with who asks.
    """
    risk = policy.monitor.risk / MAX_DEPTH
    return SharedPerturbation(
        reference=residuals.reference,
        risk=risk,
        radius=int(residuals.radius),
        calibration=f"{residuals.fingerprint}:{risk:g}",
    )


def eprocess_for(
    policy: Policy, levels: tuple[float, ...], depth: int, calibration: str = "", name: str = "e-process"
) -> EProcess:
    """A monitor of each of `depth` accounts on one path: every rung's alpha is split evenly over all of them."""
    share = depth * policy.monitor.count
    ladder = tuple((rung.false_alarm / share, Action[rung.action.upper()]) for rung in policy.monitor.ladder)
    return EProcess(levels=levels, ladder=ladder, calibration=calibration, name=name, late=name == SHARED)


def fold(monitor: EProcess, state: Any, observations: list[Observation]) -> tuple[Any, Verdict]:
    """Step through `observations` in order; the last verdict stands for the batch, alarms being sticky."""
    state = monitor.resume(state)
    verdict = monitor.verdict(state)
    for observation in observations:
        state, verdict = monitor.step(state, observation)
    return state, verdict


def checked_principal(principal: Principal) -> Principal:
    """Refuse an empty path, and names that could be mistaken for one another once joined."""
    if not principal or len(principal) > MAX_DEPTH:
        raise MedwardError(f"principal: needs 1 to {MAX_DEPTH} levels, got {len(principal)}")
    for name in principal:
        if not name or "/" in name or len(name) > 128 or not name.isprintable():
            raise MedwardError(f"principal: a level is 1 to 128 printable characters without '/', got {name!r}")
    return principal
