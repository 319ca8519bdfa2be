"""What certified training starts from where not from the network as it came: fresh weights, or a network of ours.

Neither happens unless it is said.
"""

from __future__ import annotations

import copy

from torch import nn

from medward.guard.errors import MedwardError
from medward.guard.harden.certified.architecture import Standardised, certified_network
from medward.guard.harden.method import GivenModel
from medward.guard.harden.network import ROWS_PER_BATCH, raw_scores
from medward.guard.models.torch_front import Fronted
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.regression import Regression


def fresh_weights(network: nn.Module) -> nn.Module:
    """A copy of `network` whose trained weights are drawn anew, layer by layer, as torch does; frozen ones stay.

    Draws from torch's global random state. Raises `MedwardError` for a layer that cannot draw its own.
    """
    made = copy.deepcopy(network)
    all_frozen = not any(each.requires_grad for each in made.parameters())
    for layer in made.modules():
        if not any(each.requires_grad or all_frozen for each in layer.parameters(recurse=False)):
            continue
        if not callable(draw := getattr(layer, "reset_parameters", None)):
            raise MedwardError(
                f"start: {type(layer).__name__} cannot draw its weights anew, for it has no reset_parameters(); start "
                "from those it was given"
            )
        draw()
    return made


def our_network(given: GivenModel, *, width: int) -> nn.Module:
    """A network of ours behind the user's front, for the same rows, with outputs that are read as the user's are."""
    sample = given.rows.x[:ROWS_PER_BATCH]
    scores = raw_scores(given.network, sample)
    columns = 1 if scores.ndim == 1 else scores.shape[1]
    if not isinstance(given.network, Fronted):
        return certified_network(sample, columns, width=width).extend(_last_layers(given))
    made = copy.deepcopy(given.network).cpu()
    made.net, made.output_key = nn.Identity(), None
    made.net = certified_network(made(sample), columns, width=width).extend(_last_layers(given))
    return made


def _last_layers(given: GivenModel) -> list[nn.Module]:
    """What makes probabilities of logits where the task has them, or brings a number to its place and width."""
    task, y = given.task, given.rows.y
    if isinstance(task, Regression):
        return [Standardised(y.float().mean(), y.float().std(), inverse=True)]
    if isinstance(task, Classification) and task.output == "probabilities":
        return [nn.Sigmoid() if task.one_column else nn.Softmax(dim=1)]
    return [nn.Sigmoid()] if isinstance(task, Multilabel) and task.output == "probabilities" else []
