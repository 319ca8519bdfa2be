"""What certified training starts from, where it is not the user's network as it came: fresh weights, or a network of ours.

Neither happens unless it is said.
"""

from __future__ import annotations

import copy

from torch import nn

from medward.guard.errors import MedwardError
from medward.guard.harden.certified.architecture import Standardised, certified_network
from medward.guard.harden.losses.base import TaskLosses
from medward.guard.harden.losses.findings import FindingLosses
from medward.guard.harden.losses.numbers import NumberLosses
from medward.guard.harden.network import ROWS_PER_BATCH, Rows, raw_scores
from medward.guard.models.torch_front import Fronted
from medward.guard.spec import AnyTask
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel


def fresh_weights(network: nn.Module) -> nn.Module:
    """A copy of `network` whose trained weights are drawn anew, layer by layer, as torch does; frozen ones stay.

    Draws from torch's global random state. Raises `MedwardError` for a layer that cannot draw its own.
    """
    made = copy.deepcopy(network)
    for layer in made.modules():
        own = [*layer.parameters(recurse=False)]
        if not own or (any(each.requires_grad for each in made.parameters()) and not any(p.requires_grad for p in own)):
            continue
        if not callable(draw := getattr(layer, "reset_parameters", None)):
            raise MedwardError(
                f"start: {type(layer).__name__} cannot draw its weights anew, for it has no reset_parameters(); start "
                "from those it was given"
            )
        draw()
    return made


def our_network(network: nn.Module, rows: Rows, task: AnyTask, losses: TaskLosses, *, width: int) -> nn.Module:
    """A network of ours behind the front of `network`, for the same rows, with outputs read as those of `network` are."""
    sample = rows.x[:ROWS_PER_BATCH]
    scores, made = raw_scores(network, sample), None
    if isinstance(network, Fronted):
        made = copy.deepcopy(network).cpu()
        made.net, made.output_key = nn.Identity(), None
    columns = 1 if scores.ndim == 1 else scores.shape[1]
    net = certified_network(sample if made is None else made(sample), columns, width=width)
    net.extend(_last_layers(task, rows, losses))
    if made is None:
        return net
    made.net = net
    return made


def _last_layers(task: AnyTask, rows: Rows, losses: TaskLosses) -> list[nn.Module]:
    """What makes probabilities of logits where the task has them, or brings a number to its place and width."""
    if isinstance(losses, NumberLosses):
        return [Standardised(rows.y.float().mean(), rows.y.float().std(), inverse=True)]
    if not isinstance(task, Classification | Multilabel) or task.output == "logits":
        return []
    return [nn.Sigmoid() if isinstance(losses, FindingLosses) or _one_column(task) else nn.Softmax(dim=1)]


def _one_column(task: AnyTask) -> bool:
    return isinstance(task, Classification) and task.one_column
