"""Findings planted in reports and left out of them behind the default guard, by who does not know it and by who does.

The guard is what `protect` makes with the policy's defaults: screens judge each image, and what the network sees of it,
beside benign images of other patients. Attacked are images each for itself within 4/255, and all by one change within
8/255. An image is left alone once its report says other findings, so most of them change by less. Who knows the guard
also keeps the score of the screens under their threshold, by its gradient, and may stop at half of the way. A row
counts where the guard lets other findings leave than the bare network names of the image as it is; a refused one does
not. Every image is asked about from an account of its own, so no memory helps. Victims are those of `report_evasion`;
where patients are known all images of some of them are attacked, the guard knows others, and an interval is over
patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from claim import Claim
from numpy.typing import NDArray
from report_evasion import GREYS as OWN
from report_evasion import KIND, MAIN, SEED, SHARED, SUBJECTS, EvasionPlan, evasion_scene
from report_scenes import unseen_rows
from report_victims import SUBJECTS as VICTIMS
from report_victims import victim_folder
from torch import Tensor

from medward.attacks.base import AttackData
from medward.attacks.benchmarks.reports.report_data import ReportData
from medward.attacks.checks import dead_screens
from medward.attacks.evasion.perturbation import apply_perturbation
from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.evasion.success import criterion_of
from medward.attacks.evasion.uap import craft_universal
from medward.attacks.intervals import Interval, balanced_rate, rate_interval
from medward.attacks.target import Oracle, Response, guarded_oracle
from medward.attacks.validation.journal import Journal, code_version
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.network import Detector
from medward.attacks.whitebox.report_network import ReportNetwork, white_box_writer
from medward.attacks.whitebox.search import Search
from medward.guard import models
from medward.guard.data.split import Split
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy, ReleasePolicy
from medward.guard.profile import Profile, idle_screen
from medward.guard.spec import ModelSpec
from medward.guard.types import Ints

CLAIMS = ("report_evasion_guarded", "report_evasion_guarded_universal")
OUT = Path(__file__).parents[2] / "out" / "report_evasion"
GUARDED = Policy(on_error="withhold", release=ReleasePolicy(level="label"))
"""The defaults; findings leave and texts do not, which changes nothing here."""
GREYS = {"per image": OWN[1], "universal": SHARED}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedPlan:
    """How much is run: `rows` attacked, or all images of `patients` where they are known; `craft` of training images.

    With more patients the guard would know too few to refuse one in a hundred benign images. `factors` are the shares
    of the radius that who knows the guard tries.
    """

    seeds: tuple[int, ...] = (0,)
    rows: int = 60
    patients: int = 45
    craft: int = 60
    steps: int = 10
    epochs: int = 5
    reports: int = 4
    factors: tuple[float, ...] = (0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedScene:
    """A victim behind its guard: who is asked with it and without, the rows of both sides, and whose they are."""

    name: str
    digest: str
    spec: ModelSpec
    network: ReportNetwork
    bare: Oracle
    guard: Guard
    data: AttackData
    idle: str

    @property
    def patients(self) -> Ints:
        """Whose each attacked row is ``(n,)``; every image its own where that is not known."""
        test = self.data.test
        return np.arange(len(test)) if test.patients is None else test.patients


def measure() -> Iterator[Claim]:
    """Both claims, of trained victims; nothing where there is none."""
    torch.set_num_threads(1)
    plan = GuardedPlan()
    data = {name: VICTIMS[name].load(SEED) for name in SUBJECTS}
    folders = {name: victim_folder(name, each, KIND) / "model" for name, each in data.items()}
    if not all(each.is_dir() for each in folders.values()):
        print("report_evasion_guarded: skipped, run make bench NAME=report_victims first", flush=True)
        return
    yield from withstood(plan, {name: guarded_scene(name, plan, data[name], folders[name]) for name in SUBJECTS}, OUT)


def withstood(plan: GuardedPlan, scenes: Mapping[str, GuardedScene], folder: Path) -> Iterator[Claim]:
    """The claims about `scenes`; the first has the figures of both."""
    journal, limit = Journal(folder / "guarded"), GUARDED.gate.evasion_success
    figures = {
        name: {
            "images": len(scene.data.test),
            "patients": len(np.unique(scene.patients)) if scene.data.test.patients is not None else None,
            "reference": len(scene.guard.profile.reference),
            "idle": scene.idle,
            "attacks": {
                f"{what}, {grey}/255": figures_of(
                    scene,
                    [kept(journal, plan, scene, seed, grey, universal=what == "universal") for seed in plan.seeds],
                )
                for what, grey in GREYS.items()
            },
        }
        for name, scene in scenes.items()
    }
    main = MAIN if MAIN in figures else next(iter(figures))
    for claim, (what, grey) in zip(CLAIMS, GREYS.items(), strict=True):
        changed = {name: each["attacks"][f"{what}, {grey}/255"]["knowing"] for name, each in figures.items()}
        yield Claim(
            claim=claim,
            value=changed[main]["value"],
            interval=(changed[main]["low"], changed[main]["high"]),
            target=f"by who knows the guard, upper end <= {limit:g}, the gate's bound, on both data sets",
            met=all(each["high"] <= limit for each in changed.values()),
            n=figures[main]["patients"] or figures[main]["images"],
            details={
                "interval_is": "95 % over patients, or images where these are not known; widest over seeds",
                "plan": asdict(plan),
                "kind": KIND,
                "screen_rate": GUARDED.screen.rate,
                "subjects": figures,
            }
            if claim == CLAIMS[0]
            else {"figures_in": CLAIMS[0]},
        )


def figures_of(scene: GuardedScene, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The shares of rows over the seeds, and what is wrong with the gradients of the screens."""
    names = [name for name in cells[0] if name != "flags"]
    found: dict[str, Any] = {
        name: _mean_and_widest([by_patient(scene, cell[name]) for cell in cells]) for name in names
    }
    return found | {"flags": sorted({flag for cell in cells for flag in cell["flags"]})}


