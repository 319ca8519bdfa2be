"""The ceiling of robust accuracy: what no classifier can exceed on given rows, whatever it is.

Two rows of different classes that lie within two radii of each other have a point in common that either can be moved
to, and no classifier is right about both there. The least number of rows that any classifier gets wrong is a minimum
vertex cover of the graph of such pairs. With two classes the graph is bipartite and that is its maximum matching
(König); with more the matching of one class against the rest is still a number that no classifier goes below, and the
largest of these is taken. A classifier that is right about a share a of the rows as they are can therefore be moved on
a share of a less the ceiling at least. One that may refuse to answer is not bound by it.

Reference: Bhagoji, Cullina and Mittal, "Lower bounds on adversarial robustness from optimal transport", NeurIPS 2019;
Yang, Rashtchian, Wang and Chaudhuri, "Robustness for non-parametric classification", AISTATS 2020 (pruning by vertex
cover).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from medward.attacks.base import AttackData
from medward.attacks.evasion.per_image import PerImage
from medward.attacks.whitebox.ball import Ball, Norm
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints

_FEATURES = 32  # compared at once
_PAIRS = 100_000  # compared at once
_INWARDS = 1 - 1e-6  # what rounding of inputs may do never joins two rows

Reach = NDArray[np.float64]
"""How far ``(d,)`` either of two rows may be moved in each coordinate."""


def robust_ceiling(inputs: Array, labels: Ints, reach: Reach, norm: Norm = "inf") -> float:
    """The highest accuracy that any classifier has on rows `inputs (n, d)` whose each is moved within `reach (d,)`.

    Coordinates of no reach must be equal for two rows to meet. 1 where no rows of different classes meet, and without
    rows.
    """
    if not len(inputs):
        return 1.0
    wrong = max(_matching(inputs, labels == each, reach, norm) for each in np.unique(labels))
    return 1 - wrong / len(inputs)


def ball_reach(ball: Ball, shape: tuple[int, ...]) -> Reach:
    """How far a row of `shape` may be moved in each coordinate; whole-numbered ones by whole steps."""
    reach = np.broadcast_to(ball.radius.cpu().numpy().astype(np.float64), shape).reshape(-1).copy()
    if ball.whole is not None:
        whole = ball.whole.cpu().numpy().reshape(-1)
        reach[whole] = np.floor(reach[whole])
    return reach


def unavoidable_share(accuracy: float, ceiling: float) -> float:
    """The least share of rows on which a classifier of that clean `accuracy`, which always answers, can be moved."""
    return max(0.0, accuracy - ceiling)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A ceiling is what no classifier exceeds on some rows, beside the clean `accuracy` of one model there."""

    highest: float
    accuracy: float

    @property
    def unavoidable(self) -> float:
        """The least share of the rows on which a classifier of that clean accuracy can be moved, if it answers all."""
        return unavoidable_share(self.accuracy, self.highest)

    @property
    def figures(self) -> dict[str, float]:
        """For the report, by name."""
        return {
            "ceiling: highest accuracy of any classifier at this radius": self.highest,
            "least fooled at this clean accuracy": self.unavoidable,
        }

    def sentence(self, limit: float) -> str:
        """Why a bound of `limit` asks too much of any such classifier; empty where it does not."""
        if self.unavoidable <= limit:
            return ""
        return (
            f"No classifier that is right about {self.accuracy:.1%} of these rows and answers all could keep the "
            f"bound: at this radius none is right about more than {self.highest:.1%}, so at least "
            f"{self.unavoidable:.1%} can be fooled. Argue a smaller radius, or have answers refused."
        )


def model_ceiling(attack: PerImage, spec: ModelSpec, data: AttackData) -> Ceiling | None:
    """The ceiling of the rows in ``data.test`` within the radius of an `attack` on single inputs.

    None where rows have no labels of classes, or it is not known what the model decides on them.
    """
    labels, decided = data.test.labels, data.reference
    if not isinstance(spec.task, Classification) or labels is None or decided is None or not len(labels):
        return None
    ball = Ball.of(spec, data.craft.inputs, attack.epsilon, norm=attack.norm, rules=attack.rules)
    rows = np.asarray(data.test.inputs, np.float64).reshape(len(labels), -1)
    highest = robust_ceiling(rows, np.asarray(labels), ball_reach(ball, spec.shape), attack.norm)
    return Ceiling(highest, float(np.mean(decided == labels)))


def _matching(inputs: Array, side: NDArray[np.bool_], reach: Reach, norm: Norm) -> int:
    """The size of a maximum matching of the rows on one `side (n,)` with those on the other that they can meet."""
    rows = np.asarray(inputs, np.float64)
    first, second = meeting_pairs(rows[side], rows[~side], reach, norm)
    if not len(first):
        return 0
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(int(side.sum()), int((~side).sum())))
    return int((maximum_bipartite_matching(graph.tocsr(), perm_type="column") >= 0).sum())


def meeting_pairs(
    first: NDArray[np.float64], second: NDArray[np.float64], reach: Reach, norm: Norm = "inf"
) -> tuple[Ints, Ints]:
    """The rows of `first (m, d)` and of `second (k, d)` that can be moved to a common point, pair by pair."""
    moved = reach > 0
    if norm == "2":
        scaled = [rows[:, moved] / reach[moved] for rows in (first, second)]
        near = cdist(*scaled) <= 2 * _INWARDS
        one, other = np.nonzero(near)
        same = (first[one][:, ~moved] == second[other][:, ~moved]).all(axis=1)
        return one[same], other[same]
    order = np.argsort(-np.concatenate([first, second]).var(axis=0))  # what differs most tells pairs apart soonest
    one, other = (each.ravel() for each in np.indices((len(first), len(second))))
    for start in range(0, len(order), _FEATURES):
        some = order[start : start + _FEATURES]
        near = np.concatenate(
            [
                (
                    np.abs(first[np.ix_(one[i : i + _PAIRS], some)] - second[np.ix_(other[i : i + _PAIRS], some)])
                    <= 2 * _INWARDS * reach[some]
                ).all(axis=1)
                for i in range(0, len(one), _PAIRS)
            ]
            or [np.zeros(0, bool)]
        )
        one, other = one[near], other[near]
        if not len(one):
            break
    return one, other
