"""The nouns of the serving path: what comes in, what is judged, what goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.tasks.decision import at_threshold, checked_threshold, decisions, threshold_odds

Array = NDArray[np.floating]
Ints = NDArray[np.int64]
Principal = tuple[str, ...]
"""Who asks, as a path from the organisation down to the key: ``("hospital-a", "radiology", "key-17")``."""

OutputKind = Literal["logits", "probabilities"]
Modality = Literal["image", "tabular"]
Layout = Literal["NHW", "NHWC", "NCHW"]
"""Which axis of an array of images is which: rows, height, width, channels."""


class Action(IntEnum):
    """What a defense asks for, as an ordered ladder: the strictest request wins."""

    ALLOW = 0
    FLAG = 1  # answer as usual, tell a person
    COARSEN = 2  # answer with the label only
    WITHHOLD = 3  # refuse, visibly

    @property
    def label(self) -> str:
        """The name used in policies, audit records and answers."""
        return self.name.lower()


class Level(IntEnum):
    """How much of the model's answer leaves, from everything to nothing."""

    FULL = 0
    ROUNDED = 1
    TOP = 2  # the largest of the rounded probabilities
    CODES = 3  # the nearest of a few typical answers
    LABEL = 4
    WITHHELD = 5

    @property
    def label(self) -> str:
        """The name used in policies, audit records and answers."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What a model takes and gives; checked once, at the door.

    ``shape`` excludes the batch axis: ``(C, H, W)`` for images, ``(D,)`` for tables. ``low`` and ``high``
    bound every input value. ``output`` says what a row of scores means; logits and probabilities are never
    confused. ``features`` is the width of the feature output, 0 when the model has none. ``layout`` is that of the
    image arrays the model was protected on, ``bits`` how many their whole-number pixels have (None: they were floats).
    ``threshold`` is the operating point of a model of two classes: the second one is decided where its probability is
    at least that.
    """

    name: str
    modality: Modality
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    output: OutputKind
    low: float | None = None
    high: float | None = None
    features: int = 0
    layout: Layout | None = None
    bits: int | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Refuse an operating point that is no probability strictly between 0 and 1, or of more than two classes."""
        object.__setattr__(self, "threshold", checked_threshold(self.threshold, len(self.classes)))

    @property
    def rule(self) -> str:
        """How the model decides, in words."""
        if self.threshold is None:
            return "decides the class with the largest score"
        negative, positive = self.classes
        return f"decides {positive} when its probability is at least {self.threshold}, else {negative}"

    @property
    def border(self) -> float:
        """The log odds of the positive class from which it is decided; 0 without an operating point."""
        return 0.0 if self.threshold is None else threshold_odds(self.threshold)

    def decide(self, scores: Array) -> Ints:
        """The class index ``(n,)`` the model decides by its own ``scores (n, K)``."""
        return decisions(scores, self.output, self.threshold)

    def judged(self, outputs: Outputs) -> Outputs:
        """The model's outputs as defenses judge them: the largest score of a row is the decision."""
        if self.threshold is None:
            return outputs
        return Outputs(at_threshold(outputs.scores, self.output, self.threshold), outputs.features)

    def check(self, inputs: object) -> Array:
        """Return `inputs` as a finite float32 batch ``(n, *shape)`` or say in one sentence what is wrong."""
        try:
            x = np.asarray(inputs)
            if x.dtype.kind not in "fiub":
                raise MedwardError(f"inputs: expected numbers, got dtype {x.dtype}")
            with np.errstate(over="ignore"):
                x = x.astype(np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, MedwardError):
                raise
            raise MedwardError(f"inputs: expected a numeric array of shape (n, {self._axes}), got {error}") from None
        if x.ndim != len(self.shape) + 1 or x.shape[1:] != self.shape or len(x) == 0:
            raise MedwardError(f"inputs: expected shape (n >= 1, {self._axes}), got {x.shape}")
        if not np.isfinite(x).all():
            raise MedwardError("inputs: every value must be finite, got NaN or infinity")
        slack = 1e-6 * max(1.0, abs(self.low or 0.0), abs(self.high or 0.0))  # float32 cannot hold every bound
        if self.low is not None and float(x.min()) < self.low - slack:
            raise MedwardError(f"inputs: values must be >= {self.low:g}, got {float(x.min()):g}")
        if self.high is not None and float(x.max()) > self.high + slack:
            raise MedwardError(f"inputs: values must be <= {self.high:g}, got {float(x.max()):g}")
        return x if self.low is None and self.high is None else np.clip(x, self.low, self.high)

    @property
    def _axes(self) -> str:
        return ", ".join(map(str, self.shape))


@dataclass(frozen=True, slots=True)
class Outputs:
    """One forward pass: scores ``(n, classes)`` and, when the model shows them, features ``(n, features)``."""

    scores: Array
    features: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One request: a batch from one principal.

    `study` is what all its images belong to, a DICOM StudyInstanceUID say: slices of one study look alike.
    """

    principal: Principal
    inputs: object
    id: str = ""
    study: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a monitor learns of one input, by part: a conformal p-value or a cell; nothing where the part failed."""

    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verdict is what one part of the guard concluded, with the evidence that a person or an auditor can check.

    `part` names the screen, monitor, index or budget, `account` the account that it speaks of, where it does, and
    `error` the type of the exception that kept it from concluding anything.
    """

    part: str
    action: Action
    account: str = ""
    error: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Part, account and error as one text, as logs have it: ``e-process:clinic/key``, ``error:screen:KeyError``."""
        return ":".join(filter(None, ("error" if self.error else "", self.part, self.account, self.error)))

    @classmethod
    def recorded(cls, content: Mapping[str, Any]) -> Verdict:
        """Read a verdict back from a log. Raises KeyError, TypeError or ValueError for what is none."""
        kind, _, rest = str(content["source"]).partition(":")
        part, account, error = kind, rest, ""
        if kind == "error":
            part, _, rest = rest.partition(":")
            account, _, error = rest.rpartition(":")
        evidence = {name: float(value) for name, value in content["evidence"].items()}
        action = Action[str(content["action"]).upper()]
        return cls(part=part, action=action, account=account, error=error, evidence=evidence)

    @property
    def content(self) -> dict[str, Any]:
        """The verdict as a log keeps it."""
        return {"source": self.source, "action": self.action.label, "evidence": dict(self.evidence)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer is what leaves the guard, row by row.

    ``labels (n,)`` holds class indices, -1 where withheld; ``scores (n, classes)`` holds NaN where only the
    label or nothing left, and at level top for every class not shown; ``levels (n,)`` says which. `output` names
    what the scores are: the model's own kind at level full, probabilities once rounded. `verdicts` are for the
    operator, never for the client.
    """

    id: str
    labels: Ints
    scores: Array
    levels: tuple[Level, ...]
    output: OutputKind
    verdicts: tuple[Verdict, ...] = ()
