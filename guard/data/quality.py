"""How well a model does on the labelled rows it is calibrated on, and whether its class names look exchanged.

Two claims are tested, each on one row per patient. *Better than chance*: balanced accuracy beside that of the same
decisions in random orders, an exact permutation test (Davison and Hinkley 1997, sec. 4.3); without that, a warning.
*Exchanged names*: for two classes an area under the ROC curve clearly below 1/2 (Mann and Whitney 1947, normal
approximation); for more, most rows of each class are decided as one class, no two as the same, and where that is not
their own, clearly more often than their own (exact sign tests). No honest model, however weak, does either, so that is
refused; with too few rows for "clearly" a person is warned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from medward.guard.errors import MedwardError
from medward.guard.release.scores import probabilities
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

CERTAIN = 0.0005  # how rarely chance alone may lead to a refusal
DOUBT = 0.05  # how often chance alone may do as well before a person is warned
_REMEDY = "give --classes in the order of the scores, or correct the labels"
ORDERS = 999
_CLEARLY = 0.02  # of balanced accuracy


class Quality(BaseModel):
    """What a model decided on labelled calibration rows, beside the truth.

    `balanced_accuracy` is the mean recall of the `classes` that the labels hold; `auc` the area under the ROC curve, of
    the second class for two, else the mean of one class against the rest; `chance` how often decisions in a random
    order would do as well. `auc` and `chance` are None when the labels hold one class only. `exchanged_names` are
    classes that may have each other's names, on too few rows to refuse them; `other_way` is said of an operating point
    that would do better for the first class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rows: int
    classes: int
    accuracy: float
    balanced_accuracy: float
    auc: float | None
    chance: float | None
    exchanged: dict[str, str] = {}
    other_way: str = ""

    def __str__(self) -> str:
        area = "" if self.auc is None else f", AUC {self.auc:.3f}"
        return (
            f"on {self.rows} labelled calibration rows: accuracy {self.accuracy:.3f}, "
            f"balanced accuracy {self.balanced_accuracy:.3f}{area}"
        )

    @property
    def doubt(self) -> str:
        """What a person should look into, or nothing."""
        if self.exchanged:
            return f"the class names may be exchanged: {_told(self.exchanged)}; {_REMEDY}"
        if self.other_way:
            return self.other_way
        if self.chance is None or self.chance <= DOUBT:
            return ""
        return (
            f"the decisions are no better than chance on these labels: balanced accuracy {self.balanced_accuracy:.3f}, "
            f"chance gives {1 / self.classes:.3f}; check the order of the classes, the range and layout of the data, "
            "and whether the labels are the model's"
        )


def measure_quality(
    scores: Array, decided: Ints, labels: Ints, spec: ModelSpec, patients: Ints | None = None
) -> Quality:
    """The quality of the decisions `decided (n,)` and `scores (n, K)` of a model on rows of known `labels`.

    Raises `MedwardError` when the class names look exchanged.
    """
    once = np.arange(len(labels)) if patients is None else np.unique(patients, return_index=True)[1]
    moved: dict[str, str] = {}
    if len(spec.classes) == 2:
        _check_two(scores[once], labels[once], spec.classes)
    else:
        moved = _check_many(decided[once], labels[once], spec.classes)
    present = np.unique(labels)
    alone = len(present) < 2
    return Quality(
        rows=len(labels),
        classes=len(present),
        accuracy=float((decided == labels).mean()),
        balanced_accuracy=balanced_accuracy(decided, labels),
        auc=None if alone else mean_auc(probabilities(scores, spec.output), labels),
        chance=None if alone else by_chance(decided[once], labels[once]),
        exchanged=moved,
        other_way="" if spec.threshold is None else _other_way(scores, decided, labels, spec, spec.threshold),
    )


def _other_way(scores: Array, decided: Ints, labels: Ints, spec: ModelSpec, threshold: float) -> str:
    """What to say of a threshold that fits the first of two classes clearly better than the second; "" elsewhere.

    scikit-learn sorts the names of classes, so that of event and no-event it is the latter that comes second.
    """
    first, second = spec.classes
    turned = np.where(probabilities(scores, spec.output)[:, 0] >= threshold, 0, 1)
    own, other = balanced_accuracy(decided, labels), balanced_accuracy(turned, labels)
    if other <= own + _CLEARLY:
        return ""
    return (
        f"the threshold {threshold:g} is that of {second!r}, the second class: {second!r} is decided from that "
        f"probability on, with a balanced accuracy of {own:.3f}; were {first!r} decided from it on, it would be "
        f"{other:.3f}; if {first!r} is the finding, give --threshold {1 - threshold:.12g}, or a model "
        "that has it second"
    )


