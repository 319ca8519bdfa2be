"""What success is on a model of each task: the criterion that an attack's settings ask for."""

from __future__ import annotations

from medward.attacks.target import Decide
from medward.attacks.whitebox.criterion import ANY_CLASS, Criterion
from medward.attacks.whitebox.finding_change import Aim, FindingChange
from medward.attacks.whitebox.number_change import NumberChange
from medward.attacks.whitebox.output_change import OutputChange
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport


def criterion_of(spec: ModelSpec, aim: Aim = "any", decide: Decide | None = None) -> Criterion:
    """Any change of decision on a model of `spec`; of findings those of the `aim`, of opaque outputs by `decide`.

    Raises `MedwardError` for an aim on a model without findings, and for opaque outputs without a `decide`.
    """
    task = spec.task
    if isinstance(task, Multilabel | WrittenReport):
        return FindingChange(count=len(task.findings), aim=aim)
    if aim != "any":
        raise MedwardError(f"aim: {aim!r} is for models of several findings, and this one {spec.rule}; leave it 'any'")
    if isinstance(task, Regression):
        return NumberChange(task)
    if not isinstance(task, Opaque):
        return ANY_CLASS
    if decide is None:
        raise MedwardError(
            f"evasion: nobody here can tell when the answer of {spec.name} has changed, for it {spec.rule}; give "
            "--decide package:function, which maps outputs (n, ...) to a number for each row"
        )
    return OutputChange(decide)
