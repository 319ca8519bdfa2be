"""How long a validation takes: what attacks plan to do, times what a model, its guard and a stand-in need here.

An estimate, told before the start and never used to judge: an attack that wins early is done sooner, a search that is
controlled takes longer. A quick look takes the attacks that about a minute is planned for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np
import torch

from medward.attacks.base import Attack
from medward.attacks.candidates.controls import surrogate_lessons
from medward.attacks.evasion.black_box import BlackBox
from medward.attacks.evasion.per_image import WhiteBox
from medward.attacks.evasion.radii import ALWAYS
from medward.attacks.evasion.setup import FACTORS
from medward.attacks.evasion.uap import REFINED, UniversalPerturbation
from medward.attacks.evasion.universal import UniversalAttack
from medward.attacks.extraction.in_domain import InDomainTheft, answer_counts
from medward.attacks.extraction.theft import Theft
from medward.attacks.learners.table import learner_of
from medward.attacks.membership.attack import COPIES, MembershipAttack
from medward.attacks.membership.holdings import WRITTEN, lacking_rows
from medward.attacks.membership.shadow_attack import ShadowAttack
from medward.attacks.validation.clean_cost import ACCOUNTS, CLEAN_QUERIES, LATENCY_PAIRS
from medward.attacks.validation.deployment import Deployment, fresh_guard
from medward.attacks.validation.finding import ARMS
from medward.attacks.validation.ordinary.measure import planned_work, visit_settings
from medward.attacks.validation.plan import ValidationPlan
from medward.attacks.validation.splits import FEWEST_ROWS, TEST
from medward.guard.data.split import Split, conform_inputs, tell_writing
from medward.guard.models.huggingface_report import HuggingFaceReportModel
from medward.guard.spec import ModelSpec
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Query

QUICK_SECONDS, QUICK_ROWS = 60.0, 100
"""About how long a quick look may take, and on how many rows it judges at most."""
FEWER_ROWS = (QUICK_ROWS, 50, 25, FEWEST_ROWS)
"""On how many it judges where an answer takes long, so that inputs can be changed at all: the most that allow it.

On fewer still not even a bare model that always falls shows the attack at work, and controls take as long again.
"""
OVERTIME = 5.0
"""How many times as long the one attack may take that is run whatever it takes."""
BRIEF = 0.05
"""The share of that time which an attack may take that is always run, the quickest of its family."""
_BATCH = 50
_CHECKS, _CHECKED = 250, 64
"""How often the checks of a search put a row through the network, on each of two arms, and how many rows they take."""
_ASKED = 3
"""How often a universal attack asks about each row and radius, about: with its change, with noise, and as it is."""
_SCREENED, _CERTIFIED = 2.0, 2.0
"""How much longer it takes to follow the screens as well, and the certificate besides."""
_STEP = 2.5e-3
"""Seconds of a step of a search besides the network, as measured on one core; they count where a network is tiny."""
_WRITTEN = 3.0
"""How much longer it takes to teach a network to write about a row than to decide it, about."""
_JUDGED = 0.1
"""The share of an answer's time behind the guard that judging takes at least."""
_STEPPED = 0.3
"""The share of judging that stepping an account takes, besides looking at rows, the log and the store, about."""
_SAMPLE = 50
"""Rows on which units are timed."""
_SPARED = 0.5
"""The share of planned steps that is taken, as rows that are won are left alone."""
_LEARNED = 5
"""Epochs in which a stand-in is timed."""
_TIMED, _LONG, _LONGEST = 3, 2.0, 20.0
"""How often each unit is timed; what takes so many seconds only once more, and the longest not again."""


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
    timed = test.inputs[:_SAMPLE]
    tell_writing(spec.task, "written about %d rows, to time what a row costs here", min(len(timed), FEWEST_ROWS))
    units = measure_units(deployment, conform_inputs(timed, spec))
    rows = min(len(test), TEST)
    craft = min(len(splits["train"]), TEST) if "train" in splits else rows // 2
    certified = deployment.bundle.policy.certify.enabled
    asked, lessons = written_candidates(deployment, splits)

    def planned_on(judged: int) -> dict[str, float]:
        return {
            each.name: planned_seconds(
                each,
                units,
                rows=judged,
                craft=craft,
                classes=len(spec.classes),
                certified=certified,
                candidates=asked,
                lessons=lessons,
            )
            for each in attacks
        }

    planned = planned_on(rows)
    remembered = isinstance(deployment.bundle.model, HuggingFaceReportModel)
    measured = [splits["holdout"], test] if "holdout" in splits else [test]
    clean = clean_seconds(units, *map(len, measured), remembered=remembered)
    clean += ordinary_seconds(units, *planned_work(spec, visit_settings(spec, quick=quick)))
    if not quick:
        return ValidationPlan(told=f"{duration_text(clean + sum(planned.values()))} for {len(planned)} attacks")
    families = {attack.name: attack.family for attack in attacks if planned[attack.name]}  # else its family says why
    judged, planned = fewer_rows(lambda most: planned_on(min(rows, most)), families)
    chosen = quick_choice({name: planned[name] for name in families}, families, seconds=QUICK_SECONDS - clean)
    spent = clean + sum(planned[name] for name in chosen)
    return ValidationPlan(
        told=f"{duration_text(spent)} for {len(chosen)} of {len(planned)} attacks, a quick look",
        quick=True,
        rows=judged,
        left_out={
            name: f"Not tested: a quick look left it out, as it takes {duration_text(seconds)}."
            for name, seconds in planned.items()
            if name in families and name not in chosen
        },
    )


