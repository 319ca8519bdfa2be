"""Differential privacy for a Flower client: a mod that trains itself, for none can make another's training private.

Flower's own `LocalDpMod` adds noise to a model once a round and counts nothing. Here every step of the local training
is clipped for each patient and noised, and what all rounds have spent is counted on the client's own disk and said in
each reply.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from flwr.app import ArrayRecord, Context, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode
from torch import nn

from medward.guard.errors import MedwardError
from medward.guard.federated.round_record import EPSILON_METRIC
from medward.guard.harden.private.rounds import PrivateRounds
from medward.guard.models.base import first_line

_log = logging.getLogger("medward")


class PrivateTrainingMod:
    """A private training mod answers train messages itself: private rounds on the client's rows, and what they spent.

    `network` makes the federation's network, whose weights the message brings; `rounds` gives the client's private
    rounds, made once for each process. The app's own train function is not called. Messages of other kinds are passed
    on: what an evaluation on the rows trained on says of them is not covered, so let it use rows set apart.

    A reply has the weights, the number of units as `weight_key`, and epsilon, delta and the rounds left. Once all is
    spent, and where the message or training fails, it is an error without weights; why training failed stands in the
    client's own log only, for it may say something of the rows.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module],
        rounds: Callable[[Context], PrivateRounds],
        *,
        weight_key: str = "num-examples",
    ) -> None:
        self.network, self.rounds, self.weight_key = network, rounds, weight_key
        self._opened: dict[int, PrivateRounds] = {}

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """The reply to `message`; it never raises what a server could learn from."""
        if message.metadata.message_type.partition(".")[0] != MessageType.TRAIN:
            return call_next(message, context)
        try:
            module = self.network()
            name = _take_weights(module, message)
        except MedwardError as error:
            return _refused(message, str(error))
        except Exception:
            _log.exception("the network could not take the server's weights")
            return _refused(message, "the message could not be read; the client's own log says why")
        try:
            if context.node_id not in self._opened:
                self._opened[context.node_id] = self.rounds(context)
            rounds = self._opened[context.node_id]
            if rounds.spending().left == 0:
                return _refused(message, "the privacy budget is spent; nothing more is trained on these rows")
            spending = rounds.train(module)
        except Exception:  # Flower would send its text to the server
            _log.exception("private training failed")
            return _refused(message, "private training failed; the client's own log says why")
        said = {
            self.weight_key: rounds.plan.units,
            EPSILON_METRIC: spending.epsilon,
            "delta": spending.delta,
            "rounds-left": spending.left,
        }
        content = RecordDict({name: ArrayRecord(module.cpu().state_dict()), "metrics": MetricRecord(said)})
        return Message(content, reply_to=message)


def _take_weights(module: nn.Module, message: Message) -> str:
    """Load the message's weights into `module`; the name of their record. Raises `MedwardError` for others'."""
    records = message.content.array_records
    if len(records) != 1:
        raise MedwardError(f"message: has {len(records)} array records, and exactly 1 holds the weights")
    name: str
    name, record = next(iter(records.items()))
    try:
        module.load_state_dict(record.to_torch_state_dict())
    except (RuntimeError, TypeError, ValueError) as error:
        raise MedwardError(f"message: its arrays are not the network's weights: {first_line(error)}") from None
    for key, each in module.state_dict().items():
        if not bool(torch.isfinite(each).all()):
            raise MedwardError(f"message: the array {key} holds NaN or infinity")
    return name


def _refused(message: Message, reason: str) -> Message:
    return Message(Error(code=ErrorCode.MOD_FAILED_PRECONDITION, reason=reason), reply_to=message)
