"""Report models stolen by their texts: how much of the gap to the victim each thief closes, at one budget for all.

The gap is in label F1 against true labels: from the best constant answer, which needs no victim, to the victim. Thieves
hold photographs, except those who say otherwise, and begin with random weights. Victims are those that `report_victims`
trained and kept; every theft is a cell under ``out/report_theft``, so what was stopped goes on. An interval is the
least and the largest over the seeds.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from claim import Claim

from medward.attacks.base import ACCURACY, LABEL_F1, AttackData
from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.attacks.extraction import Knockoff, Theft
from medward.attacks.extraction.judge import CLONE, NO_VICTIM, label_f1
from medward.attacks.extraction.reports import AdaSteal, ComparingTheft, TextDistillation, TextStudent
from medward.attacks.target import Oracle, Response, Target
from medward.attacks.validation.journal import Journal, code_version, settings_of
from medward.guard.data.split import Split
from medward.guard.models.huggingface_report import open_writer
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import packed_findings, unpacked_findings
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array

CLAIMS = ("report_theft_gain", "report_theft_ablations", "report_theft_radius")
ROOT = Path(__file__).parents[2] / "out"
VICTIMS, OUT = ROOT / "report_victims", ROOT / "report_theft"
DATA, KIND = "nih_cxr", "encoder-decoder"
RADII = (4, 8, 16, 32)  # grey levels of 255
PARTS = ("plain", "enrich", "align", "both")
FEWEST_SEEDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is run: `queries` rows for each thief, `step` of them a round, and `points` clones at halved budgets."""

    seeds: tuple[int, ...] = (0, 1, 2)
    queries: int = 2000
    step: int = 250
    points: int = 3
    epochs: int = 10
    folder: Path = OUT

    def thieves(self) -> dict[str, Theft]:
        """Every thief by name, at this plan's size."""
        aligned = AdaSteal(step=self.step)
        strategies = (
            *(replace(aligned, parts=parts) for parts in PARTS),
            *(replace(aligned, epsilon=grey / 255) for grey in RADII if grey / 255 != aligned.epsilon),
            TextDistillation(),
            TextDistillation(source="noise"),
            TextDistillation(source="in-domain"),
            ComparingTheft(),
        )
        sizes: dict[str, Any] = {"queries": self.queries, "points": self.points}
        found = [Theft(strategy=each, labels="text", epochs=self.epochs, **sizes) for each in strategies]
        found += [replace(found[PARTS.index("both")], pool_share=0.1), Knockoff(labels="hard", **sizes)]
        return {each.name: each for each in found}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportScene:
    """A victim with what its thieves hold; the labels of ``data.test`` are true ones. `digest` names it for cells."""

    name: str
    digest: str
    spec: ModelSpec
    oracle: Oracle
    data: AttackData

    @property
    def victim_f1(self) -> float:
        """The label F1 of the victim's own reports."""
        assert isinstance(self.spec.task, WrittenReport)
        assert self.data.reference is not None
        assert self.data.test.labels is not None
        count = len(self.spec.task.findings)
        return label_f1(*(unpacked_findings(each, count) for each in (self.data.reference, self.data.test.labels)))


def measure() -> Iterator[Claim]:
    """The three claims, of the trained victim; nothing where there is none."""
    torch.set_num_threads(1)
    plan = Plan()
    scenes = {seed: trained_scene(seed, plan.queries) for seed in plan.seeds}
    if any(each is None for each in scenes.values()):
        print("report_theft: skipped, there is no victim; run make bench NAME=report_victims first", flush=True)
        return
    yield from planned(plan, {seed: each for seed, each in scenes.items() if each is not None})


