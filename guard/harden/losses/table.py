"""Which losses a task has."""

from __future__ import annotations

from medward.guard.errors import MedwardError
from medward.guard.harden.losses.base import TaskLosses
from medward.guard.harden.losses.classes import ClassLosses
from medward.guard.harden.losses.findings import FindingLosses
from medward.guard.harden.losses.numbers import NumberLosses
from medward.guard.spec import AnyTask
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport


def losses_of(task: AnyTask) -> TaskLosses:
    """The losses of `task`; opaque outputs and reports have none and are refused."""
    if isinstance(task, Opaque):
        raise MedwardError(
            "model: opaque outputs cannot be hardened, for nothing says which of them are right; harden the network "
            "whose classes, findings or number they are made of, or protect the model as it is"
        )
    if isinstance(task, WrittenReport):
        raise MedwardError("model: one that writes reports cannot be hardened yet; protect it as it is")
    if isinstance(task, Multilabel):
        return FindingLosses.of(task)
    if isinstance(task, Regression):
        return NumberLosses.of(task)
    return ClassLosses.of(task)
