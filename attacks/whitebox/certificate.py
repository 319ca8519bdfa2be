"""The certificate of answers as an attacker follows it: the deployed graph of bounds, run by torch.

An attacker who knows the guard does not look for an input that is decided otherwise, for such an answer goes to a
person, but for one whose *certificate* says otherwise. What is climbed is therefore the very graph that certifies, its
radius fixed: the least that a class leads all others by, over the ball about the input. `CertifiedNetwork` gives these
leads beside the model's own scores, and `attacks.whitebox.certified_change` says what success is.

Reference: Tramer, Carlini, Brendel, Madry, "On adaptive attacks to adversarial example defenses", NeurIPS 2020.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from medward.attacks.whitebox.forward import scores_and_features
from medward.attacks.whitebox.onnx.to_torch import OnnxNetwork
from medward.attacks.whitebox.outputs import judged_scores
from medward.guard.certify.affine import class_pairs
from medward.guard.certify.certifier import Certifier
from medward.guard.certify.network_bounds import LOWER, RADIUS, UPPER, NetworkBounds
from medward.guard.certify.rounding import rounded_up
from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.types import Array

_AGREEMENT = 1e-3
"""How far bounds by torch may lie from those of the runtime, of the largest above 1."""


class CertifiedNetwork(nn.Module):
    """The scores of `network` ``(n, K)``, and behind them what a certificate leaves of them.

    Of classes that is how far each leads all others at least ``(n, K)``, positive where it is certified. Of findings
    it is the least and the largest log odds beyond each threshold ``(n, 2 K)``.
    """

    def __init__(self, network: nn.Module, graph: OnnxNetwork, bounds: NetworkBounds, spec: ModelSpec) -> None:
        super().__init__()
        self.network, self.graph = network, graph
        self.spec, self._axes, self._differences = spec, bounds.axes, bounds.differences

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores with what is certified of them, and the features that the network shows."""
        scores, features = scores_and_features(self.network, x)
        lower, upper = self.between(x)
        return torch.cat([scores, self._proven(lower, upper)], dim=1), features

    def forward(self, x: Tensor) -> Tensor:
        """The scores, and what is certified of them."""
        return self.both(x)[0]

    def between(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the deployed bounds give ``(n, m)``, differentiable in `x`."""
        lower, upper = self.graph.both(x.flatten(1) if self._axes == 2 else x)
        assert upper is not None
        return lower.flatten(1), upper

    def _proven(self, lower: Tensor, upper: Tensor) -> Tensor:
        task = self.spec.task
        if isinstance(task, Multilabel):
            return torch.cat([judged_scores(lower, self.spec), judged_scores(upper, self.spec)], dim=1)
        if not isinstance(task, Classification):
            raise TypeError(f"certificates of classes and findings can be followed, not of {task.kind}")
        if self._differences:
            border = self.spec.border
            return class_leads(lower - border, upper - border, len(task.classes))
        if task.one_column:
            least, most = (judged_scores(each, self.spec)[:, 1:] for each in (lower, upper))
            return class_leads(least, most, 2)
        if task.threshold is not None:  # the second's odds are least where the first's score is largest
            ends = (torch.stack([upper[:, 0], lower[:, 1]], dim=1), torch.stack([lower[:, 0], upper[:, 1]], dim=1))
            least, most = (judged_scores(each, self.spec)[:, 1:] for each in ends)
            return class_leads(least, most, 2)
        first, second = (torch.as_tensor(each) for each in class_pairs(len(task.classes)))
        return class_leads(lower[:, second] - upper[:, first], upper[:, second] - lower[:, first], len(task.classes))


def class_leads(lower: Tensor, upper: Tensor, classes: int) -> Tensor:
    """The least lead ``(n, K)`` of each class over all others, from bounds of the differences j - i for i < j."""
    first, second = class_pairs(classes)
    leads = []
    for each in range(classes):
        over = [lower[:, place] for place, j in enumerate(second) if j == each]
        under = [-upper[:, place] for place, i in enumerate(first) if i == each]
        leads.append(torch.stack(over + under, dim=1).amin(dim=1))
    return torch.stack(leads, dim=1)


def followed_certificate(
    network: nn.Module, certifier: Certifier, sample: Array
) -> tuple[CertifiedNetwork | None, str]:
    """The certificate of `network` at the policy's radius, compared with the deployed one on `sample`; or why not.

    No network, and no reason, where bounds are of trees, of which no gradient exists, or of a number.
    """
    bounds, spec = certifier.bounds.model, certifier.bounds.spec
    if not isinstance(bounds, NetworkBounds) or not isinstance(spec.task, Classification | Multilabel):
        return None, ""
    radius = rounded_up(np.asarray(certifier.asked * certifier.scale, np.float64))
    try:
        found = CertifiedNetwork(network, _with_radius(bounds, radius), bounds, spec).eval()
        with torch.no_grad():
            seen = found.between(torch.as_tensor(sample, dtype=torch.float32))
            shape = found(torch.as_tensor(sample, dtype=torch.float32)).shape
    except MedwardError as error:
        return None, str(error)
    except Exception as error:  # a graph that torch cannot follow can raise nearly anything
        return None, f"torch cannot run the graph of bounds: {first_line(error)}"
    known = certifier.bounds.between(sample, radius)
    assert len(shape) == 2
    for ours, theirs in zip(seen, (known.lower, known.upper), strict=True):
        apart = np.abs(ours.numpy() - theirs).max() / max(1.0, float(np.abs(theirs).max()))
        if not apart <= _AGREEMENT:
            return None, f"bounds by torch differ from the deployed ones by {apart:.2g}"
    return found, ""


def _with_radius(bounds: NetworkBounds, radius: Array) -> OnnxNetwork:
    """The graph of bounds with `radius` as one of its weights."""
    model = onnx.load_from_string(bounds.data)
    around = radius[None] if radius.ndim else radius.reshape([1] * bounds.axes)
    around = around.reshape(1, -1) if bounds.axes == 2 else around
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(around, np.float32), RADIUS))
    return OnnxNetwork(model, LOWER, UPPER)
