"""Report models stolen by their texts: how much of the gap to the victim each thief closes, at one budget for all.

The gap is in label F1 against true labels, "no finding" being a label: from the best constant answer, which needs no
victim, to the victim. Thieves hold photographs, except those who say otherwise, and begin with random weights, except
one. Victims are those that `report_victims` trained and kept; every theft is a cell under ``out/report_theft``, so what
was stopped goes on. An interval is the least and the largest over the seeds.

Sizes were chosen on another victim, LLaVA's kind on PneumoniaMNIST, judged on other rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from claim import Claim
from report_scenes import ReportScene, report_data, trained_scene
from report_transfer import FEWEST_SEEDS, radius_claim, transfer, transfer_claim
from report_victims import victim_folder

from medward.attacks.base import ACCURACY, LABEL_F1
from medward.attacks.benchmarks.reports.report_networks import ReporterKind
from medward.attacks.extraction import Knockoff, Theft
from medward.attacks.extraction.judge import CLONE
from medward.attacks.extraction.reports import AdaSteal, ComparingTheft, FolderStudent, SmallStudent, TextDistillation
from medward.attacks.target import Response, Target
from medward.attacks.validation.journal import Journal, code_version, run_name, settings_of
from medward.guard.types import Array

CLAIMS = (
    "report_theft_gain",
    "report_theft_ablations",
    "report_theft_radius",
    "report_theft_transfer",
    "report_theft_elsewhere",
)
OUT = Path(__file__).parents[2] / "out" / "report_theft"
HEADLINE, SECOND = "pneumoniamnist", "nih_cxr"
KIND: ReporterKind = "encoder-decoder"
STUDENT = SmallStudent(width=64, layers=1)
OTHER_RADII = (8, 32)  # grey levels of 255, beside ADA-STEAL's own
PARTS = ("plain", "enrich", "align", "both")
ALIGNED, PLAIN, INSIDE = "ada-steal-text", "ada-steal-plain-text", "in-domain-text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is run: `queries` rows for each thief, `step` of them a round, and two clones for those with a curve.

    Clones learn for `epochs`, after as many of warming up. ADA-STEAL's first round is plain, so its curve begins where
    Knockoff's does.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    queries: int = 500
    step: int = 250
    epochs: int = 15
    folder: Path = OUT

    @property
    def photographs(self) -> int:
        """How many a thief has: it may choose."""
        return 4 * self.queries

    def aligned(self, **settings: Any) -> AdaSteal:
        """ADA-STEAL at this plan's size."""
        return AdaSteal(**{"step": self.step, "epochs": max(1, self.epochs // 2), "student": STUDENT, **settings})

    def theft(self, strategy: Any, **settings: Any) -> Theft:
        """A theft of texts at this plan's size."""
        sizes = {"queries": self.queries, "epochs": self.epochs, "points": 1}
        return Theft(**{"strategy": strategy, "labels": "text", **sizes, **settings})

    def thieves(self) -> dict[str, Theft]:
        """Every thief by name."""
        inside = TextDistillation(source="in-domain", student=STUDENT)
        curves = (self.aligned(), inside, self.aligned(parts="plain"))
        found = [self.theft(each, points=2) for each in curves]
        found += [self.theft(self.aligned(parts=parts)) for parts in PARTS if parts not in ("both", "plain")]
        found += [self.theft(self.aligned(epsilon=grey / 255)) for grey in OTHER_RADII]
        found += [
            self.theft(self.aligned(), pool_share=0.1),
            Knockoff(labels="hard", queries=self.queries, epochs=self.epochs, points=1),
        ]
        return {each.name: each for each in found}

    def others(self) -> dict[str, Theft]:
        """Thieves who are tried with one seed, as none of them has more than photographs or noise."""
        found = (ComparingTheft(periods=1, student=STUDENT), TextDistillation(source="noise", student=STUDENT))
        return {each.name: each for each in map(self.theft, found)}

    def second(self) -> dict[str, Theft]:
        """Those who also try the second victim."""
        return {name: self.thieves()[name] for name in (PLAIN, ALIGNED, INSIDE)}


def measure() -> Iterator[Claim]:
    """The claims, of the trained victims; nothing where one was not kept."""
    torch.set_num_threads(1)
    plan = Plan()
    scenes = {(name, seed): trained_scene(name, KIND, plan.photographs, seed=seed) for name, seed in all_cells(plan)}
    if any(each is None for each in scenes.values()):
        print("report_theft: skipped, a victim is missing; run make bench NAME=report_victims first", flush=True)
        return
    yield from planned(plan, {key: each for key, each in scenes.items() if each is not None})


def all_cells(plan: Plan) -> list[tuple[str, int]]:
    """Every victim with every seed."""
    return [(name, seed) for name in (HEADLINE, SECOND) for seed in plan.seeds]


def planned(plan: Plan, scenes: Mapping[tuple[str, int], ReportScene]) -> Iterator[Claim]:
    """The same at another size and of other victims."""
    first = {seed: scenes[HEADLINE, seed] for seed in plan.seeds}
    second = {seed: scenes[SECOND, seed] for seed in plan.seeds}
    moved = [kept_transfer(plan, first[seed], seed) for seed in plan.seeds]
    cells = stolen_cells(plan, first, plan.thieves())
    once = replace(plan, seeds=plan.seeds[:1])
    cells |= stolen_cells(once, first, plan.others())
    yield compared(CLAIMS[0], plan, cells, ALIGNED, PLAIN, "ADA-STEAL closes more of the gap than Knockoff with texts")
    names = {parts: ALIGNED if parts == "both" else f"ada-steal-{parts}-text" for parts in PARTS}
    means = {parts: fmean(gaps(cells[name])) for parts, name in names.items()}
    ordered = means["both"] >= max(means["enrich"], means["align"]) >= means["plain"]
    ordered = ordered and min(means["enrich"], means["align"]) >= means["plain"]
    parts = compared(CLAIMS[1], plan, cells, ALIGNED, PLAIN, "both >= enrich, align >= plain")
    yield replace(parts, met=parts.met and ordered, details={**parts.details, "mean_gap_closed": means})
    radii = {"16": ALIGNED} | {f"{grey}": f"ada-steal-{grey}-text" for grey in OTHER_RADII}
    yield radius_claim(CLAIMS[2], moved, {grey: gaps(cells[name]) for grey, name in radii.items()})
    yield transfer_claim(CLAIMS[3], moved)
    yield elsewhere(plan, first, second)


def elsewhere(plan: Plan, first: Mapping[int, ReportScene], second: Mapping[int, ReportScene]) -> Claim:
    """ADA-STEAL beside Knockoff on the second victim, and Knockoff with pre-trained weights on the first."""
    cells = stolen_cells(plan, second, plan.second())
    once = replace(plan, seeds=plan.seeds[:1])
    public = stolen_cells(once, first, {PLAIN: pretrained(plan)})
    claim = compared(
        CLAIMS[4], plan, cells, ALIGNED, PLAIN, "ADA-STEAL closes more of the gap than Knockoff with texts"
    )
    pre = {**figures(public), "before_any_answer_f1": public_f1(first[plan.seeds[0]])}
    return replace(
        claim,
        target="reported: ADA-STEAL's share of the gap less that of Knockoff with texts",
        met=True,
        details={**claim.details, "victim": SECOND, "pre_trained": pre},
    )


def pretrained(plan: Plan) -> Theft:
    """Knockoff with texts by a thief who begins with a network that was trained elsewhere, as if it were public."""
    return plan.theft(plan.aligned(parts="plain", student=public_student()))


def public_student() -> FolderStudent:
    """The victim of the second data set in the hands of who steals the first."""
    data = report_data(SECOND)
    folder = victim_folder(SECOND, data, KIND) / "model"
    return FolderStudent(folder=str(folder), mean=0.0, spread=1.0, longest=60, side=data.shape[-1])


def public_f1(scene: ReportScene) -> float:
    """What that network is worth before it learned any answer."""
    student = public_student().begin(scene.spec, scene.data.test.inputs, [], seed=0)
    return scene.f1(student.write(scene.data.test.inputs))


def stolen_cells(
    plan: Plan, scenes: Mapping[int, ReportScene], thieves: Mapping[str, Theft]
) -> dict[str, list[dict[str, Any]]]:
    """What came of each thief, seed by seed; a seed is done before the next begins."""
    found = [{name: kept(plan, scenes[seed], thief, seed) for name, thief in thieves.items()} for seed in plan.seeds]
    return {name: [each[name] for each in found] for name in thieves}


def compared(
    claim: str, plan: Plan, cells: Mapping[str, Sequence[Mapping[str, Any]]], mine: str, other: str, target: str
) -> Claim:
    """The gap that one thief closes less that of another, seed by seed; met where it is above zero in every one."""
    differences = [a - b for a, b in zip(gaps(cells[mine]), gaps(cells[other]), strict=True)]
    return Claim(
        claim=claim,
        value=fmean(differences),
        interval=(min(differences), max(differences)),
        target=f"{target}, in each of >= {FEWEST_SEEDS} seeds",
        met=min(differences) > 0 and len(differences) >= FEWEST_SEEDS,
        n=int(cells[mine][0]["rows"]),
        details={
            "interval_is": "least and largest over seeds",
            "seeds": list(plan.seeds),
            "queries": plan.queries,
            "compared": [mine, other],
            **figures(cells),
        },
    )


def figures(cells: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What is committed of some thieves: all but texts and images."""
    anyone = next(iter(cells.values()))
    return {
        "gap_closed": {name: gaps(found) for name, found in cells.items()},
        "victim_f1": [each["victim"] for each in anyone],
        "no_victim_f1": [each["constant"] for each in anyone],
        "agreement": {name: [each["agreement"] for each in found] for name, found in cells.items()},
        "f1_over_queries": {name: [each["curve"] for each in found] for name, found in cells.items()},
        "answers_by_finding": {name: found[0]["answers"] for name, found in cells.items()},
        "flags": {name: said for name, found in cells.items() if any(said := [each["flags"] for each in found])},
    }


def gaps(cells: Sequence[Mapping[str, Any]]) -> list[float]:
    """The share of the gap that was closed, seed by seed."""
    return [gap_closed(each["curve"][1][-1], each["constant"], each["victim"]) for each in cells]


def gap_closed(clone: float, constant: float, victim: float) -> float:
    """How far a clone's F1 is from the best constant answer's to the victim's."""
    return (clone - constant) / (victim - constant)


def kept(plan: Plan, scene: ReportScene, thief: Theft, seed: int) -> dict[str, Any]:
    """One theft from the bare victim, done once: label F1 against true labels over the budget."""
    settings = cell_settings(scene, thief, seed)
    path = asked_path(plan, scene, thief, seed)
    found, recalled = Journal(plan.folder).once(settings, lambda: stolen(scene, thief, seed, path))
    if not recalled:
        print(f"{scene.name} {thief.name} {seed}: F1 {found['curve'][1]} of {found['victim']:.3f}", flush=True)
    return dict(found)


def cell_settings(scene: ReportScene, thief: Theft, seed: int) -> dict[str, Any]:
    """All that a theft rests on."""
    return {"theft": settings_of(thief), "victim": scene.digest, "seed": seed, "code": code_version()}


def asked_path(plan: Plan, scene: ReportScene, thief: Theft, seed: int) -> Path:
    """Where the rows are kept that ADA-STEAL asked about, in order; other thieves make nothing of their own."""
    return plan.folder / f"{run_name(cell_settings(scene, thief, seed))}.npy"


def stolen(scene: ReportScene, thief: Theft, seed: int, path: Path) -> dict[str, Any]:
    """One theft from the bare victim."""
    asked: list[Array] = []
    answers = np.zeros(scene.labels.shape[1], int)

    def listen(inputs: Array) -> Response:
        asked.append(np.array(inputs))
        response = scene.oracle(inputs)
        answers[:] += scene.read([text for text in response.texts if text is not None]).sum(axis=0)
        return response

    result = thief.run(Target(scene.spec, listen, thief.threat), scene.data, seed=seed)
    if thief.name == ALIGNED:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate(asked))
    return {
        "curve": result.curves[f"{CLONE}{LABEL_F1}{ACCURACY}"],
        "constant": scene.constant_f1,
        "victim": scene.victim_f1,
        "agreement": float(np.asarray(result.outcome, np.float64).mean()),
        "rows": len(result.outcome),
        "queries": result.queries,
        "answers": answers.tolist(),
        "flags": list(result.flags),
    }


def kept_transfer(plan: Plan, scene: ReportScene, seed: int) -> dict[str, Any]:
    """Why noise does or does not help, measured once."""
    settings = {
        "transfer": settings_of(plan.aligned()),
        "sizes": [plan.queries, plan.epochs],
        "victim": scene.digest,
        "seed": seed,
        "code": code_version(),
    }

    def run() -> dict[str, Any]:
        return transfer(scene, plan.aligned(), queries=plan.queries, epochs=plan.epochs, seed=seed)

    return dict(Journal(plan.folder).once(settings, run)[0])
