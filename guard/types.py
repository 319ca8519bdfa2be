"""The nouns of the serving path: what comes in, what is judged, what goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError, UnavailableError

if TYPE_CHECKING:
    from medward.guard.release.text.known import KnownIdentifiers  # needs the extra `text`
    from medward.guard.spec import ModelSpec

Array = NDArray[np.floating]
Ints = NDArray[np.int64]
Principal = tuple[str, ...]
"""Who asks, as a path from the organisation down to the key: ``("hospital-a", "radiology", "key-17")``."""

ScoreKind = Literal["logits", "probabilities"]
"""What the scores of classes and findings are."""
OutputKind = Literal["logits", "probabilities", "values"]
"""What outputs are: scores, or numbers whose unit is the model's own."""
LONGEST_ORIGIN = 128
"""Characters of each part of a query's origin."""
AWAY = UnavailableError.__name__
"""The error in the verdict of a part that could not be reached."""
Modality = Literal["image", "tabular"]
Layout = Literal["NHW", "NHWC", "NCHW", "NLT", "NDHW", "NCDHW"]
"""Which axis of an array of images, signals or volumes is which: rows, channels, depth, height, width; leads, times."""


ActionName = Literal["allow", "flag", "coarsen", "withhold"]
"""How a policy names an `Action`."""


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


@dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs are what one forward pass gave: scores ``(n, K)``, of opaque models ``(n, ...)``.

    `features (n, d)` are there when the model shows them, `doubt (n,)` (how near a row is to another decision) when the
    scores are those that defenses judge and the task knows a border (`ModelSpec.judged`), `texts (n)` when the model
    writes reports, whose scores are what is read in them.
    """

    scores: Array
    features: Array | None = None
    doubt: Array | None = None
    texts: tuple[str, ...] = ()


def take_rows(inputs: Array, outputs: Outputs, index: NDArray[np.integer]) -> tuple[Array, Outputs]:
    """The same rows of inputs and outputs."""
    features, doubt = (None if part is None else part[index] for part in (outputs.features, outputs.doubt))
    texts = tuple(outputs.texts[at] for at in index) if outputs.texts else ()
    return inputs[index], Outputs(outputs.scores[index], features, doubt, texts)


def joined_outputs(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of several batches as those of one, in their order; of one they are the same."""
    if len(parts) == 1:
        return parts[0]
    features, doubt = (
        None if any(part is None for part in each) else np.concatenate([*each])
        for each in ([one.features for one in parts], [one.doubt for one in parts])
    )
    texts = tuple(text for each in parts for text in each.texts)
    return Outputs(np.concatenate([each.scores for each in parts]), features, doubt, texts)


def split_outputs(outputs: Outputs, sizes: Sequence[int]) -> list[Outputs]:
    """The outputs of one batch as those of several, of so many rows each."""
    ends = np.cumsum(sizes)
    if len(outputs.scores) != ends[-1]:
        raise ValueError(f"outputs: expected {ends[-1]} rows, got {len(outputs.scores)}")
    found = []
    for end, size in zip(ends.tolist(), sizes, strict=True):
        rows = slice(end - size, end)
        features, doubt = (None if part is None else part[rows] for part in (outputs.features, outputs.doubt))
        found.append(Outputs(outputs.scores[rows], features, doubt, outputs.texts[rows]))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOrigin:
    """A query's origin is how it came in, for the record and for nothing else: the guard judges principals.

    `credential` names the key or token that asked and is neither, `request` is the id of the request that carried it,
    which a client may have chosen, `client` the address that it came from, which behind a proxy is the proxy's. Each is
    "" where it is not known. Raises `MedwardError` for more than 128 characters, or others than printable ASCII.
    """

    credential: str = ""
    request: str = ""
    client: str = ""

    def __post_init__(self) -> None:
        for name, value in self.content.items():
            if not (value.isascii() and value.isprintable() and len(value) <= LONGEST_ORIGIN):
                raise MedwardError(f"origin.{name}: up to {LONGEST_ORIGIN} printable ASCII characters are recorded")

    @property
    def content(self) -> dict[str, str]:
        """What is known, as a log keeps it."""
        known = {"credential": self.credential, "request": self.request, "client": self.client}
        return {name: value for name, value in known.items() if value}


