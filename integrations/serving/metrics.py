"""Prometheus metrics, in a registry of their own per app. No label holds a name or a value a client chose."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from medward.guard.types import Answer


class Metrics:
    """Latency and errors by route, answers by level, verdicts by kind of source and action."""

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
        self._errors = Counter("medward_errors", "Responses from 400 up.", ["route", "status"], registry=self.registry)
        Gauge("medward_jobs", "Requests being read, queued or answered.", registry=self.registry).set_function(jobs)

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one finished request; status 0 means that the client left before an answer."""
        route = getattr(scope.get("route"), "path", "other")
        self._seconds.labels(route, str(status)).observe(seconds)
        if status >= 400:
            self._errors.labels(route, str(status)).inc()

    def answer(self, answer: Answer) -> None:
        """Count levels and verdicts; of a verdict the part and never the account."""
        for level in answer.levels:
            self._rows.labels(level.label).inc()
        for verdict in answer.verdicts:
            self._verdicts.labels("error" if verdict.error else verdict.part, verdict.action.label).inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
