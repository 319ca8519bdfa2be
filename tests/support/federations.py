"""A federation in memory: a grid of Flower whose nodes are functions."""

from __future__ import annotations

import hashlib

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # as a server's process has them


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
