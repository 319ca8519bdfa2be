"""``medward bench uap``: the paper-shaped table, tasks x architectures x attacks x radii x defenses x seeds.

A finished cell is kept at once, and so is a trained network until its last cell is done: a killed run goes on where
it stopped. A seed decides the splits, the training and the crafting, so the spread over seeds shows all three.

A hardened network is trained once, for the largest radius of the table, and judged at each.
"""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from torch import nn

from medward.attacks.benchmarks.networks.architectures import ARCHITECTURES, FULL, SMALL, build_network
from medward.attacks.benchmarks.tasks import BENCHMARK_TASKS, BenchmarkTask, load_task
from medward.attacks.benchmarks.victims import train_victim
from medward.attacks.experiments.sources import sources_digest
from medward.attacks.experiments.uap.cells import (
    DEFENSES,
    UNDEFENDED,
    CellMeasurement,
    Crafting,
    Effort,
    harden_network,
    measure_cell,
    radius_of_zeta,
)
from medward.attacks.experiments.uap.tables import Cell, Entry, aggregate_cells, markdown_tables, print_table
from medward.attacks.validation.journal import Journal, run_name
from medward.attacks.validation.progress import Progress
from medward.guard.errors import MedwardError
from medward.guard.files import write_durably

_DECIDES = (  # the sources a cell depends on; a change of any other keeps what is done
    "attacks/whitebox/ascent.py",
    "attacks/whitebox/ball.py",
    "attacks/whitebox/criterion.py",
    "attacks/whitebox/forward.py",
    "attacks/whitebox/losses.py",
    "attacks/whitebox/search.py",
    "attacks/benchmarks",
    "attacks/evasion/ifgsm_uap.py",
    "attacks/evasion/perturbation.py",
    "attacks/evasion/uap.py",
    "attacks/evasion/universal.py",
    "attacks/evasion/white_box_universal.py",
    "guard/harden",
)
REPORTS = frozenset({"uap_report.py", "uap_table.py"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run. `zetas` are percent of the mean image norm; `size` asks for images of so many pixels a side;
    `epochs` and `hardening` are epochs of training and of hardening, None for what suits each.
    """

    tasks: tuple[str, ...]
    architectures: tuple[str, ...]
    effort: Effort
    defenses: tuple[str, ...] = DEFENSES
    attacks: tuple[Crafting, ...] = get_args(Crafting)
    zetas: tuple[float, ...] = (1.0, 2.0, 4.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    size: int | None = None
    epochs: int | None = None
    hardening: int | None = None
    device: str = "cpu"

    def check(self) -> None:
        """Raises `MedwardError` for a name that is not known, an empty list and a number out of range."""
        for what, names, known in (
            ("task", self.tasks, BENCHMARK_TASKS),
            ("architecture", self.architectures, ARCHITECTURES),
            ("defense", self.defenses, DEFENSES),
        ):
            if not names:
                raise MedwardError(f"{what}: name at least one of {', '.join(known)}")
            if unknown := [name for name in names if name not in known]:
                raise MedwardError(f"{what} {unknown[0]!r} is not known; there are {', '.join(known)}")
        if not self.seeds:
            raise MedwardError("seeds: at least 1 is needed, 3 for an interval worth the name")
        if not self.zetas or not all(0 < zeta <= 100 for zeta in self.zetas):
            raise MedwardError(f"zetas: percentages above 0 and up to 100 are needed, got {self.zetas}")
        try:
            torch.zeros(1, device=self.device)
        except (RuntimeError, AssertionError):
            raise MedwardError(f"device {self.device!r} cannot be used here; there is cpu") from None


PROFILES: dict[str, Plan] = {
    "cpu": Plan(
        tasks=("pneumoniamnist", "nih-cxr", "phantom", "lesion"),
        architectures=tuple(SMALL),
        effort=Effort(epochs=10, restarts=2, rows=400),
    ),
    "gpu": Plan(
        tasks=("nih-cxr", "phantom", "lesion"),
        architectures=tuple(FULL),
        effort=Effort(epochs=15, restarts=4, rows=1000),
        size=128,
        device="cuda",
    ),
}


def plan_table(
    profile: str,
    *,
    tasks: tuple[str, ...] | None = None,
    architectures: tuple[str, ...] | None = None,
    defenses: tuple[str, ...] | None = None,
    zetas: tuple[str, ...] | None = None,
    seeds: int = 3,
    size: int | None = None,
    epochs: int | None = None,
    hardening: int | None = None,
    device: str | None = None,
) -> Plan:
    """A profile with some of it replaced; None leaves the profile's own. Raises `MedwardError` (see `Plan.check`)."""
    if profile not in PROFILES:
        raise MedwardError(f"profile {profile!r} is not known; there are {', '.join(PROFILES)}")
    try:
        percent = None if zetas is None else tuple(map(float, zetas))
    except ValueError:
        raise MedwardError(f"zetas: percentages are needed, such as 1,2,4, got {','.join(zetas or ())}") from None
    given: dict[str, Any] = {
        "tasks": tasks,
        "architectures": architectures,
        "defenses": defenses,
        "zetas": percent,
        "size": size,
        "epochs": epochs,
        "hardening": hardening,
        "device": device,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    plan = replace(PROFILES[profile], seeds=tuple(range(seeds)), **chosen)
    plan.check()
    return plan


@dataclass(frozen=True, slots=True)
class Networks:
    """The trained and hardened networks of one task (of digest `data`), architecture and seed, kept while needed."""

    folder: Path
    plan: Plan
    task: BenchmarkTask
    data: str
    architecture: str
    seed: int

    def get(self, defense: str) -> nn.Module:
        """The network after `defense`: as kept, or else trained now and kept."""
        path = self._path(defense)
        if path.exists():
            return self._read(path)
        if defense == UNDEFENDED:
            network = train_victim(
                self.task,
                architecture=self.architecture,
                epochs=self.plan.epochs,
                seed=self.seed,
                device=self.plan.device,
            )
        else:
            network = harden_network(
                self.get(UNDEFENDED),
                defense,
                self.task,
                architecture=self.architecture,
                epsilon=radius_of_zeta(self.task, max(self.plan.zetas)),
                epochs=self.plan.hardening,
                seed=self.seed,
            )
        buffer = io.BytesIO()
        torch.save({name: tensor.cpu() for name, tensor in network.state_dict().items()}, buffer)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, buffer.getvalue())
        return self._read(path)

    def settings(self, defense: str) -> dict[str, Any]:
        """What the weights depend on."""
        bare = defense == UNDEFENDED
        return {
            "task": self.task.name,
            "data": self.data,
            "architecture": self.architecture,
            "defense": defense,
            "seed": self.seed,
            "epochs": self.plan.epochs,
            "hardening": None if bare else [self.plan.hardening, max(self.plan.zetas)],
            "device": torch.device(self.plan.device).type,
            "torch": torch.__version__,
            "code": code_digest(),
        }

    def forget(self) -> None:
        """Delete the weights."""
        for defense in DEFENSES:
            self._path(defense).unlink(missing_ok=True)

    def _path(self, defense: str) -> Path:
        return self.folder / f"{run_name(self.settings(defense))}.pt"

    def _read(self, path: Path) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            network = build_network(self.architecture, self.task.shape, len(self.task.classes))
        try:
            network.load_state_dict(torch.load(path, weights_only=True))
        except Exception as error:  # a damaged file can make torch and pickle raise nearly anything
            raise MedwardError(f"{path}: the kept weights cannot be read, delete the file: {error}") from None
        return network.to(self.plan.device).eval()


def run_table(plan: Plan, out: Path, *, console: Console, shown: bool = True) -> list[Entry]:
    """Fill the table, print it, and write ``table.json`` and ``table.md`` to `out`; finished cells are in there too.

    A task whose data is missing is left out, and said to be. Raises `MedwardError` when none is left.
    """
    plan.check()
    journal, cells, skipped = Journal(out / "cells"), [], {}
    per_task = len(plan.architectures) * len(plan.defenses) * len(plan.zetas) * len(plan.attacks) * len(plan.seeds)
    with Progress(total=len(plan.tasks) * per_task, shown=shown, doing="training and attacking") as progress:
        for seed in plan.seeds:
            for name in plan.tasks:
                if name in skipped:
                    continue
                try:
                    task = _image_task(name, seed, plan.size)
                except MedwardError as error:
                    skipped[name] = str(error)
                    progress.done(name, f"left out: {error}", steps=per_task)
                    continue
                data = task.digest
                for architecture in plan.architectures:
                    networks = Networks(out / "networks", plan, task, data, architecture, seed)
                    for cell, recalled in _cells(plan, networks, journal):
                        cells.append(cell)
                        progress.done(cell.name, cell.outcome, recalled=recalled)
                    networks.forget()
                    _write(plan, cells, skipped, out)
    if not cells:
        raise MedwardError(f"no task could be loaded: {next(iter(skipped.values()))}")
    entries = aggregate_cells(cells)
    print_table(entries, console)
    for name, reason in skipped.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    return entries


def code_digest() -> str:
    """A hash over the sources a cell depends on, as they were when first asked for."""
    return sources_digest(_DECIDES, REPORTS)


def _image_task(name: str, seed: int, size: int | None) -> BenchmarkTask:
    task = load_task(name, seed=seed, size=size)
    if task.modality != "image":
        raise MedwardError(f"the {task.modality} task {name} has no images for these architectures")
    return task


def _cells(plan: Plan, networks: Networks, journal: Journal) -> Iterator[tuple[Cell, bool]]:
    """Every cell of one task, architecture and seed, and whether it was recalled."""
    for defense, zeta, attack in product(plan.defenses, plan.zetas, plan.attacks):
        settings = {**networks.settings(defense), "zeta": zeta, "attack": attack, "effort": asdict(plan.effort)}
        kept, recalled = journal.once(settings, partial(_measured, networks, defense, zeta, attack))
        cell = Cell(
            task=networks.task.name,
            classes=networks.task.classes,
            span=_span(networks.task),
            architecture=networks.architecture,
            defense=defense,
            zeta=zeta,
            attack=attack,
            seed=networks.seed,
            measured=CellMeasurement.read(kept),
        )
        yield cell, recalled


def _measured(networks: Networks, defense: str, zeta: float, attack: Crafting) -> dict[str, Any]:
    network, effort = networks.get(defense), networks.plan.effort
    return measure_cell(network, networks.task, attack=attack, zeta=zeta, effort=effort, seed=networks.seed).json()


def _span(task: BenchmarkTask) -> float:
    return 1.0 if task.low is None or task.high is None else task.high - task.low


def _write(plan: Plan, cells: Sequence[Cell], skipped: dict[str, str], out: Path) -> None:
    """Both files, whole or not at all."""
    entries = aggregate_cells(cells)
    record = {
        "plan": asdict(replace(plan, tasks=tuple(name for name in plan.tasks if name not in skipped))),
        "left_out": skipped,
        "code": code_digest(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "torch")}},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "entries": [entry.json() for entry in entries],
    }
    write_durably(out / "table.json", json.dumps(record, indent=1, allow_nan=False).encode())
    write_durably(out / "table.md", markdown_tables(entries, skipped).encode())
