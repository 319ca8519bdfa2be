"""The contract of an attack: it keeps to its threat model, its seed decides, and evasion beats noise on every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from medward.attacks.base import Attack, AttackData, AttackResult
from medward.attacks.families import find_family
from medward.attacks.target import Target
from medward.attacks.threat import ThreatModel
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.guard.policy import Policy
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array
from medward.integrations.contracts.family import SPEC, SignedLine, line_deployment, line_splits
from medward.integrations.contracts.subjects import TaskModel, hold_contract, trained_task

FINDINGS = Multilabel(findings=("p", "q", "r"), output="logits", thresholds=(0.02, 0.5, 0.5))
BEYOND_NOISE = 0.03  # of rows, that evasion must fool beyond those that the best of several random changes fools


def _found(values: Array, count: int) -> Array:
    """The first `count` columns, present or not."""
    return (values > 0.5).astype(np.float32)[:, :count]


def findings_model(task: Multilabel, last: nn.Module | None = None) -> TaskModel:
    """A network of several findings."""
    count = len(task.findings)
    return trained_task(task, count, F.binary_cross_entropy_with_logits, partial(_found, count=count), last)


def number_model(task: Regression) -> TaskModel:
    """A network of one number."""
    return trained_task(task, 1, F.mse_loss, lambda values: values[:, :1])


EVADED: Mapping[str, Callable[[], TaskModel]] = {
    "findings": lambda: findings_model(FINDINGS),
    "chances": lambda: findings_model(replace(FINDINGS, output="probabilities"), nn.Sigmoid()),
    "number": lambda: number_model(Regression(tolerance=1.2)),
    "cut": lambda: number_model(Regression(tolerance=1.2, cut_points=(-0.5, 1.0))),
}
"""What evasion is run on: standard normal tables, on which a radius of 0.5 is large."""


@cache
def evaded_model(name: str) -> TaskModel:
    """One of `EVADED`, trained once."""
    return EVADED[name]()


def check_attack(attack: Attack, models: Sequence[str] = tuple(EVADED)) -> None:
    """Hold `attack` to all that attacks must do; of evasion, with a radius of about 0.5, on each of the `models`.

    Any other attack is run on a small linear model with what its family lets it hold. Raises `MedwardError` about what
    does not hold.
    """
    check_attack_declared(attack)
    if find_family(attack.family).claim:
        for name in models:
            check_attack_beats_noise(attack, name)
    else:
        _check_run(attack)
    check_attack_seed(attack, models[0])


def check_attack_declared(attack: Attack) -> None:
    """It has a name, a family and a threat model, and its adaptive form is of the same family."""
    what = getattr(attack, "name", type(attack).__name__)
    hold_contract(isinstance(attack.name, str) and bool(attack.name), f"{what!r} has no name")
    hold_contract(isinstance(attack.threat, ThreatModel), f"{what!r} says no threat model")
    family = find_family(attack.family)
    knowing = attack.adaptive(Policy(on_error="withhold"))
    hold_contract(
        knowing is None or knowing.family == family.name, f"{what!r} becomes of another family when it knows the guard"
    )


def check_attack_beats_noise(attack: Attack, name: str) -> None:
    """It fools clearly more rows of the model called `name` than noise of its size does."""
    result = _evasion(attack, name)
    hold_contract(
        result.baseline is not None and bool(result.attempts), f"{attack.name!r} leaves no attempts and no noise"
    )
    fooled, noisy = (0.0 if rows is None else float(rows.mean()) for rows in _shares(result))
    hold_contract(
        fooled > noisy + BEYOND_NOISE,
        f"{attack.name!r} fools {fooled:.0%} of rows of the model of {name}, and noise of its size {noisy:.0%}",
    )
    kind = result.attempts[0].decided.dtype
    hold_contract(kind == np.int64, f"{attack.name!r} says decisions as {kind} and not as int64")


def _shares(result: AttackResult) -> list[NDArray[np.bool_] | None]:
    return [None if rows is None else np.asarray(rows, bool) for rows in (result.outcome, result.baseline)]


def check_attack_seed(attack: Attack, name: str) -> None:
    """The same seed gives the same outcome, to the last row."""
    run = partial(_evasion, attack, name) if find_family(attack.family).claim else partial(_plain, attack)
    same = np.array_equal(run().outcome, run().outcome)
    hold_contract(same, f"{attack.name!r} comes out otherwise at the same seed")


def _evasion(attack: Attack, name: str) -> AttackResult:
    model, decide = evaded_model(name), getattr(attack, "decide", None)
    return attack.run(model.target(attack.threat, decide=decide), model.data(decide), seed=0)


def _check_run(attack: Attack) -> None:
    """It leaves what its family can read, within its queries."""
    family, result = find_family(attack.family), _plain(attack)
    finite = bool(np.isfinite(np.asarray(result.outcome, np.float64)).all())
    hold_contract(finite and family.achieved(result, 0) is not None, f"{attack.name!r} leaves no outcome to judge")
    most = attack.threat.queries
    hold_contract(most is None or result.queries <= most, f"{attack.name!r} asks {result.queries} rows of {most}")


def _plain(attack: Attack) -> AttackResult:
    family, deployment = find_family(attack.family), line_deployment()
    held = family.holdings(deployment, share_rows(SignedLine(), conform_splits(line_splits(), SPEC), seed=0))
    assert isinstance(held, AttackData), f"contract: attackers of {family.name!r} hold nothing"
    target: Target = family.target(deployment, "undefended", attack, held)
    return attack.run(target, held, seed=0)
