"""Clients of a federation that behave or do not, and what a server sees of them."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

CLIENTS = 4
MODEL = {"layer": np.zeros(3, np.float32), "count": np.array(5, np.int64)}


def honest(model, number, place):
    """A step that differs by chance from round to round and client to client, the same whenever it is asked for."""
    step = 1 + 0.1 * np.random.default_rng([number, place]).normal(size=3)
    return reply_content(model, step, examples=10 + place)


def poisoned(model, number, place):
    """An honest step and, in one direction, a steady push."""
    step = 1 + 0.1 * np.random.default_rng([number, place]).normal(size=3) + np.array([2.0, 0, 0])
    return reply_content(model, step, examples=10 + place)


def reply_content(model, step, examples):
    arrays = {"layer": (model["layer"] + step).astype(np.float32), "count": model["count"] + 1}
    metrics = {"num-examples": examples, "loss": float(np.abs(arrays["layer"]).mean())}
    return RecordDict(
        {
            "arrays": ArrayRecord({name: Array(np.asarray(each)) for name, each in arrays.items()}),
            "metrics": MetricRecord(metrics),
        }
    )


def change_probe(start, updates, number):
    """What the server sees of each update: how its change differs from the median one, 1 being out of the ordinary."""
    changes = {update.node: np.asarray(update.parameters[0], np.float64) - start[0] for update in updates}
    middle = np.median(list(changes.values()), axis=0)
    return {node: {"change": (change - middle) / 0.3} for node, change in changes.items()}
