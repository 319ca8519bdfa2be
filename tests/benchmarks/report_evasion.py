"""Findings planted in written reports and left out of them by small changes of the image, before and after hardening.

Each report that a change leads to is read by `ReportReader`: a row counts where the text that the victim then writes
says another set of findings, doubt counting as there. What follows gradients knows the victim's weights and what it
writes about images of its own; one change for all images is crafted on these and judged on others. Victims are those
that `report_victims` trained; their vision towers are hardened on training images alone, without a report. Settings
were chosen on the "validation" images of PneumoniaMNIST. Hardened ones are also attacked for longer, and by what was
found on the bare network: neither should win much more. Every run is a cell under ``out/report_evasion``, so what was
stopped goes on. An interval is that of the rows, at the seed of the attack where its end lies farthest out; there is
one victim of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from claim import Claim
from report_scenes import batched_oracle
from report_victims import SUBJECTS as VICTIMS
from report_victims import victim_folder

from medward.attacks.base import AttackData
from medward.attacks.benchmarks.reports.report_data import ReportData
from medward.attacks.benchmarks.reports.report_networks import save_writer
from medward.attacks.benchmarks.reports.report_scores import fact_labels, label_scores, report_labels
from medward.attacks.evasion.perturbation import apply_perturbation
from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.evasion.success import criterion_of
from medward.attacks.evasion.uap import craft_universal
from medward.attacks.intervals import rate_interval
from medward.attacks.target import Oracle, Target
from medward.attacks.threat import Access, ThreatModel
from medward.attacks.validation.journal import Journal, code_version, run_name, settings_of
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.report_network import white_box_writer
from medward.attacks.whitebox.search import Search
from medward.guard import models
from medward.guard.data.split import Split
from medward.guard.harden.robust.tower import TowerTraining
from medward.guard.harden.robust.training import Training
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.models.huggingface_report import open_writer
from medward.guard.spec import ModelSpec
from medward.guard.tasks.multilabel import unpacked_findings
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Ints

CLAIMS = ("report_evasion_per_image", "report_evasion_universal", "report_evasion_hardened")
OUT = Path(__file__).parents[2] / "out" / "report_evasion"
KIND, SEED = "encoder-decoder", 1
MAIN = "nih_cxr"
GREYS, SHARED = (2, 4, 8), 8  # grey levels of 255: of a change for each image, and of one for all
LEAST_FOOLED, F1_LOST, FEWEST_SEEDS = 0.5, 0.05, 3
ARMS = ("bare", "hardened")
FEW, LONGER, MORE = 30, 40, 6  # rows, steps and texts to compare of the longer attack


@dataclass(frozen=True, slots=True, kw_only=True)
class EvasionPlan:
    """How much is run: `rows` judged, `craft` others, `steps` by each loss, `epochs` by each loss for one change."""

    seeds: tuple[int, ...] = (0, 1, 2)
    rows: int = 60
    craft: int = 60
    steps: int = 10
    epochs: int = 5
    reports: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EvasionScene:
    """A victim as it is attacked: its writer, whom to ask, and the images of both sides."""

    name: str
    digest: str
    writer: PretrainedWriter
    spec: ModelSpec
    data: AttackData
    f1: tuple[float, float, float]

    @property
    def oracle(self) -> Oracle:
        """The victim, bare; it writes about many images at once."""
        return batched_oracle(self.spec, self.writer)


SUBJECTS: Mapping[str, TowerTraining] = {
    "pneumoniamnist": TowerTraining(epsilon=12 / 255, training=Training(epochs=8, rate=1e-3, weight_decay=1e-4)),
    "nih_cxr": TowerTraining(epsilon=12 / 255, training=Training(epochs=37, rate=1e-3, weight_decay=1e-4)),
}


def measure() -> Iterator[Claim]:
    """The three claims, of trained victims; nothing where there is none."""
    torch.set_num_threads(1)
    plan = EvasionPlan()
    data = {name: VICTIMS[name].load(SEED) for name in SUBJECTS}
    folders = {name: victim_folder(name, each, KIND) / "model" for name, each in data.items()}
    if not all(each.is_dir() for each in folders.values()):
        print("report_evasion: skipped, there is no victim; run make bench NAME=report_victims first", flush=True)
        return
    scenes = {
        (name, arm): evasion_scene(name, arm, plan, data[name], tower, folders[name])
        for name, tower in SUBJECTS.items()
        for arm in ARMS
    }
    yield from evaded(plan, scenes, OUT)


def evaded(plan: EvasionPlan, scenes: Mapping[tuple[str, str], EvasionScene], folder: Path) -> Iterator[Claim]:
    """The claims about `scenes`, by subject and arm; each has the figures of all."""
    journal, figures = Journal(folder / "cells"), {}
    for (name, arm), scene in scenes.items():
        of = figures.setdefault(name, {})
        of[arm] = {"label_f1": scene.f1}
        for grey in GREYS:
            cells = [kept(journal, scene, plan, seed, grey) for seed in plan.seeds]
            of[arm][f"per image, {grey}/255"] = {"interval": widest(cells), "seeds": cells}
        cells = [kept(journal, scene, plan, seed, SHARED, universal=True) for seed in plan.seeds]
        of[arm][f"universal, {SHARED}/255"] = {"interval": widest(cells), "seeds": cells}
    checks = {name: doubted(journal, scenes[name, ARMS[0]], scenes[name, ARMS[1]], plan) for name in figures}
    main = MAIN if MAIN in figures else next(iter(figures))
    bare, hardened = (figures[main][arm] for arm in ARMS)
    each, all_ = f"per image, {GREYS[1]}/255", f"universal, {SHARED}/255"
    details = {"interval_is": "95 % over rows, the widest over seeds", "seeds": list(plan.seeds), "plan": asdict(plan)}
    details |= {"kind": KIND, "subjects": figures}
    yield found(CLAIMS[0], bare[each]["seeds"], LEAST_FOOLED, details)
    yield found(CLAIMS[1], bare[all_]["seeds"], LEAST_FOOLED / 2, details)
    before, after = (shares(arm[each]["seeds"]) for arm in (bare, hardened))
    lost = bare["label_f1"][0] - hardened["label_f1"][0]
    yield Claim(
        claim=CLAIMS[2],
        value=fmean(after),
        interval=widest(hardened[each]["seeds"]),
        target=f"at most half as many reports changed within {GREYS[1]}/255 as before, in each of >= {FEWEST_SEEDS} "
        f"seeds, for at most {F1_LOST} of label F1",
        met=all(b <= a / 2 for a, b in zip(before, after, strict=True))
        and len(after) >= FEWEST_SEEDS
        and lost <= F1_LOST,
        n=int(hardened[each]["seeds"][0]["rows"]),
        details={
            "interval_is": details["interval_is"],
            "label_f1_lost": lost,
            "checks": checks,
            "figures_in": CLAIMS[0],
        },
    )


def found(claim: str, cells: Sequence[Mapping[str, Any]], least: float, details: Mapping[str, Any]) -> Claim:
    """The share of reports changed; met where it is `least` or more in every seed, and noise does a fifth at most."""
    fooled, noisy = shares(cells), [each["noise"] for each in cells]
    return Claim(
        claim=claim,
        value=fmean(fooled),
        interval=widest(cells),
        target=f">= {least} of reports changed, by random signs of the same size a fifth of that at most, in each of "
        f">= {FEWEST_SEEDS} seeds",
        met=min(fooled) >= least
        and all(noise <= share / 5 for noise, share in zip(noisy, fooled, strict=True))
        and len(fooled) >= FEWEST_SEEDS,
        n=int(cells[0]["rows"]),
        details=dict(details) if claim == CLAIMS[0] else {"figures_in": CLAIMS[0]},
    )


def shares(cells: Sequence[Mapping[str, Any]]) -> list[float]:
    """The share of reports that say other findings, seed by seed."""
    return [float(each["changed"]) for each in cells]


def widest(cells: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """From the lowest end of any seed's interval over rows to the highest."""
    each = [rate_interval(np.arange(cell["rows"]) < round(cell["changed"] * cell["rows"])) for cell in cells]
    return min(one.low for one in each), max(one.high for one in each)