UNKNOWN_ORIGIN = QueryOrigin()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One request: a batch from one principal.

    `study` is what all its images belong to, a DICOM StudyInstanceUID say: slices of one study look alike. `pictures`
    make each row's image as its file has it, before it was resized or cropped, ``(C, H, W)`` in the model's range; only
    who looks for burned-in text asks for them, and looks at `inputs` where there are none. `known` are identifiers of
    each row's patient, which leave in no text about it, whatever form they have; they need `[privacy] identifiers`.
    `retrieved` says that whoever runs the guard fetched the inputs from the site's own archive (`[source]`); what a
    client sent is not. `origin` is for the record.
    """

    principal: Principal
    inputs: object
    id: str = ""
    study: str = ""
    pictures: Sequence[Callable[[], Array]] = ()
    known: Sequence[KnownIdentifiers | None] = ()
    retrieved: bool = False
    origin: QueryOrigin = UNKNOWN_ORIGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verdict is what one part of the guard concluded, with the evidence that a person or an auditor can check.

    `part` names the screen, check, monitor, index or budget, `account` the account that it speaks of, where it does,
    and `error` the type of the exception that kept it from concluding anything.
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
class CertifiedRadius:
    """A certified radius is how far inputs may change that are still answered alike, row by row (`guard.certify`).

    ``radius (n,)`` is the largest of a grid, 0 where there is none, NaN where it was not told; `asked` is that of the
    policy, in its units. Of findings ``findings (n, K)`` has one each, of which the least is the row's; of a number
    ``interval (n, 2)`` is the least and the largest within `asked`.
    """

    asked: float
    radius: Array
    findings: Array | None = None
    interval: Array | None = None

    @property
    def holds(self) -> NDArray[np.bool_]:
        """Which answers ``(n,)`` are certified at the policy's radius."""
        return np.asarray(self.radius >= self.asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommissioningRemarks:
    """Remarks mark an answer as one of commissioning: for testing, until when, with how many answers `left`.

    `notes` say of `compared` rows, of this query and of those before it, what is strange; 0 while too few were sent.
    """

    until: str
    left: int
    compared: int
    notes: tuple[str, ...]

    @property
    def content(self) -> dict[str, Any]:
        """The remarks as a client reads them."""
        return {
            "for_testing_only": True,
            "until": self.until,
            "answers_left": self.left,
            "rows_compared": self.compared,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer is what leaves the guard, row by row.

    ``labels (n,)`` holds the decisions as whole numbers (`guard.tasks`), class indices say, and -1 where withheld;
    ``scores (n, K)`` holds NaN where only the label or nothing left, and at level top for every class not shown;
    ``levels (n,)`` says which. `output` names what the scores are: the model's own kind at level full, probabilities
    once rounded. `spec` is that of the model that answered. `verdicts` are for the operator, never for the client:
    `decisions`, `rows` and `as_dict` leave them out. `certified` is what is proven of the rows, where the policy says
    so. Of a model that writes reports ``texts (n)`` are those that leave, None for a row whose text does not.
    `commissioning` marks an answer that is for testing only, and says what is strange about the inputs.
    """

    id: str
    labels: Ints
    scores: Array
    levels: tuple[Level, ...]
    output: OutputKind
    spec: ModelSpec
    verdicts: tuple[Verdict, ...] = ()
    certified: CertifiedRadius | None = None
    texts: tuple[str | None, ...] = ()
    commissioning: CommissioningRemarks | None = None

    @property
    def decisions(self) -> tuple[Any, ...]:
        """Row by row what was decided, in words; None where withheld.

        The name of the class, a tuple of the findings' names, the cell of a number, what a report says of findings by
        name; None always for opaque outputs, which only their user can read.
        """
        words = (None if each < 0 else self.spec.task.word(int(each)) for each in self.labels)
        return tuple(tuple(each) if isinstance(each, list) else each for each in words)

    @property
    def unavailable(self) -> tuple[str, ...]:
        """The sources of parts that could not be reached and so withheld it: no verdict, and worth asking again."""
        return tuple(each.source for each in self.verdicts if each.error == AWAY and each.action is Action.WITHHOLD)

    def as_dict(self) -> dict[str, Any]:
        """The answer as plain data for JSON, column by column: exactly what a client of ``/v1/predict`` reads."""
        from medward.guard.answering import answer_content  # which makes answers

        return answer_content(self)

    def rows(self) -> list[dict[str, Any]]:
        """The columns of `as_dict` that have a value a row, row by row: ``{"label": ..., "level": ...}`` and more."""
        content = self.as_dict()
        names = {
            "labels": "label",
            "indices": "index",
            "scores": "scores",
            "values": "value",
            "outputs": "output",
            "texts": "text",
        }
        proven = ("certified", "certified_radius", "certified_findings", "certified_interval")
        names |= {**dict(zip(proven, proven, strict=True)), "levels": "level"}
        columns = {name: content[key] for key, name in names.items() if key in content}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