def planned(plan: Plan, scenes: Mapping[int, ReportScene]) -> Iterator[Claim]:
    """The same at another size and of other victims, one scene for each seed."""
    cells = {
        name: [kept(plan, scenes[seed], thief, seed) for seed in plan.seeds] for name, thief in plan.thieves().items()
    }
    aligned, plain = "ada-steal-text", "knockoff-text"
    yield compared(CLAIMS[0], plan, cells, aligned, plain, "ADA-STEAL closes more of the gap than Knockoff with texts")
    ablations = {parts: "ada-steal-text" if parts == "both" else f"ada-steal-{parts}-text" for parts in PARTS}
    means = {parts: fmean(gaps(cells[name])) for parts, name in ablations.items()}
    ordered = (
        means["both"] >= max(means["enrich"], means["align"]) and min(means["enrich"], means["align"]) >= means["plain"]
    )
    first = compared(CLAIMS[1], plan, cells, ablations["both"], ablations["plain"], "both >= enrich, align >= plain")
    yield replace(first, met=first.met and ordered, details={**first.details, "mean_gap_closed": means})
    radii = {grey: aligned if f"ada-steal-{grey}-text" not in cells else f"ada-steal-{grey}-text" for grey in RADII}
    best = max(RADII, key=lambda grey: fmean(gaps(cells[radii[grey]])))
    last = compared(CLAIMS[2], plan, cells, radii[best], plain, "the best radius closes more of the gap than none")
    sweep = {str(grey): gaps(cells[name]) for grey, name in radii.items()}
    yield replace(last, details={**last.details, "best_radius": best, "gap_closed_by_radius": sweep})


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
            "gap_closed": {name: gaps(found) for name, found in cells.items()},
            "victim_f1": [each["victim"] for each in cells[mine]],
            "no_victim_f1": [each["constant"] for each in cells[mine]],
            "agreement": {name: [each["agreement"] for each in found] for name, found in cells.items()},
            "f1_over_queries": {name: [each["curve"] for each in found] for name, found in cells.items()},
            "flags": {name: said for name, found in cells.items() if (said := [each["flags"] for each in found])},
        },
    )


def gaps(cells: Sequence[Mapping[str, Any]]) -> list[float]:
    """The share of the gap that was closed, seed by seed."""
    return [(each["curve"][1][-1] - each["constant"]) / (each["victim"] - each["constant"]) for each in cells]


def kept(plan: Plan, scene: ReportScene, thief: Theft, seed: int) -> dict[str, Any]:
    """One theft from the bare victim, done once: label F1 against true labels over the budget."""
    settings = {"theft": settings_of(thief), "victim": scene.digest, "seed": seed, "code": code_version()}
    found, recalled = Journal(plan.folder).once(settings, lambda: _stolen(scene, thief, seed))
    if not recalled:
        print(f"{scene.name} {thief.name} {seed}: F1 {found['curve'][1]} of {found['victim']:.3f}", flush=True)
    return dict(found)


def _stolen(scene: ReportScene, thief: Theft, seed: int) -> dict[str, Any]:
    result = thief.run(Target(scene.spec, scene.oracle, thief.threat), scene.data, seed=seed)
    return {
        "curve": result.curves[f"{CLONE}{LABEL_F1}{ACCURACY}"],
        "constant": result.curves[f"{NO_VICTIM}{LABEL_F1}{ACCURACY}"][1][-1],
        "victim": scene.victim_f1,
        "agreement": float(np.mean(result.outcome)),
        "rows": len(result.outcome),
        "queries": result.queries,
        "flags": list(result.flags),
    }


def batched_oracle(spec: ModelSpec, student: TextStudent) -> Oracle:
    """A victim that writes about many images at once, which is quicker than row by row; everything leaves."""

    def ask(inputs: Array) -> Response:
        texts = student.write(spec.check(inputs))
        scores = spec.task.read(texts, spec.name)
        return Response(spec.decide(scores), scores, spec.output, texts=tuple(texts))

    return ask


def trained_scene(seed: int, photographs: int) -> ReportScene | None:
    """The victim that was trained on `DATA`, with photographs for its thieves; None where none was kept.

    What thieves hold of its own kind is "holdout", or "validation" where there is none.
    """
    folders = sorted(VICTIMS.glob(f"{DATA}-{KIND}-images-mined-*/model"))
    if not folders:
        return None
    loaded = importlib.import_module("medward.attacks.benchmarks.reports.report_data")
    reports = {"nih_cxr": loaded.load_nih_reports, "pneumoniamnist": loaded.load_pneumonia_reports}[DATA](0)
    writer = open_writer(folders[-1])
    longest = int(writer.network.generation_config.max_new_tokens)
    spec = ModelSpec(
        name=DATA,
        modality="image",
        shape=reports.shape,
        task=WrittenReport(findings=reports.findings, length=longest, vocabulary=writer.vocabulary),
        low=0.0,
        high=1.0,
    )
    oracle = batched_oracle(spec, TextStudent(writer=writer, mean=0.0, spread=1.0, longest=longest))
    test, own = reports.splits["test"], reports.splits.get("holdout", reports.splits["validation"])
    found = np.array([[name in each.present for name in reports.findings] for each in test.facts])
    return ReportScene(
        name=DATA,
        digest=folders[-1].parent.name,
        spec=spec,
        oracle=oracle,
        data=AttackData(
            craft=Split(own.images),
            test=Split(test.images, packed_findings(found), test.patients),
            pool=natural_images(4 * photographs, reports.shape, seed=seed),
            reference=oracle(test.images).labels,
        ),
    )