def kept(
    journal: Journal, scene: EvasionScene, plan: EvasionPlan, seed: int, grey: int, *, universal: bool = False
) -> dict[str, Any]:
    """One attack, run once."""
    settings: dict[str, Any] = {"victim": scene.digest, "plan": asdict(replace(plan, seeds=())), "seed": seed}
    settings |= {"grey": grey, "universal": universal, "code": code_version()}
    outcome, recalled = journal.once(settings, lambda: attacked(scene, plan, seed, grey, universal))
    if not recalled:
        print(f"{scene.name} {grey}/255 {'universal' if universal else 'per image'} {seed}: {outcome}", flush=True)
    return dict(outcome)


def doubted(journal: Journal, bare: EvasionScene, scene: EvasionScene, plan: EvasionPlan) -> dict[str, Any]:
    """Reports of a hardened victim changed by the usual attack, a longer one, and one on the bare network; few rows."""
    few = replace(scene, data=replace(scene.data, test=scene.data.test.take(np.arange(FEW))))
    longer, found = replace(plan, steps=LONGER, reports=MORE), {}
    for name, how, source in (("usual", plan, None), ("longer", longer, None), ("transferred", plan, bare)):
        settings = {"victim": scene.digest, "plan": asdict(replace(how, seeds=())), "check": name}
        run = partial(attacked, few, how, 0, GREYS[1], False, source)
        found[name] = journal.once({**settings, "rows": FEW, "code": code_version()}, run)[0]["changed"]
        print(f"{scene.name} {name}: {found[name]}", flush=True)
    return found


