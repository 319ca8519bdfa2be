"""Reading what Flower's clients reply: each reply by itself, so that a broken one costs its sender and nobody else."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from medward.guard.federated.client_metrics import shared_metrics
from medward.guard.federated.sanitise import Refusal
from medward.guard.federated.update import ClientUpdate

_ARRAYS, _METRICS = "arrays", "metrics"  # names of the records that a strategy is handed
_STORED = "numpy.ndarray"  # how Flower says that an array is in NumPy's format
_HEADER = 4096  # bytes of an array's message that are not its numbers, at most


def read_replies(
    replies: Iterable[Message], asked: Mapping[int, str], own: ArrayRecord | None, weight: str
) -> tuple[list[ClientUpdate], list[Refusal]]:
    """The updates that could be read, in the order of their clients' names, and the refusals of the others.

    `asked` names the nodes of this round, `own` is the model that they were sent (None where none is sent back), and
    `weight` the metric in which a client says its examples. One broken reply of a node stands for all of its replies.
    """
    updates: list[ClientUpdate] = []
    refusals: list[Refusal] = []
    for reply in replies:
        read = read_reply(reply, reply_name(reply, asked), own, weight)
        if isinstance(read, Refusal):
            refusals.append(read)
        else:
            updates.append(read)
    broken = {each.node for each in refusals}
    kept = [each for each in updates if each.node not in broken]
    return sorted(kept, key=lambda each: each.node), list(dict.fromkeys(refusals))


def reply_name(reply: Message, asked: Mapping[int, str]) -> str:
    """The name of a reply's sender; a stranger is named by its number."""
    sender = reply.metadata.src_node_id
    return asked.get(sender, f"node {sender}")


def read_reply(reply: Message, node: str, own: ArrayRecord | None, weight: str) -> ClientUpdate | Refusal:
    """The update in a reply, or why there is none; nothing that a client can send raises."""
    if reply.has_error():
        return Refusal(node, f"failed with error {reply.error.code}: {reply.error.reason}")
    if not reply.has_content():
        return Refusal(node, "replied without content")
    arrays, metrics = list(reply.content.array_records.values()), list(reply.content.metric_records.values())
    if len(metrics) != 1:
        return Refusal(node, f"sent {len(metrics)} metric records; exactly 1 is read")
    if weight not in metrics[0]:
        return Refusal(node, f"does not say its {weight}")
    parameters: Sequence[np.ndarray] | Refusal = ()
    if own is not None:
        if len(arrays) != 1:
            return Refusal(node, f"sent {len(arrays)} array records; exactly 1 is read")
        parameters = _read_arrays(arrays[0], node, own)
    if isinstance(parameters, Refusal):
        return parameters
    return ClientUpdate(
        node=node, parameters=parameters, examples=metrics[0][weight], metrics=_finite_metrics(metrics[0], weight)
    )


def model_arrays(record: ArrayRecord) -> list[np.ndarray]:
    """The arrays of a record, in its order."""
    return [array.numpy() for array in record.values()]


def array_numbers(array: Array) -> np.ndarray:
    """The numbers of an array, read where they lie in its message: copying all replies would cost more than a round.

    Raises `ValueError` or `TypeError` where there are none.
    """
    if array.stype != _STORED:
        raise TypeError(f"array stored as {array.stype}; {_STORED} is read")
    message = io.BytesIO(array.data)
    version = np.lib.format.read_magic(message)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = read_header(message)
    if dtype.kind not in "fiubc" or any(side < 0 for side in shape):
        raise ValueError(f"array of {dtype} and shape {shape}; numbers are read")
    return np.ndarray(shape, dtype, array.data, message.tell(), order="F" if fortran else "C")


def model_record(parameters: Sequence[np.ndarray], like: ArrayRecord) -> ArrayRecord:
    """The record of `parameters` under the names of `like`."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in zip(like, parameters, strict=True)})


def rewritten(
    replies: Iterable[Message],
    taken: Sequence[tuple[ClientUpdate, float]],
    asked: Mapping[int, str],
    own: ArrayRecord | None,
    weight: str,
) -> list[Message]:
    """The replies of the updates in `taken` as any strategy of Flower takes them, each with the examples given there.

    Arrays are in the order of the model's, for some strategies go by order. Metrics are those that all clients sent:
    Flower ends a run in which one client adds a metric or leaves one out.
    """
    first = {reply_name(reply, asked): reply for reply in reversed(list(replies))}
    shared = shared_metrics([update for update, _ in taken])
    messages = []
    for update, examples in taken:
        reply = first[update.node]
        told = MetricRecord({weight: examples, **{name: update.metrics[name] for name in shared}})
        content = RecordDict({_METRICS: told})
        if own is not None:
            (sent,) = reply.content.array_records.values()
            content[_ARRAYS] = ArrayRecord({name: sent[name] for name in own})
        reply.content = content
        messages.append(reply)
    return messages


def _finite_metrics(metrics: MetricRecord, weight: str) -> dict[str, float]:
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float) and name != weight}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _read_arrays(sent: ArrayRecord, node: str, own: ArrayRecord) -> list[np.ndarray] | Refusal:
    if unlike := sorted(set(sent) ^ set(own)):
        return Refusal(
            node, f"array {unlike[0][:100]!r} is {'sent' if unlike[0] in sent else 'missing'}, unlike the model's"
        )
    parameters = []
    for name, array in own.items():
        if len(sent[name].data) > len(array.data) + _HEADER:
            return Refusal(node, f"array {name!r} has {len(sent[name].data)} bytes; the model's has {len(array.data)}")
        try:
            parameters.append(array_numbers(sent[name]))
        except Exception as error:
            return Refusal(node, f"array {name!r} cannot be read: {type(error).__name__}")
    return parameters
