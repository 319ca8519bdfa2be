"""How well a model of several findings, or one whose reports say them, does on labelled rows, finding by finding.

For each finding the area under the ROC curve, and recall on the rows that have it and on those that have not, at its
operating point. An area clearly below 1/2 (Mann and Whitney 1947, normal approximation, corrected for the number of
findings) means names in another order than the columns, or labels of something else, and is refused.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from medward.guard.data.quality import CERTAIN, auc, below_half
from medward.guard.errors import MedwardError
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints

_SHOWN = 14  # findings in a line of text


class OneFinding(BaseModel):
    """One finding: on how many rows it is there, `auc` (None where on all or none), recall where it is and is not."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    positives: int
    auc: float | None
    sensitivity: float | None
    specificity: float | None


class FindingQuality(BaseModel):
    """Finding quality holds what a model of several findings decided on `rows` labelled rows, beside the truth."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rows: int
    findings: dict[str, OneFinding]

    def __str__(self) -> str:
        told = [
            f"{name} {'none or all have it' if each.auc is None else f'AUC {each.auc:.3f}'}"
            + "".join(
                f", {what} {value:.3f}"
                for what, value in (("sensitivity", each.sensitivity), ("specificity", each.specificity))
                if value is not None
            )
            for name, each in list(self.findings.items())[:_SHOWN]
        ]
        more = "" if len(self.findings) <= _SHOWN else "; ..."
        return f"on {self.rows} labelled calibration rows: {'; '.join(told)}{more}"

    @property
    def doubt(self) -> str:
        """What a person should look into, or nothing."""
        weak = [name for name, each in self.findings.items() if each.auc is not None and each.auc < 0.55]
        if not weak:
            return ""
        return (
            f"the scores of {', '.join(weak)} rank these labels about as chance does (AUC below 0.55); check the order "
            "of the findings, the range and layout of the data, and whether the labels are the model's"
        )


def measure_findings(
    scores: Array, labels: Ints, task: Multilabel | WrittenReport, patients: Ints | None = None
) -> FindingQuality:
    """The quality of `scores (n, K)` on rows whose sets of findings are `labels (n,)`.

    Raises `MedwardError` when the scores of a finding clearly rank its labels the other way round, each patient
    counting once.
    """
    truth, found = unpacked_findings(labels, len(task.findings)), task.found(scores)
    once = np.arange(len(labels)) if patients is None else np.unique(patients, return_index=True)[1]
    told = {}
    for column, name in enumerate(task.findings):
        has = truth[:, column]
        area = auc(scores[:, column], has) if has.any() and not has.all() else None
        members = int(has[once].sum())
        own = auc(scores[once, column], has[once])
        if below_half(own, members, len(once) - members, CERTAIN / len(task.findings)):
            raise MedwardError(
                f"classes: the scores called {name!r} are lower where the labels say it than elsewhere, AUC {own:.3f}; "
                "give --classes in the order of the scores, or correct the labels"
            )
        told[name] = OneFinding(
            positives=int(has.sum()),
            auc=area,
            sensitivity=float(found[has, column].mean()) if has.any() else None,
            specificity=float((~found[~has, column]).mean()) if not has.all() else None,
        )
    return FindingQuality(rows=len(labels), findings=told)
