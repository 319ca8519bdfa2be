"""Prometheus metrics, in a registry of their own per app. No label holds a name or a value a client chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Scope

from medward.guard.alarm import Alarm
from medward.guard.types import Action, Answer, Level
from medward.integrations.serving.refusal import RefusalReason

ServingStage = Literal["queue", "answer", "store"]
NoteTime = Callable[[ServingStage, float], None]
"""Notes how many seconds one job spent in a stage."""


def unnoted(stage: ServingStage, seconds: float) -> None:
    """Note nothing."""


STAGE_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """Latency and errors by route and stage, answers by level and certificate, verdicts, alarms, redactions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            "medward_request_seconds",
            "Time to answer a request.",
            ["route", "status"],
            registry=self.registry,
        )
        self._rows = Counter("medward_rows", "Rows answered, by release level.", ["level"], registry=self.registry)
        self._verdicts = Counter(
            "medward_verdicts",
            "Verdicts, by kind of source and action.",
            ["source", "action"],
            registry=self.registry,
        )
        self._certified = Counter(
            "medward_answers_certified",
            "Rows by whether their answer is certified, where the policy has answers certified.",
            ["certified"],
            registry=self.registry,
        )
        self._reports = Counter(
            "medward_streamed_reports",
            "Reports sent piece by piece, by how they ended: finished, stopped by who asked, failed.",
            ["ended"],
            registry=self.registry,
        )
        self._refused = Counter(
            "medward_refused_requests",
            "Requests not answered, by why: no place, no memory, a share, a rate, a deadline, a client that left.",
            ["reason"],
            registry=self.registry,
        )
        self._failed_authentications = Counter(
            "medward_failed_authentications",
            "Requests refused for who asks: nothing sent, an unknown key, one that ended, a token, a scope.",
            ["reason"],
            registry=self.registry,
        )
        self._errors = Counter("medward_errors", "Responses from 400 up.", ["route", "status"], registry=self.registry)
        self._jobs = Gauge("medward_jobs", "Requests being read, queued or answered.", registry=self.registry)
        self._alarms = Counter(
            "medward_alarms", "Alarms raised, by the action that they ask for.", ["action"], registry=self.registry
        )
        for action in Action:
            if action is not Action.ALLOW:
                self._alarms.labels(action.label)  # that none was raised is said, too
        self._stages = Histogram(
            "medward_stage_seconds",
            "Time of one job by stage: it waits for its turn, it is answered; one transaction of the store.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self._reloads = Counter(
            "medward_policy_reloads",
            "Reloads of the policy that were asked for: taken, unchanged, refused.",
            ["outcome"],
            registry=self.registry,
        )
        self._served = Info("medward_served", "The model and the bundle that are served.", registry=self.registry)

    def serving(self, model: str, version: str, jobs: Callable[[], float]) -> None:
        """Say what is served, and show how many `jobs` there are, asked for at each reading."""
        self.served(model, version)
        self._jobs.set_function(jobs)

    def served(self, model: str, version: str) -> None:
        """Say what is served from now on."""
        self._served.info({"model": model, "version": version})

    def reloaded(self, outcome: Literal["taken", "unchanged", "refused"]) -> None:
        """Count one reload of the policy that was asked for."""
        self._reloads.labels(outcome).inc()

    def alarm(self, alarm: Alarm) -> None:
        """Count one alarm; never whose."""
        self._alarms.labels(alarm.action.label).inc()

    def stage(self, stage: ServingStage, seconds: float) -> None:
        """Note how long one job spent in a stage."""
        self._stages.labels(stage).observe(seconds)

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one finished request; status 0 means that the client left before an answer."""
        route = getattr(scope.get("route"), "path", "other")
        self._seconds.labels(route, str(status)).observe(seconds)
        if status >= 400:
            self._errors.labels(route, str(status)).inc()

    def refused(self, reason: RefusalReason) -> None:
        """Count one request that was not answered."""
        self._refused.labels(reason).inc()

    def failed_authentication(self, reason: str) -> None:
        """Count one request that was refused for who asks, whether or not it was one too many."""
        self._failed_authentications.labels(reason).inc()

    def answer(self, answer: Answer) -> None:
        """Count levels, certificates and verdicts; of a verdict the part and never the account."""
        for level in answer.levels:
            self._rows.labels(level.label).inc()
        if answer.certified is not None:
            for level, holds in zip(answer.levels, answer.certified.holds.tolist(), strict=True):
                said = "withheld" if level is Level.WITHHELD else str(holds).lower()
                self._certified.labels(said).inc()
        for verdict in answer.verdicts:
            self._verdicts.labels("error" if verdict.error else verdict.part, verdict.action.label).inc()

    def streamed(self, ended: str) -> None:
        """Count one report that was sent piece by piece."""
        self._reports.labels(ended).inc()

    def redactions(self, replaced: Callable[[], Mapping[str, int]]) -> None:
        """Show how many parts of answers that are text were `replaced` so far, by kind, asked for at each reading.

        ``lambda: filters.replaced`` of `PrivacyFilters`; once for a server, whose only filters these are.
        """
        self.registry.register(_Redactions(replaced))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


@dataclass(frozen=True, slots=True)
class _Redactions(Collector):
    """The counts that filters keep themselves, read when they are shown."""

    replaced: Callable[[], Mapping[str, int]]

    def collect(self) -> Iterator[CounterMetricFamily]:
        said = "Parts of answers replaced by a mark, by kind."
        family = CounterMetricFamily("medward_redactions", said, labels=["kind"])
        for kind, count in sorted(self.replaced().items()):
            family.add_metric([kind], count)
        yield family
