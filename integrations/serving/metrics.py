"""Prometheus metrics, in a registry of their own per app. No label holds a name or a value a client chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Scope

from medward.guard.types import Answer, Level
from medward.integrations.serving.refusal import RefusalReason


class Metrics:
    """Latency and errors by route, answers by level and certificate, verdicts, how streams ended, redactions."""

    def __init__(self, jobs: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
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
        Gauge("medward_jobs", "Requests being read, queued or answered.", registry=self.registry).set_function(jobs)

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
