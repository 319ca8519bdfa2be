"""The statistics of the model, in Triton's words, read from the counters of ``/metrics``; none is made up.

Of Triton's figures those are left out that nobody counts here: the last inference, executions, and how long a request
waited and what of it was the model's. Reference: github.com/triton-inference-server/server,
docs/protocol/extension_statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample
from pydantic import BaseModel

ASKING_ROUTES = (
    "/v1/predict",
    "/v1/models/{name}:predict",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
)
"""The routes that ask the model."""
STRANGERS = ("401", "403", "404", "405")
"""Statuses of requests that had no key for the model, or another model in mind."""


class Duration(BaseModel):
    """How many requests, and how long they took in all, in nanoseconds."""

    count: int
    ns: int


class RequestStatistics(BaseModel):
    """Requests that were answered, withheld rows and all, and those that were refused or failed."""

    success: Duration
    fail: Duration


class ModelStatistics(BaseModel):
    """`inference_count` is the number of rows answered since the server started, by every route."""

    name: str
    version: str
    inference_count: int
    inference_stats: RequestStatistics


class ServedStatistics(BaseModel):
    """The statistics of every model, of which there is one."""

    model_stats: list[ModelStatistics]


def model_statistics(registry: CollectorRegistry, name: str, version: str) -> ModelStatistics:
    """The statistics of the one model that is served, of all callers together."""
    samples = [sample for family in registry.collect() for sample in family.samples]
    timed = [each for each in samples if each.labels.get("route") in ASKING_ROUTES]
    refused = [each for each in timed if each.labels["status"] >= "400" and each.labels["status"] not in STRANGERS]
    answered = [each for each in timed if each.labels["status"] == "200"]
    return ModelStatistics(
        name=name,
        version=version,
        inference_count=int(_total(samples, "medward_rows_total")),
        inference_stats=RequestStatistics(success=_duration(answered), fail=_duration(refused)),
    )


def _duration(samples: Iterable[Sample]) -> Duration:
    samples = [*samples]
    count, seconds = (_total(samples, f"medward_request_seconds_{each}") for each in ("count", "sum"))
    return Duration(count=int(count), ns=round(seconds * 1e9))


def _total(samples: Iterable[Sample], name: str) -> float:
    return sum(each.value for each in samples if each.name == name)