def by_patient(scene: GuardedScene, rows: Sequence[bool]) -> Interval:
    """The share of a patient's images, on average over patients; of images, where patients are not known."""
    values = np.asarray(rows)
    if scene.data.test.patients is None:
        return rate_interval(values)
    return balanced_rate([values[scene.patients == each] for each in np.unique(scene.patients)])


def kept(
    journal: Journal, plan: GuardedPlan, scene: GuardedScene, seed: int, grey: int, *, universal: bool
) -> dict[str, Any]:
    """One attack on all arms, run once."""
    settings = {"victim": scene.digest, "plan": asdict(replace(plan, seeds=())), "policy": GUARDED.fingerprint}
    settings |= {"grey": grey, "universal": universal, "seed": seed, "code": code_version()}
    found, recalled = journal.once(settings, lambda: attacked(scene, plan, seed, grey, universal=universal))
    if not recalled:
        shares = {name: fmean(each) for name, each in found.items() if name != "flags"}
        print(f"{scene.name} {grey}/255 {seed}: {shares} {found['flags']}", flush=True)
    return dict(found)


def attacked(scene: GuardedScene, plan: GuardedPlan, seed: int, grey: int, *, universal: bool) -> dict[str, Any]:
    """Rows ``(n,)``: which the guard withheld, and which say other findings, with noise of the same size beside."""
    x, craft = (torch.from_numpy(np.asarray(each.inputs)) for each in (scene.data.test, scene.data.craft))
    guarded = guarded_oracle(scene.guard, fresh=True)
    unaware = search_of(scene, seed, grey / 255)
    aware = [search_of(scene, seed, factor * grey / 255, knowing=True) for factor in plan.factors]
    plain, *tries = (changed_by(plan, search, x, craft, universal=universal) for search in (unaware, *aware))
    noise = unaware.ball.clip(x + unaware.ball.surface((1 if universal else len(x), *x.shape[1:]), unaware.generator))
    clean, random, told, *known = (guarded(rows.numpy()) for rows in (x, noise, plain, *tries))
    return {
        "clean withheld": withheld(clean),
        "noise withheld": withheld(random),
        "withheld": withheld(told),
        "knowing withheld": withheld(known[-1]),
        "noise": otherwise(scene, random),
        "bare": otherwise(scene, scene.bare(plain.numpy())),
        "guarded": otherwise(scene, told),
        "knowing": np.any([otherwise(scene, each) for each in (told, *known)], axis=0).tolist(),
        "flags": list(dead_screens(aware[-1], craft)),
    }


