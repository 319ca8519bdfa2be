"""Answers as FHIR R4 Observations, one form per task: what was decided, by which threshold, and what does not leave.

A value that the guard keeps is absent as ``masked``, so that nobody takes it for a normal result. Reference: HL7 FHIR
R4, Observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medward.guard.answering import answer_content
from medward.guard.errors import MedwardError
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Answer
from medward.integrations.clinical.fhir_settings import FhirSettings
from medward.integrations.clinical.fhir_terms import (
    Resource,
    interpreted,
    masked,
    probability,
    quantity,
    text_concept,
    value_or_masked,
)

WITHHELD_TEXT = "the guard withheld the answer"
COARSE_TEXT = "the guard let less of the answer leave"
_SAID = {"present": "POS", "uncertain": "IND", "absent": "NEG"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRow:
    """An answered row is one row of an answer with what all rows share: the names and codes that it is said in."""

    row: Mapping[str, Any]
    shared: Mapping[str, Any]
    settings: FhirSettings
    model: str

    def observation(self, name: str, content: Resource, *, radius: float | None = None) -> Resource:
        """One Observation of what is called `name`: `content` where the row leaves, else why it is absent.

        `radius` is that of the finding, where it has one of its own.
        """
        code = text_concept(name, *self.settings.codings(name))
        level = {"code": text_concept("level of release"), "valueString": self.row["level"]}
        if self.row["level"] == "withheld":
            return {"code": code, "dataAbsentReason": masked(WITHHELD_TEXT), "component": [level]}
        own = content.pop("component", [])
        return {"code": code, **content, "component": [*own, *self._certificate(radius), level]}

    def _certificate(self, radius: float | None) -> list[Resource]:
        if "certified_radius" not in self.row:
            return []
        told = self.row["certified_radius"] if radius is None else radius
        unit = self.shared["radius_unit"]
        value = None if told is None else quantity(told, unit)
        asked = {"low": quantity(self.shared["radius"], unit), "text": "certified from"}
        component = {"code": text_concept("certified radius"), **value_or_masked(value, COARSE_TEXT)}
        found = [component | {"referenceRange": [asked]}]
        ends = self.row.get("certified_interval")
        if ends is not None and None not in ends:
            low, high = (quantity(each, self.shared["unit"], self.settings.ucum) for each in ends)
            found.append({"code": text_concept("certified interval"), "valueRange": {"low": low, "high": high}})
        return found


def row_observations(answer: Answer, settings: FhirSettings) -> list[list[Resource]]:
    """The Observations of each row of `answer`, without what makes them resources of a bundle.

    Raises `MedwardError` for a model whose outputs have no form in FHIR.
    """
    task, content = answer.spec.task, answer_content(answer)
    if isinstance(task, Opaque):
        raise MedwardError(f"{answer.spec.name} {task.rule}, which FHIR has no form for; accept application/json")
    rows = [AnsweredRow(row=row, shared=content, settings=settings, model=answer.spec.name) for row in answer.rows()]
    return [_observations_of(each, task) for each in rows]


def _observations_of(
    answered: AnsweredRow, task: Classification | Multilabel | Regression | WrittenReport
) -> list[Resource]:
    if isinstance(task, Multilabel):
        return _findings_of(answered, task)
    if isinstance(task, Regression):
        return _number_of(answered, task)
    if isinstance(task, WrittenReport):
        return _report_of(answered, task)
    return _class_of(answered, task)


def _class_of(answered: AnsweredRow, task: Classification) -> list[Resource]:
    """The class that was decided, with the score of each."""
    label, scores, kind = answered.row["label"], answered.row["scores"], answered.shared["score_kind"]
    name = f"{answered.model}: class"
    if label is None:
        return [answered.observation(name, {})]
    content: Resource = {"valueCodeableConcept": text_concept(label, *answered.settings.codings(label))}
    if task.threshold is not None:
        content["interpretation"] = interpreted("POS" if label == task.classes[1] else "NEG")
    shown = [None] * len(task.classes) if scores is None else scores
    content["component"] = [
        _score(each, value, kind, answered.settings, task.threshold if place == 1 else None)
        for place, (each, value) in enumerate(zip(task.classes, shown, strict=True))
    ]
    return [answered.observation(name, content)]


def _findings_of(answered: AnsweredRow, task: Multilabel) -> list[Resource]:
    """An Observation of each finding, whether it is there or not."""
    found, scores, kind = answered.row["label"], answered.row["scores"], answered.shared["score_kind"]
    radii = answered.row.get("certified_findings") or [None] * len(task.findings)
    made = []
    for place, (name, threshold) in enumerate(zip(task.findings, task.thresholds, strict=True)):
        content: Resource = {}
        if found is not None:
            there, value = name in found, None if scores is None else scores[place]
            content = {"valueBoolean": there, "interpretation": interpreted("POS" if there else "NEG")}
            content["component"] = [_score(name, value, kind, answered.settings, threshold)]
        made.append(answered.observation(name, content, radius=radii[place]))
    return made


def _score(name: str, value: float | None, kind: str, settings: FhirSettings, threshold: float | None) -> Resource:
    """A class's or finding's score and, where both are probabilities, the threshold from which it is decided."""
    word = "probability" if kind == "probabilities" else "logit"
    found: Resource = {"code": text_concept(f"{word} of {name}", *settings.codings(name))}
    found |= value_or_masked(None if value is None else probability(value), COARSE_TEXT)
    if threshold is not None and kind == "probabilities":
        found["referenceRange"] = [{"low": probability(threshold), "text": "decided from"}]
    return found


def _number_of(answered: AnsweredRow, task: Regression) -> list[Resource]:
    """The number or, where no more leaves, the words for where it lies."""
    value, word = answered.row["value"], answered.row["label"]
    content: Resource = {}
    if value is not None:
        content = {"valueQuantity": quantity(value, task.unit, answered.settings.ucum)}
        if task.cut_points:
            content["interpretation"] = [text_concept(word)]
    elif word is not None:
        content = {"valueString": word}
    return [answered.observation(task.quantity, content)]


def _report_of(answered: AnsweredRow, task: WrittenReport) -> list[Resource]:
    """The text, and an Observation of each finding that the model may write about."""
    text, said = answered.row["text"], answered.row["label"]
    value: Resource = {"dataAbsentReason": masked(COARSE_TEXT)} if text is None else {"valueString": text}
    made = [answered.observation(f"{answered.model}: report", value)]
    for name in task.findings:
        word = "absent" if said is None else said.get(name, "absent")
        spoken = "absent or not mentioned" if word == "absent" else word
        content: Resource = {"valueCodeableConcept": text_concept(spoken), "interpretation": interpreted(_SAID[word])}
        made.append(answered.observation(name, content))
    return made
