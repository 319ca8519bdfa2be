"""How long a validation takes: what attacks plan to do, times what a model, its guard and a stand-in need here.

An estimate, told before the start and never used to judge: an attack that wins early is done sooner, a search that is
controlled takes longer. A quick look takes the attacks that about a minute is planned for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medward.attacks.base import Attack
from medward.attacks.evasion.black_box import BlackBox
from medward.attacks.evasion.per_image import WhiteBox
from medward.attacks.evasion.radii import ALWAYS
from medward.attacks.evasion.setup import FACTORS
from medward.attacks.evasion.uap import REFINED, UniversalPerturbation
from medward.attacks.evasion.universal import UniversalAttack
from medward.attacks.extraction.theft import Theft
from medward.attacks.learners.table import learner_of
from medward.attacks.membership.shadow_attack import ShadowAttack
from medward.attacks.validation.clean_cost import ACCOUNTS, CLEAN_QUERIES
from medward.attacks.validation.deployment import Deployment, fresh_guard
from medward.attacks.validation.finding import ARMS
from medward.attacks.validation.plan import ValidationPlan
from medward.attacks.validation.splits import TEST
from medward.guard.data.split import Split, conform_inputs
from medward.guard.models.huggingface_report import HuggingFaceReportModel
from medward.guard.spec import ModelSpec
from medward.guard.tasks.opaque import Opaque
from medward.guard.types import Array, Query

QUICK_SECONDS, QUICK_ROWS = 60.0, 100
"""About how long a quick look may take, and on how many rows it judges at most."""
OVERTIME = 5.0
"""How many times as long the one attack may take that is run whatever it takes."""
BRIEF = 0.05
"""The share of that time which an attack may take that is always run, the quickest of its family."""
_BATCH = 50
_ASKED = 3
"""How often a universal attack asks about each row and radius, about: with its change, with noise, and as it is."""
_SCREENED, _CERTIFIED = 2.0, 2.0
"""How much longer it takes to follow the screens as well, and the certificate besides."""
_STEP = 2.5e-3
"""Seconds of a step of a search besides the network, as measured on one core; they count where a network is tiny."""
_WRITTEN = 3.0
"""How much longer it takes to teach a network to write about a row than to decide it, about."""
_JUDGED = 0.2
"""The share of an answer's time behind the guard that judging takes at least."""
_SAMPLE = 50
"""Rows on which units are timed."""
_SPARED = 0.5
"""The share of planned steps that is taken, as rows that are won are left alone."""
_LEARNED = 5
"""Epochs in which a stand-in is timed."""
_TIMED = 3
"""How often each unit is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSeconds:
    """Unit seconds are what one row costs here: to `answer` bare, to `guard` alone, to put through the gradient of the
    `network`, and to `learn` from once when a stand-in is trained.
    """

    answer: float
    guard: float
    network: float
    learn: float


def plan_validation(
    deployment: Deployment, splits: Mapping[str, Split], attacks: Sequence[Attack], *, quick: bool
) -> ValidationPlan:
    """How long it takes, and of a `quick` look which attacks are left out."""
    spec = deployment.bundle.model.spec
    test = splits.get("test", next(iter(splits.values())))
    units = measure_units(deployment, conform_inputs(test.inputs[:_SAMPLE], spec))
    rows = min(len(test), TEST)
    craft = min(len(splits["train"]), TEST) if "train" in splits else rows // 2
    judged = min(rows, QUICK_ROWS) if quick else rows
    certified = deployment.bundle.policy.certify.enabled
    planned = {
        each.name: planned_seconds(
            each, units, rows=judged, craft=craft, classes=len(spec.classes), certified=certified
        )
        for each in attacks
    }
    remembered = isinstance(deployment.bundle.model, HuggingFaceReportModel)
    clean = clean_seconds(units, len(splits.get("holdout", test)), remembered=remembered)
    if not quick:
        return ValidationPlan(told=f"{duration_text(clean + sum(planned.values()))} for {len(planned)} attacks")
    families = {attack.name: attack.family for attack in attacks}
    chosen = quick_choice(planned, families, seconds=QUICK_SECONDS - clean)
    spent = clean + sum(planned[name] for name in chosen)
    return ValidationPlan(
        told=f"{duration_text(spent)} for {len(chosen)} of {len(planned)} attacks, a quick look",
        quick=True,
        rows=QUICK_ROWS,
        left_out={
            name: f"Not tested: a quick look left it out, as it takes {duration_text(seconds)}."
            for name, seconds in planned.items()
            if name not in chosen
        },
    )


def measure_units(deployment: Deployment, inputs: Array) -> UnitSeconds:
    """Time each unit once on `inputs (n, *shape)`, after one try that is not counted."""
    model, network = deployment.bundle.model, deployment.network
    guard, few = fresh_guard(deployment.bundle), inputs[:10]

    def ask() -> None:
        for row in range(len(few)):
            guard.answer(Query(principal=("estimate",), inputs=few[row : row + 1]))

    learn = _learn_seconds(model.spec, inputs)
    return UnitSeconds(
        answer=_seconds(lambda: model.predict(inputs)) / len(inputs),
        guard=_seconds(ask) / len(few),
        network=learn if network is None else _seconds(lambda: _slope(network, inputs)) / len(inputs),
        learn=learn,
    )


def planned_seconds(
    attack: Attack, units: UnitSeconds, *, rows: int, craft: int, classes: int = 2, certified: bool = False
) -> float:
    """About how long an `attack` takes on its arms, judged on so many `rows` and crafted on so many `craft`.

    What is searched without the guard serves the guarded arm, too; who knows it, and what it has `certified`, searches
    anew.
    """
    radii, asks = len(FACTORS), units.answer + 2 * units.guard
    effort, restarts = getattr(attack, "effort", 1), getattr(attack, "restarts", 1)
    knowing = _SCREENED * (_CERTIFIED if certified else 1.0)
    if isinstance(attack, UniversalAttack):
        aims = classes if getattr(attack, "targeted", False) else 1
        refined = 1 / REFINED if isinstance(attack, UniversalPerturbation) else restarts
        passes = effort * (restarts + (radii - 1) * refined + knowing * (restarts + radii - 1))
        batches = passes * aims * max(1, craft // _BATCH)
        return batches * (_BATCH * units.network + _STEP) + radii * _ASKED * rows * asks
    if isinstance(attack, WhiteBox):
        searches = 1 + (radii - 1) * min(1.0, ALWAYS / max(1, rows)) + knowing
        steps = searches * 2 * effort * restarts  # with either loss
        return steps * (rows * units.network + _STEP) + radii * 2 * rows * asks
    if isinstance(attack, BlackBox):
        return _SPARED * radii * attack.queries * min(attack.rows, rows) * asks
    if isinstance(attack, Theft):
        stops = [attack.queries >> halvings for halvings in range(attack.points)]
        learned = sum(stop * attack.epochs * min(4.0, attack.queries / max(1, stop)) for stop in stops)
        taught = _WRITTEN * units.learn if attack.labels == "text" else units.learn
        return len(ARMS) * learned * taught + attack.queries * asks
    if isinstance(attack, ShadowAttack):
        return attack.shadows * attack.epochs * attack.share * rows * units.learn + 2 * rows * asks
    return 2 * rows * asks


def clean_seconds(units: UnitSeconds, rows: int, *, remembered: bool = False) -> float:
    """About how long it takes to measure what benign users pay, on a split of so many rows.

    Answers that are `remembered` are given once a row; what is asked again is judged and not answered.
    """
    again = ACCOUNTS * min(rows, CLEAN_QUERIES)
    judged = max(units.guard - units.answer, _JUDGED * units.guard)
    return rows * (units.guard + units.answer) + again * (judged if remembered else units.guard + units.answer)


def duration_text(seconds: float) -> str:
    """How an estimate is told, no more exactly than it is known."""
    if seconds < 50:
        return f"about {max(5, 5 * round(seconds / 5))} seconds"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'' if minutes == 1 else 's'}"


def quick_choice(planned: Mapping[str, float], families: Mapping[str, str], *, seconds: float) -> tuple[str, ...]:
    """Which attacks, by name, fit into so many `seconds`: of each family the quickest first, then the others.

    The quickest of the first family is always among them, though it may take `OVERTIME` times as long: less would show
    too little. Where it takes longer still, as with models that write, the quickest of all is in its place. So is that
    of another family where it takes next to nothing. The order is that of `planned`.
    """
    quickest = sorted(planned, key=lambda name: planned[name])
    first = [next(name for name in quickest if families[name] == family) for family in dict.fromkeys(families.values())]
    chosen = {first[0] if planned[first[0]] <= OVERTIME * QUICK_SECONDS else quickest[0]}
    for name in (*sorted(first, key=lambda name: planned[name]), *quickest):
        spent = sum(planned[each] for each in chosen)
        brief = name in first and planned[name] <= QUICK_SECONDS * BRIEF
        if name not in chosen and (brief or spent + planned[name] <= seconds):
            chosen.add(name)
    return tuple(name for name in planned if name in chosen)


def _slope(network: torch.nn.Module, rows: Array) -> None:
    inputs = torch.as_tensor(np.asarray(rows, np.float32)).requires_grad_(True)
    torch.autograd.grad(network(inputs).double().sum(), inputs)


def _learn_seconds(spec: ModelSpec, inputs: Array) -> float:
    """What a stand-in takes to learn from one row once; 0 of a model that no stand-in learns."""
    if isinstance(spec.task, Opaque):
        return 0.0
    learner = learner_of(spec)
    targets = np.full((len(inputs), learner.width), 0.5, np.float32)

    work = np.asarray(inputs, np.float32)
    return _seconds(lambda: learner.fit(spec, work, targets, epochs=_LEARNED, seed=0)) / (_LEARNED * len(inputs))


def _seconds(work: Callable[[], object]) -> float:
    """The time of the quickest of a few runs of `work`, after one that warms up: others may keep the machine busy."""
    work()
    took = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return min(took)
