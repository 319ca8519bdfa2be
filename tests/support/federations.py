"""A federation in memory: a grid of Flower whose nodes are functions, and clients that behave or do not."""

from __future__ import annotations

import hashlib

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # as a server's process has them

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
    """What the server sees of each update: what it changed."""
    return {update.node: {"change": np.asarray(update.parameters[0], np.float64) - start[0] - 1} for update in updates}


class FakeGrid:
    """Nodes by number; `asked` says in which round which place was asked to train."""

    def __init__(self, clients, evaluate=(), first_number=100):
        self.clients, self.evaluate, self.first = clients, evaluate, first_number
        self.asked, self.repeat, self.uninvited = [], set(), 0

    def key(self, place):
        return b"key %d" % place

    def name(self, place):
        return hashlib.sha256(self.key(place)).hexdigest()[:16]

    def get_nodes(self):
        numbers = [self.first + (7 * place) % 50 for place in range(len(self.clients))]
        return [NodeInfo(node_id=number, public_key=self.key(place)) for place, number in enumerate(numbers)]

    def get_node_ids(self):
        return [node.node_id for node in self.get_nodes()]

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            place = self.get_node_ids().index(message.metadata.dst_node_id)
            replies += [self._reply(message, place)] * (1 + (place in self.repeat))
        if replies and self.uninvited:
            stranger = self._reply(message, 0)
            stranger.metadata.__dict__["_src_node_id"] = 999
            replies.append(stranger)
        return replies

    def _reply(self, message, place):
        number = message.content["config"]["server-round"]
        model = {name: each.numpy() for name, each in message.content["arrays"].items()}
        training = message.metadata.message_type == "train"
        if training:
            self.asked.append((number, place))
        made = (self.clients if training else self.evaluate)[place](model, number, place)
        return Message(made, reply_to=message)