def attacked(
    scene: EvasionScene,
    plan: EvasionPlan,
    seed: int,
    grey: int,
    universal: bool,
    source: EvasionScene | None = None,
) -> dict[str, Any]:
    """What is written about the test images once they are changed, and with noise of the same size.

    Gradients are the victim's own, or those of a `source`.
    """
    search, target = white_box_search(scene, plan, seed, grey, source)
    spec, craft = scene.spec, torch.from_numpy(np.asarray(scene.data.craft.inputs))
    x = torch.from_numpy(np.asarray(scene.data.test.inputs))
    y = torch.from_numpy(target.query(x.numpy()).labels)
    if universal:
        crafted = craft_universal(
            search, craft, search.decided(craft), epochs=plan.epochs, restarts=2, batch=min(30, len(craft))
        )
        made, gradients = apply_perturbation(search.ball, x, crafted.delta), crafted.gradients
        noise = search.ball.surface((1, *x.shape[1:]), search.generator)
    else:
        followed = y if source is None else search.decided(x)
        ascent = worst_case_pgd(search, x, followed, steps=plan.steps, restarts=1)
        made, gradients = ascent.adversarial, ascent.gradients
        noise = search.ball.surface(tuple(x.shape), search.generator)
    assert float((made - x).abs().max()) <= grey / 255 + 1e-6
    said, noisy = (target.query(rows.numpy()).labels for rows in (made, search.ball.clip(x + noise)))
    return {
        "rows": len(x),
        **changes(y.numpy(), said, len(spec.task.findings)),
        "noise": changes(y.numpy(), noisy, len(spec.task.findings))["changed"],
        "gradients": gradients,
        "asked": target.queries,
    }


def white_box_search(
    scene: EvasionScene, plan: EvasionPlan, seed: int, grey: int, source: EvasionScene | None = None
) -> tuple[Search, Target]:
    """The frame of a search by the gradients of the victim, or of a `source`, and the victim as it is asked."""
    model = models.wrap((source or scene).writer, spec=scene.spec, sample=scene.data.craft.inputs[:2])
    network, reason = white_box_writer(model, scene.data.craft.inputs, most=plan.reports)
    if network is None:
        raise RuntimeError(reason)
    radius = grey / 255
    search = Search(
        network,
        criterion_of(scene.spec),
        Ball.of(scene.spec, scene.data.craft.inputs, radius),
        torch.Generator().manual_seed(seed),
        stop=source is None,  # what just wins on a source seldom wins elsewhere
    )
    threat = ThreatModel(access=Access.GRADIENTS, epsilon=radius)
    return search, Target(scene.spec, scene.oracle, threat, network=network)


def changes(clean: Ints, said: Ints, count: int) -> dict[str, float]:
    """The shares of reports that say other findings, that leave one out, and in which one is planted."""
    before, after = (unpacked_findings(each, count) for each in (clean, said))
    left_out, planted = (before & ~after).any(axis=1), (after & ~before).any(axis=1)
    return {
        "changed": float((left_out | planted).mean()),
        "left_out": float(left_out.mean()),
        "planted": float(planted.mean()),
    }


def evasion_scene(
    name: str, arm: str, plan: EvasionPlan, data: ReportData, training: TowerTraining, folder: Path
) -> EvasionScene:
    """The victim as it was trained or hardened, which is kept beside the cells; rows are drawn of each split."""
    writer = open_writer(folder)
    length = int(writer.network.generation_config.max_new_tokens)
    spec = ModelSpec(
        name=name,
        modality="image",
        shape=data.shape,
        task=WrittenReport(findings=data.findings, length=length, vocabulary=writer.vocabulary),
        low=0.0,
        high=1.0,
    )
    train, own, test = (data.splits[each] for each in ("train", "validation", "test"))
    digest = folder.parent.name
    if arm == "hardened":
        settings = {"victim": digest, "training": settings_of(training), "code": code_version()}
        shift, _ = Journal(OUT / "towers").once(settings, lambda: _hardened(writer, spec, train, own, training, name))
        writer, digest = open_writer(OUT / f"{name}-tower"), f"{digest} {run_name(settings)}"
        print(f"{name} hardened: {shift}", flush=True)
    oracle = batched_oracle(spec, writer)
    said = report_labels(list(oracle(test.images).texts), data.findings)
    found = label_scores(fact_labels(test.facts, data.findings), said, data.findings, patients=test.patients, seed=SEED)
    draws = np.random.default_rng(SEED)
    rows, craft = (
        np.sort(draws.permutation(len(each))[:most]) for each, most in ((test, plan.rows), (own, plan.craft))
    )
    return EvasionScene(
        name=f"{name} {arm}",
        digest=digest,
        writer=writer,
        spec=spec,
        data=AttackData(craft=Split(own.images[craft]), test=Split(test.images[rows])),
        f1=(found.micro.value, found.micro.low, found.micro.high),
    )


def _hardened(
    writer: PretrainedWriter, spec: ModelSpec, train: Any, own: Any, training: TowerTraining, name: str
) -> dict[str, Any]:
    """Harden the tower and keep the writer; how far features move."""
    made = training.harden(writer, spec, train.images, own.images[:150], seed=SEED)
    save_writer(made.writer, OUT / f"{name}-tower")
    return {"before": asdict(made.before), "after": asdict(made.after), "epoch": made.epoch, "epochs": made.epochs}