def balanced_accuracy(decided: Ints, labels: Ints) -> float:
    """Mean recall over the classes that `labels` hold."""
    return float(np.mean([(decided[labels == each] == each).mean() for each in np.unique(labels)]))


def auc(scores: ArrayLike, truth: ArrayLike) -> float:
    """Chance that a member outscores a non-member, ties counting half; 0.5 when one kind is missing."""
    values, members = np.asarray(scores, np.float64), np.asarray(truth, bool)
    if members.all() or not members.any():
        return 0.5
    inside, outside = values[members], np.sort(values[~members])
    below = np.searchsorted(outside, inside, "left") + np.searchsorted(outside, inside, "right")
    return float(below.mean() / 2 / len(outside))


def mean_auc(scores: Array, labels: Ints) -> float:
    """AUC of the second of two classes, else the mean over the classes that `labels` hold of one against the rest."""
    judged = [1] if scores.shape[1] == 2 else np.unique(labels).tolist()
    return float(np.mean([auc(scores[:, each], labels == each) for each in judged]))


def by_chance(decided: Ints, labels: Ints, orders: int = ORDERS, seed: int = 0) -> float:
    """How often `decided` in a random order has at least the balanced accuracy it has: an exact p-value."""
    rng = np.random.default_rng(seed)
    weight = (1 / np.bincount(labels).clip(1))[labels]
    own = weight @ (decided == labels)
    as_good = sum(bool(weight @ (rng.permutation(decided) == labels) >= own - 1e-9) for _ in range(orders))
    return (1 + as_good) / (1 + orders)


def exchanged_names(decided: Ints, labels: Ints, classes: int) -> tuple[Ints, bool] | None:
    """For each class the one that its rows are decided as, where that is another order of the classes; if clearly so.

    None when most rows of every class are decided as their own, or those of two classes as the same.
    """
    seen = np.bincount(labels * classes + decided, minlength=classes**2).reshape(classes, classes)
    present = np.flatnonzero(seen.sum(axis=1))
    most = np.asarray(np.where(seen.sum(axis=1) > 0, seen.argmax(axis=1), np.arange(classes)), np.int64)
    moved = [each for each in present.tolist() if seen[each, most[each]] > seen[each, each]]
    if not moved or len(np.unique(most[present])) < len(present):
        return None
    tests = len(moved) * (classes - 1)  # each against the likeliest of so many other classes
    certain = all(sign_test(int(seen[each, most[each]]), int(seen[each, each])) <= CERTAIN / tests for each in moved)
    return most, certain


def sign_test(wins: int, losses: int) -> float:
    """How likely a fair coin shows at least `wins` heads in ``wins + losses`` throws."""
    n = wins + losses
    logs = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(wins, n + 1))
    return min(1.0, sum(math.exp(each - n * math.log(2)) for each in logs))


def below_half(area: float, members: int, others: int, certain: float = CERTAIN) -> bool:
    """Whether chance takes an AUC of so many `members` and `others` as far below 1/2 in `certain` of cases at most."""
    if not members or not others:
        return False
    deviation = math.sqrt((members + others + 1) / (12 * members * others))
    return (area - 0.5) / deviation <= NormalDist().inv_cdf(certain)


def _check_two(scores: Array, labels: Ints, classes: Sequence[str]) -> None:
    """Refuse two classes whose scores clearly rank the other way round."""
    area, members = auc(scores[:, 1] - scores[:, 0], labels == 1), int((labels == 1).sum())
    if below_half(area, members, len(labels) - members):
        raise MedwardError(
            f"classes: the names look exchanged: {classes[1]!r} scores lower where the labels say it than elsewhere, "
            f"AUC {area:.3f}; with {classes[0]} and {classes[1]} exchanged it would be {1 - area:.3f}; {_REMEDY}"
        )


def _check_many(decided: Ints, labels: Ints, classes: Sequence[str]) -> dict[str, str]:
    """Classes whose rows are decided as another's, all in another order; refused when that is clear."""
    found = exchanged_names(decided, labels, len(classes))
    if found is None:
        return {}
    order, certain = found
    moved = {classes[k]: classes[other] for k, other in enumerate(order.tolist()) if other != k}
    if certain:
        after, now = (float((each == decided).mean()) for each in (order[labels], labels))
        raise MedwardError(
            f"classes: the names look exchanged: {_told(moved)}; with these exchanged the accuracy would be "
            f"{after:.3f}, not {now:.3f}; {_REMEDY}"
        )
    return moved


def _told(moved: Mapping[str, str]) -> str:
    """Which classes' rows are decided as which, the first few."""
    shown = [f"{own!r} are decided as {other!r}" for own, other in moved.items()]
    return "rows labelled " + ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")