def search_of(scene: GuardedScene, seed: int, radius: float, *, knowing: bool = False) -> Search:
    """The frame of a search by the bare network's gradients; who knows the guard follows its screens, too."""
    return Search(
        scene.network,
        criterion_of(scene.spec),
        Ball.of(scene.spec, scene.data.craft.inputs, radius),
        torch.Generator().manual_seed(seed),
        Detector.at(scene.guard.profile, GUARDED.screen.rate, scene.spec) if knowing else None,
    )


def changed_by(plan: GuardedPlan, search: Search, x: Tensor, craft: Tensor, *, universal: bool) -> Tensor:
    """Images ``x (n, *shape)``, each changed for itself, or all as `craft` ones suggest."""
    if universal:
        found = craft_universal(search, craft, search.decided(craft), epochs=plan.epochs, restarts=2, batch=30)
        return apply_perturbation(search.ball, x, found.delta)
    return worst_case_pgd(search, x, search.decided(x), steps=plan.steps, restarts=1).adversarial


def withheld(told: Response) -> list[bool]:
    """Which rows ``(n,)`` were refused."""
    return [bool(each < 0) for each in told.labels]


def otherwise(scene: GuardedScene, told: Response) -> list[bool]:
    """Which rows ``(n,)`` were told other findings of than the bare network names of the image as it is."""
    before, after = (torch.from_numpy(np.asarray(each)) for each in (scene.data.reference, told.labels))
    found = criterion_of(scene.spec).answered(torch.zeros(len(after), 1), after, before)
    return [bool(each) for each in found]


def guarded_scene(name: str, plan: GuardedPlan, data: ReportData, folder: Path) -> GuardedScene:
    """The victim behind a guard that was calibrated on patients who are neither the victim's nor attacked."""
    bare = evasion_scene(name, "bare", EvasionPlan(), data, SUBJECTS[name], folder)
    train, test = data.splits["train"], unseen_rows(data, "test")
    mine = attacked_rows(test, plan)
    others = (
        unseen_rows(data, "holdout")
        if "holdout" in data.splits
        else _joined(test.take(np.flatnonzero(~mine)), unseen_rows(data, "validation"))
    )
    craft = np.sort(np.random.default_rng(SEED).permutation(len(train))[: plan.craft])
    model = models.wrap(bare.writer, spec=bare.spec, sample=others.inputs[:4])
    network, reason = white_box_writer(model, train.images[craft], most=plan.reports)
    if network is None:
        raise RuntimeError(reason)
    risk = GUARDED.monitor.calibration_risk
    profile = Profile.fit(model, others.inputs, patients=others.patients, risk=risk, seed=SEED, secret=SEED)
    rows = test.take(np.flatnonzero(mine))
    return GuardedScene(
        name=name,
        digest=bare.digest,
        spec=model.spec,
        network=network,
        bare=bare.oracle,
        guard=Guard(model=model, policy=GUARDED, profile=profile),
        data=AttackData(craft=Split(train.images[craft]), test=rows, reference=bare.oracle(rows.inputs).labels),
        idle=idle_screen(profile, GUARDED.screen.rate),
    )


def attacked_rows(test: Split, plan: GuardedPlan) -> NDArray[np.bool_]:
    """Which rows ``(n,)`` are attacked: some, or all images of some patients."""
    draws = np.random.default_rng(SEED)
    if test.patients is None:
        return np.isin(np.arange(len(test)), draws.permutation(len(test))[: plan.rows])
    return np.isin(test.patients, draws.permutation(np.unique(test.patients))[: plan.patients])


def _joined(*parts: Split) -> Split:
    patients = [each.patients for each in parts if each.patients is not None]
    return Split(np.concatenate([each.inputs for each in parts]), patients=np.concatenate(patients))


def _mean_and_widest(each: Sequence[Interval]) -> dict[str, float]:
    low, high = min(one.low for one in each), max(one.high for one in each)
    return {"value": fmean(one.value for one in each), "low": low, "high": high}
