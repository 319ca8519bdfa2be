"""What the defenses conclude of a request: screens, text in pixels, certificates, near-duplicates, monitors.

One part that fails adds the action that the site chose, and takes nothing away from what the others concluded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np

from medward.guard.accounts.monitors import (
    DUPLICATES,
    AccountMonitors,
    BetValues,
    observe_batch,
    without_sources,
)
from medward.guard.accounts.stores import Store
from medward.guard.accounts.transaction import NearDuplicateBatch, PathFound, PathStep, step_paths
from medward.guard.alarm import Alarm
from medward.guard.certify.certifier import CERTIFICATE_PART
from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.intake.burned_in_check import BURNED_IN_TEXT
from medward.guard.monitors.base import SCREEN, Observations
from medward.guard.monitors.strangeness import STRANGENESS
from medward.guard.parts import GuardParts
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.request import Request
from medward.guard.source_policy import SOURCE_PART
from medward.guard.spec import ModelSpec
from medward.guard.types import Action, Array, CertifiedRadius, Outputs, Principal, Verdict, joined_outputs

_log = logging.getLogger("medward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A judgement is what the defenses concluded of one request.

    ``p_values (n,)`` are the screens', NaN where these failed; `bets` is what each account's monitors bet on, `actions`
    the strictest action asked for each row, `verdicts` what every part said, `alarms` what of it is news to a person,
    `certified` what is proven of the rows, where the policy has them certified.
    """

    p_values: Array
    bets: Mapping[str, BetValues]
    actions: tuple[Action, ...]
    verdicts: tuple[Verdict, ...]
    alarms: tuple[Alarm, ...] = ()
    certified: CertifiedRadius | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one pass over the rows of a request told: what monitors see, and what the screen concludes of each row."""

    sight: Observations
    p_values: Array
    screened: Sequence[Action]
    summary: Verdict
    failed: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """What is seen of a request before its accounts step: the look, near-duplicates, text in pixels, certificates."""

    look: _Look
    near: tuple[NearDuplicateBatch | None, list[Verdict]]
    text: tuple[list[Action], list[Verdict]]
    proof: tuple[CertifiedRadius | None, list[Action], list[Verdict]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Monitored:
    """What the states of a request's accounts came to."""

    verdicts: tuple[Verdict, ...]
    bets: Mapping[str, BetValues]
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defenses:
    """The defenses of a guard judge requests: one pass over a batch, and one step of each account's state in `store`.

    `salt` keys what is kept of inputs. Parts and policy are those of `medward.guard.pipeline.Guard`.
    """

    spec: ModelSpec
    policy: Policy
    profile: Profile
    parts: GuardParts
    store: Store
    salt: bytes
    _monitors: dict[tuple[str, int], AccountMonitors] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def judge(self, request: Request, outputs: Outputs) -> Judgement:
        """What every part concludes.

        A part that fails adds the action the site chose; it takes nothing away from what the others concluded.
        """
        (found,) = self.judge_all([(request, outputs)])
        if isinstance(found, Exception):
            raise found
        return found

    def judge_all(self, asked: Sequence[tuple[Request, Outputs]]) -> list[Judgement | Exception]:
        """What every part concludes of several requests, as `judge` does of one after the other.

        Their rows are looked at together, and their accounts step in one transaction. One whose look fails altogether
        has its error, steps no state and takes nothing from the others.
        """
        found: dict[int, Judgement | Exception] = {}
        sights: dict[int, _Sight] = {}
        for place, sight in enumerate(self._sights(asked)):
            if isinstance(sight, Exception):
                found[place] = sight
            else:
                sights[place] = sight
        # Last, for a state that stepped has to be answered for.
        monitored = self._monitor([asked[place][0] for place in sights], [*sights.values()])
        for (place, sight), each in zip(sights.items(), monitored, strict=True):
            found[place] = self._judgement(asked[place][0], sight, each)
        return [found[place] for place in range(len(asked))]

    def _judgement(self, request: Request, sight: _Sight, monitored: _Monitored) -> Judgement:
        """What the parts conclude together."""
        look, (text_actions, read), (certified, unproven, proof) = sight.look, sight.text, sight.proof
        of_all = (*look.failed, *sight.near[1], *monitored.verdicts, *self._weigh_source(request))
        strictest = max(verdict.action for verdict in of_all)
        return Judgement(
            p_values=look.p_values,
            bets=monitored.bets,
            actions=tuple(max(each, strictest) for each in map(max, look.screened, text_actions, unproven)),
            verdicts=(look.summary, *read, *proof, *of_all),
            alarms=monitored.alarms,
            certified=certified,
        )

    def _sights(self, asked: Sequence[tuple[Request, Outputs]]) -> list[_Sight | Exception]:
        """What is seen of all requests together; where that fails of each alone, so that none fails with others."""
        try:
            return [
                _Sight(look=look, near=self._near(*each), text=self._look_for_text(each[0]), proof=self._certify(*each))
                for each, look in zip(asked, self._look_all(asked), strict=True)
            ]
        except Exception as error:
            return [error] if len(asked) == 1 else [self._sights([each])[0] for each in asked]

    def _look_all(self, asked: Sequence[tuple[Request, Outputs]]) -> list[_Look]:
        """The look at each request, the requests of one calibration together."""
        sites: dict[str, list[int]] = {}
        for place, (request, _) in enumerate(asked):
            sites.setdefault(request.organisation if request.organisation in self.parts.sites else "", []).append(place)
        found: dict[int, _Look] = {}
        for site, places in sites.items():
            looks = self._look(self.parts.sites.get(site, self.profile), [asked[place] for place in places])
            found.update(zip(places, looks, strict=True))
        return [found[place] for place in range(len(asked))]

    def _look(self, profile: Profile, asked: Sequence[tuple[Request, Outputs]]) -> list[_Look]:
        """One pass over the rows of all requests; raises where a part fails over several, to be looked at alone."""
        inputs = np.concatenate([request.inputs for request, _ in asked])
        judged = self.spec.judged(joined_outputs([outputs for _, outputs in asked]))
        sight, away = observe_batch(self.policy, profile, inputs, judged)
        if away and len(asked) > 1:
            raise next(iter(away.values()))
        p_values = np.full(len(inputs), np.nan)
        on_error, broken = self.policy.on_error, None
        try:
            if SCREEN in away:
                raise away.pop(SCREEN)
            p_values = profile.screening.p_values(sight[STRANGENESS])
            screened = self._screen(profile, inputs, judged, sight[STRANGENESS])
        except Exception as error:
            if len(asked) > 1:
                raise
            broken = failed_part(on_error, SCREEN, error)
            sight, p_values = without_sources(sight, {SCREEN}, profile.plugins), np.full(len(inputs), np.nan)
            screened = [broken.action] * len(inputs)
        failed = tuple(failed_part(on_error, source, error) for source, error in away.items())
        looks, first = [], 0
        for request, _ in asked:
            rows = slice(first, first := first + len(request.inputs))
            looks.append(
                _Look(
                    sight={name: column[rows] for name, column in sight.items()},
                    p_values=p_values[rows],
                    screened=screened[rows],
                    summary=broken or _screened_verdict(screened[rows]),
                    failed=failed,
                )
            )
        return looks

    def _weigh_source(self, request: Request) -> list[Verdict]:
        """A verdict on inputs that a client uploaded, where the policy tells these from retrieved ones."""
        action = Action.ALLOW if request.retrieved else self.policy.source.action
        return [] if action is Action.ALLOW else [Verdict(part=SOURCE_PART, action=action)]

    def _screen(self, profile: Profile, inputs: Array, outputs: Outputs, scores: Array) -> list[Action]:
        """The screen's action where an input is too strange; NaN is.

        A site with too few rows for a cut has its inputs screened by the bundle's screens.
        """
        rate, action = self.policy.screen.rate, Action[self.policy.screen.action.upper()]
        cut = profile.screen_cut(rate)
        if profile is not self.profile and not np.isfinite(cut):
            scores, cut = self.profile.strangeness(inputs, outputs), self.profile.screen_cut(rate)
        return [Action.ALLOW if ok else action for ok in scores <= cut]

    def _look_for_text(self, request: Request) -> tuple[list[Action], list[Verdict]]:
        """The action on each row for text in its pixels, and a verdict where the policy has it looked for."""
        if self.parts.burned_in is None:
            return [Action.ALLOW] * len(request.inputs), []
        own = [partial(np.asarray, row) for row in request.inputs]
        seen = self.parts.burned_in.look(request.pictures or own)
        unread = {type(each): each for each in seen if isinstance(each, MedwardError)}
        failed = [failed_part(self.policy.on_error, BURNED_IN_TEXT, each) for each in unread.values()]
        asked = {True: self.parts.burned_in.action, False: Action.ALLOW}
        actions = [failed[0].action if isinstance(each, MedwardError) else asked[each] for each in seen]
        return actions, [self.parts.burned_in.verdict(seen), *failed]

    def _certify(
        self, request: Request, outputs: Outputs
    ) -> tuple[CertifiedRadius | None, list[Action], list[Verdict]]:
        """The certificates of the rows, the action on each that has none, and a verdict, where the policy asks."""
        rows = len(request.inputs)
        if self.parts.certifier is None:
            return None, [Action.ALLOW] * rows, []
        asked = self.policy.certify.action
        try:
            found = self.parts.certifier.certify(request.inputs, outputs.scores)
        except Exception as error:
            failed = failed_part(self.policy.on_error, CERTIFICATE_PART, error)
            none = CertifiedRadius(asked=self.parts.certifier.asked, radius=np.zeros(rows))
            return none, [max(failed.action, asked)] * rows, [failed]
        actions = [Action.ALLOW if each else asked for each in found.holds]
        uncertified = float((~found.holds).sum())
        return (
            found,
            actions,
            [Verdict(part=CERTIFICATE_PART, action=max(actions), evidence={"uncertified": uncertified})],
        )

    def _near(self, request: Request, outputs: Outputs) -> tuple[NearDuplicateBatch | None, list[Verdict]]:
        """What the index of near-duplicates sees of a batch, and a verdict if that failed."""
        chosen, contents = self.policy.duplicates, self.profile.contents
        if contents is None or not chosen.watch:
            return None, []
        try:
            task = self.spec.task
            bordered = task.doubt(outputs.scores) is not None  # else any change of an image is another decision
            decisions = task.decide(outputs.scores) if bordered else np.zeros(len(outputs.scores), np.int64)
            return NearDuplicateBatch.of(chosen, contents, self.salt, request, decisions), []
        except Exception as error:
            return None, [failed_part(self.policy.on_error, DUPLICATES, error)]

    def _monitor(self, requests: Sequence[Request], sights: Sequence[_Sight]) -> list[_Monitored]:
        """Step the states of each account and of each of its parents; alpha is split over these."""
        steps = [
            PathStep(
                keys=request.accounts,
                monitors=self.monitors_of(request.principal),
                digests=request.digests,
                sight=sight.look.sight,
                near=sight.near[0],
            )
            for request, sight in zip(requests, sights, strict=True)
        ]
        found = step_paths(self.store, steps, ttl=self.policy.monitor.ttl_days * 86400)
        return [self._concluded(*each) for each in zip(requests, found, strict=True)]

    def _concluded(self, request: Request, found: PathFound) -> _Monitored:
        """The verdicts on what the accounts of `request` and its near-duplicates found, and what of it is news."""
        parents = Action[self.policy.monitor.parents.upper()]
        verdicts, bets, news = [], {}, []
        path, counted = found
        for key, seen in zip(request.accounts, path, strict=True):
            if isinstance(seen, Exception):
                verdicts.append(failed_part(self.policy.on_error, "account", seen, key))
                continue
            before, verdict, bets[key] = seen
            most = Action.WITHHOLD if key == request.account else parents
            verdicts.append(replace(verdict, account=key, action=min(verdict.action, most)))
            if verdict.action > before:
                news.append(verdicts[-1])
        if isinstance(counted, Exception):
            verdicts.append(failed_part(self.policy.on_error, DUPLICATES, counted))
        elif counted is not None:
            before, verdict = counted
            verdicts.append(replace(verdict, part=DUPLICATES, account=request.account))
            if verdict.action > before:
                news.append(verdicts[-1])
        alarms = tuple(Alarm.raised(each, request.id) for each in news)
        return _Monitored(verdicts=tuple(verdicts), bets=bets, alarms=alarms)

    def monitors_of(self, principal: Principal) -> AccountMonitors:
        """Those of the principal's site and depth, built once."""
        site, depth = principal[0] if principal[0] in self.parts.sites else "", len(principal)
        if (site, depth) not in self._monitors:
            self._monitors[site, depth] = AccountMonitors.of(
                self.policy, self.parts.sites.get(site, self.profile), depth
            )
        return self._monitors[site, depth]


def _screened_verdict(actions: Sequence[Action]) -> Verdict:
    """The screen's verdict on rows with these `actions`."""
    strange = float(sum(action > Action.ALLOW for action in actions))
    return Verdict(part=SCREEN, action=max(actions), evidence={"strange": strange})


def failed_part(on_error: Literal["flag", "withhold"], part: str, error: Exception, account: str = "") -> Verdict:
    """The verdict on a part that failed, which is logged: the action is what the site chose, `on_error`."""
    away = isinstance(error, UnavailableError)  # whose sentence says it all, for every query of an outage
    said = f"{part}:{account}" if account else part
    _log.error("%s failed; on_error = %s; %s", said, on_error, error, exc_info=None if away else error)
    action = Action.WITHHOLD if on_error == "withhold" else Action.FLAG
    return Verdict(part=part, action=action, account=account, error=type(error).__name__)