def measure_units(deployment: Deployment, inputs: Array) -> UnitSeconds:
    """Time each unit on `inputs (n, *shape)`, after one try that is not counted.

    What writes is asked about few rows, as it writes word by word about all of them at once, however few they are.
    """
    model, network = deployment.bundle.model, deployment.network
    guard, few = fresh_guard(deployment.bundle), inputs[:FEWEST_ROWS]
    shown = few if isinstance(model.spec.task, WrittenReport) else inputs

    def ask() -> None:
        for row in range(len(few)):
            guard.answer(Query(principal=("estimate",), inputs=few[row : row + 1]))

    learn = _learn_seconds(model.spec, inputs)
    return UnitSeconds(
        answer=usual_seconds(lambda: model.predict(shown)) / len(shown),
        guard=usual_seconds(ask) / len(few),
        network=learn if network is None else usual_seconds(lambda: _slope(network, shown)) / len(shown),
        learn=learn,
    )


def planned_seconds(
    attack: Attack,
    units: UnitSeconds,
    *,
    rows: int,
    craft: int,
    classes: int = 2,
    certified: bool = False,
    candidates: int | None = None,
    lessons: int = 0,
) -> float:
    """About how long an `attack` takes on its arms, judged on so many `rows` and crafted on so many `craft`.

    What is searched without the guard serves the guarded arm, too; who knows it, and what it has `certified`, searches
    anew. Of a model that writes `candidates` and `lessons` are what `written_candidates` counts; 0 where there are none
    to ask about.
    """
    radii, asks = len(FACTORS), units.answer + 2 * units.guard
    effort, restarts = getattr(attack, "effort", 1), getattr(attack, "restarts", 1)
    knowing = _SCREENED * (_CERTIFIED if certified else 1.0)
    checks = 2 * _CHECKS * min(rows, _CHECKED) * units.network
    if isinstance(attack, UniversalAttack):
        aims = classes if getattr(attack, "targeted", False) else 1
        refined = 1 / REFINED if isinstance(attack, UniversalPerturbation) else restarts
        passes = effort * (restarts + (radii - 1) * refined + knowing * (restarts + radii - 1))
        batches = passes * aims * max(1, craft // _BATCH)
        return batches * (_BATCH * units.network + _STEP) + radii * _ASKED * rows * asks + checks
    if isinstance(attack, WhiteBox):
        searches = 1 + (radii - 1) * min(1.0, ALWAYS / max(1, rows)) + knowing
        steps = searches * 2 * effort * restarts  # with either loss
        return steps * (rows * units.network + _STEP) + radii * 2 * rows * asks + checks
    if isinstance(attack, BlackBox):
        return _SPARED * radii * attack.queries * min(attack.rows, rows) * asks
    if isinstance(attack, Theft):
        stops = [attack.queries >> halvings for halvings in range(attack.points)]
        learned = sum(stop * attack.epochs * min(4.0, attack.queries / max(1, stop)) for stop in stops)
        taught = _WRITTEN * units.learn if attack.labels == "text" else units.learn
        return len(ARMS) * learned * taught + attack.queries * asks
    if isinstance(attack, InDomainTheft):
        asked = min(attack.queries, craft)
        clones = 2 * attack.draws * len(answer_counts(asked)) + len(ARMS)  # own labels beside each
        return clones * attack.steps * min(asked, _BATCH) * units.learn + asked * asks
    shadows = 0.0
    if isinstance(attack, ShadowAttack):
        shadows = attack.shadows * attack.epochs * attack.share * rows * units.learn
    if isinstance(attack, MembershipAttack) and candidates is not None:
        asks, copied = candidates * (units.answer + units.guard), COPIES * candidates * units.guard
        return shadows + asks + copied + lessons * units.learn if candidates else 0.0
    return shadows + 2 * rows * asks


def written_candidates(deployment: Deployment, splits: Mapping[str, Split]) -> tuple[int | None, int]:
    """Of a model that writes: how many candidates are asked about, and how many rows the controls are taught.

    No score leaves in a text, so who knows the guard asks about copies of each; and a control is a surrogate. None
    candidates of any other model.
    """
    if not isinstance(deployment.bundle.model.spec.task, WrittenReport):
        return None, 0
    if deployment.manifest is not None:
        third = sum(map(len, splits.values())) // 3  # trained on, held out, and the attacker's own, about
        members, others, own = third, third, third
    elif lacking_rows(splits):
        return 0, 0
    else:
        others = len(splits["holdout"]) // 2
        members, own = len(splits["train"]), len(splits["holdout"]) - others
    side = min(others, WRITTEN)
    return side + min(members, side), surrogate_lessons(own, side)


def clean_seconds(units: UnitSeconds, *rows: int, remembered: bool = False) -> float:
    """About how long it takes to measure what benign users pay, on splits of so many rows each, and what a query takes.

    Answers that are `remembered` are given once a row; what is asked again is judged and not answered.
    """
    again = ACCOUNTS * sum(min(each, CLEAN_QUERIES) for each in rows)
    judged, once = max(units.guard - units.answer, _JUDGED * units.guard), units.guard + units.answer
    return (sum(rows) + LATENCY_PAIRS) * once + again * (judged if remembered else once)


def ordinary_seconds(units: UnitSeconds, rows: int, queries: int) -> float:
    """About how long ordinary behaviour takes: so many rows looked at once, and so many queries stepped through."""
    judged = max(units.guard - units.answer, _JUDGED * units.guard)
    return rows * units.answer + _STEPPED * queries * judged


def duration_text(seconds: float) -> str:
    """How an estimate is told, no more exactly than it is known."""
    if seconds < 50:
        return f"about {max(5, 5 * round(seconds / 5))} seconds"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'' if minutes == 1 else 's'}"


