"""What a client of ``/v1/predict`` reads, one form per task."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Answer

COMMISSIONING_HEADER = "Medward-Commissioning"
AnsweredLevel = Literal["full", "rounded", "top", "codes", "label", "withheld"]


class CommissioningMark(BaseModel):
    """Marks an answer that is for testing only, while a server is commissioned, and never for a patient.

    `notes` say of the `rows_compared`, of this request and of those before it, what is strange: an empty list where
    nothing is, or where too few different rows were sent so far (`rows_compared` is then 0).
    """

    for_testing_only: Literal[True]
    until: str
    answers_left: int
    rows_compared: int
    notes: list[str]


class _Answered(BaseModel):
    commissioning: CommissioningMark | None = None


class Prediction(_Answered):
    """One answer, row by row. What a defense concluded is in the audit log and never here.

    `levels` says how much of the model's answer left: at "top" the scores of all but the largest classes are null, at
    "codes" the row is the nearest typical answer (null where none fits), at "label" the row of `scores` is null, at
    "withheld" the label is null too. `score_kind` says what the scores are.
    """

    id: str
    model: str
    labels: list[str | None]
    indices: list[int | None]
    scores: list[list[float | None] | None]
    levels: list[AnsweredLevel]
    score_kind: Literal["logits", "probabilities"]


class FindingsPrediction(_Answered):
    """One answer of a model of several findings, row by row.

    `labels` are the findings decided, an empty list for none; `scores` are in the order of `findings`, and a finding is
    decided where its probability is at least its place in `thresholds`. At the level "label" the row of `scores` is
    null, at "withheld" the labels are null too. `score_kind` says what the scores are.
    """

    id: str
    model: str
    labels: list[list[str] | None]
    scores: list[list[float | None] | None]
    findings: list[str]
    thresholds: list[float]
    levels: list[AnsweredLevel]
    score_kind: Literal["logits", "probabilities"]


class NumberPrediction(_Answered):
    """One answer of a regression model, row by row.

    `values` are the numbers in `unit`, rounded at the level "rounded" within the cell that `labels` name: between the
    cut points, or the multiple of the tolerance. At the level "label" a number between cut points is null, at
    "withheld" the label is null too.
    """

    id: str
    model: str
    labels: list[str | None]
    values: list[float | None]
    unit: str
    levels: list[AnsweredLevel]


class OutputPrediction(_Answered):
    """One answer of a model that is guarded whole: `outputs` are nested as the model gives them, null at "withheld"."""

    id: str
    model: str
    outputs: list[Any | None]
    shape: list[int]
    levels: list[AnsweredLevel]


class ReportPrediction(_Answered):
    """One answer of a model that writes reports, row by row.

    `texts` are the reports, identifiers replaced by marks; `labels` are those of `findings` that a report says are
    there ("present") or may be ("uncertain"). At the level "label" the text is null, at "withheld" the label is, too.
    """

    id: str
    model: str
    labels: list[dict[str, Literal["present", "uncertain"]] | None]
    texts: list[str | None]
    findings: list[str]
    levels: list[AnsweredLevel]


class _Certified(BaseModel):
    certified: list[bool | None]
    certified_radius: list[float | None]
    radius: float
    radius_unit: str


class CertifiedPrediction(Prediction, _Certified):
    """One answer with its certificates, row by row: `Prediction`, and what is proven.

    `certified` says whether no input within `radius` of the row is answered otherwise: where it is false, a person must
    read the row. `certified_radius` is the largest of a grid that this is proven for, 0 for none. At the level "label"
    it says no more than `certified`, and both are null at "withheld". `radius_unit` is what radii are counted in.
    """


class CertifiedFindingsPrediction(FindingsPrediction, _Certified):
    """One answer of several findings with its certificates: `FindingsPrediction`, and what is proven.

    `certified` and `certified_radius` are those of the row as a whole, as in `CertifiedPrediction`;
    `certified_findings` has the radius of each finding, in their order.
    """

    certified_findings: list[list[float | None] | None]


class CertifiedNumberPrediction(NumberPrediction, _Certified):
    """One answer of a regression model with its certificates: `NumberPrediction`, and what is proven.

    `certified` says whether every input within `radius` gets a number within the tolerance and on the same side of all
    cut points, as in `CertifiedPrediction`; `certified_interval` holds the least and the largest such number, rounded
    outwards to whole tolerances at the level "rounded", null where the number does not leave.
    """

    certified_interval: list[list[float | None]]


AnyPrediction = Prediction | FindingsPrediction | NumberPrediction | OutputPrediction | ReportPrediction


def prediction_type(spec: ModelSpec, *, certified: bool = False) -> type[AnyPrediction]:
    """The form of answers of a model of `spec`, `certified` ones where the policy says so."""
    if isinstance(spec.task, Multilabel):
        return CertifiedFindingsPrediction if certified else FindingsPrediction
    if isinstance(spec.task, Regression):
        return CertifiedNumberPrediction if certified else NumberPrediction
    if isinstance(spec.task, Opaque):
        return OutputPrediction
    if isinstance(spec.task, WrittenReport):
        return ReportPrediction
    return CertifiedPrediction if certified else Prediction


def client_view(answer: Answer, spec: ModelSpec) -> AnyPrediction:
    """The client's view of `answer`."""
    return prediction_type(spec, certified=answer.certified is not None).model_validate(answer.as_dict())


def commissioning_header(answer: Answer) -> dict[str, str]:
    """The header that marks an answer of commissioning, for clients that read no more than they know."""
    found = answer.commissioning
    return {} if found is None else {COMMISSIONING_HEADER: f"for testing only until {found.until}"}