def quick_choice(planned: Mapping[str, float], families: Mapping[str, str], *, seconds: float) -> tuple[str, ...]:
    """Which attacks, by name, fit into so many `seconds`: of each family the quickest first, then the others.

    The quickest of the first family is always among them, though it may take `OVERTIME` times as long: less would show
    too little. Where it takes longer still, as with models that write, and over twice as long as the quickest of all,
    that one is in its place. So is that of another family where it takes next to nothing. The order is that of
    `planned`.
    """
    quickest = sorted(planned, key=lambda name: planned[name])
    if not quickest:
        return ()
    first = [next(name for name in quickest if families[name] == family) for family in dict.fromkeys(families.values())]
    chosen = {run_anyway(planned, families)}
    for name in (*sorted(first, key=lambda name: planned[name]), *quickest):
        spent = sum(planned[each] for each in chosen)
        brief = name in first and planned[name] <= QUICK_SECONDS * BRIEF
        if name not in chosen and (brief or spent + planned[name] <= seconds):
            chosen.add(name)
    return tuple(name for name in planned if name in chosen)


def run_anyway(planned: Mapping[str, float], families: Mapping[str, str]) -> str:
    """The attack that a quick look runs whatever it takes: the quickest of the first family, or else of all."""
    family = next(iter(families.values()))
    first, quickest = _quickest(planned, families, family), min(planned, key=lambda name: planned[name])
    return first if planned[first] <= max(OVERTIME * QUICK_SECONDS, 2 * planned[quickest]) else quickest


def fewer_rows(
    planned_on: Callable[[int], dict[str, float]], families: Mapping[str, str]
) -> tuple[int, dict[str, float]]:
    """On how many rows a quick look judges at most, and what is planned for that; see `FEWER_ROWS`.

    So many that the quickest of the first family may be run. Where no number is few enough, the most on which what is
    run in its place takes no longer than it may, or than it takes anyway: what rows make no shorter has them all.
    """
    plans = {most: planned_on(most) for most in FEWER_ROWS}
    fewest = plans[FEWER_ROWS[-1]]
    if not families:
        return QUICK_ROWS, plans[QUICK_ROWS]
    family = families[run_anyway({name: fewest[name] for name in families}, families)]
    seconds = {most: plans[most][_quickest(plans[most], families, family)] for most in FEWER_ROWS}
    bearable = max(OVERTIME * QUICK_SECONDS, seconds[FEWER_ROWS[-1]])
    most = next(most for most in FEWER_ROWS if seconds[most] <= bearable)
    return most, plans[most]


def _quickest(planned: Mapping[str, float], families: Mapping[str, str], family: str) -> str:
    return min((name for name in planned if families.get(name) == family), key=lambda name: planned[name])


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
    return usual_seconds(lambda: learner.fit(spec, work, targets, epochs=_LEARNED, seed=0)) / (_LEARNED * len(inputs))


def usual_seconds(work: Callable[[], object]) -> float:
    """The median time of a few runs of `work`, after one that warms up: a single stall, of any of them, does not count.

    What takes long is run twice, of which the quicker counts, and what takes `_LONGEST` once.
    """
    took: list[float] = []
    while len(took) <= _TIMED:
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
        if took[-1] >= _LONGEST or (len(took) == 2 and min(took) >= _LONG):
            return min(took)
    return median_low(took[1:])
