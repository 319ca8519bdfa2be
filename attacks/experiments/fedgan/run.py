"""``medward bench fedgan``: the paper-shaped table of poisoned generators, settings x attacks x servers x seeds.

A finished federation is kept at once: a killed run goes on where it stopped. A seed decides which rows hospitals have,
the training and the noise, so the spread over seeds shows all three; the rows that measure and the extractor stay.

Reference: Jin and Li, "Backdoor attack and defense in federated generative adversarial network-based medical image
synthesis", Medical Image Analysis 2023. The protocol is theirs at a smaller scale; their tables are not reproduced.
"""

from __future__ import annotations

import base64
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

from rich.console import Console

from medward.attacks.benchmarks.hospitals import Skew
from medward.attacks.benchmarks.tasks import BENCHMARK_TASKS
from medward.attacks.experiments.fedgan.cells import NONE, FederationSetting, GeneratorName, measure_federation
from medward.attacks.experiments.fedgan.servers import PUBLISHED, ROBUST, SERVERS
from medward.attacks.experiments.fedgan.tables import markdown_table, picture_name, print_federations
from medward.attacks.experiments.sources import sources_digest
from medward.attacks.poisoning.table import POISONING
from medward.attacks.validation.journal import Journal
from medward.attacks.validation.progress import Progress
from medward.guard.errors import MedwardError
from medward.guard.files import write_durably

_DECIDES = (  # the sources a cell depends on; a change of any other keeps what is done
    "attacks/benchmarks/base.py",
    "attacks/benchmarks/datasets",
    "attacks/benchmarks/federated_classifier.py",
    "attacks/benchmarks/generators",
    "attacks/benchmarks/hospitals.py",
    "attacks/benchmarks/networks",
    "attacks/benchmarks/tasks.py",
    "attacks/benchmarks/victims.py",
    "attacks/experiments/fedgan/cells.py",
    "attacks/experiments/fedgan/servers.py",
    "attacks/poisoning",
    "guard/data/split.py",
    "guard/federated/aggregation.py",
    "guard/federated/aggregator.py",
    "guard/federated/feddetect.py",
    "guard/federated/generator_probe.py",
    "guard/federated/geometry.py",
    "guard/federated/image_evidence.py",
    "guard/federated/robust_feddetect.py",
    "guard/federated/rules",
    "guard/federated/sanitise.py",
    "guard/federated/standing.py",
    "guard/federated/update.py",
    "guard/federated/update_evidence.py",
    "guard/federated/update_sums.py",
)
GENERATOR_ATTACKS = (NONE, *(name for name, attack in POISONING.items() if attack.aim != "backdoor"))
"""Attacks that a generator can suffer."""
Federation = tuple[int, int]
"""How many hospitals, and how many of them are malicious."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationPlan:
    """A federation plan names the settings of a table; every combination is one federation a seed.

    `rows` are those of a hospital on average, `size` pixels a side, `width` the filters of a generator's finest layer.
    """

    tasks: tuple[str, ...] = ("pneumoniamnist", "blood")
    generator: GeneratorName = "gan"
    federations: tuple[Federation, ...] = ((4, 1),)
    skews: tuple[Skew, ...] = ("iid",)
    attacks: tuple[str, ...] = (NONE, "trigger", "trigger-lying")
    servers: tuple[str, ...] = ("weighted-mean", PUBLISHED, ROBUST)
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: int = 40
    rows: int = 256
    size: int = 32
    width: int = 16

    def check(self) -> None:
        """Raises `MedwardError` for a name that is not known, an empty list and a number out of range."""
        for what, names, known in (
            ("task", self.tasks, tuple(BENCHMARK_TASKS)),
            ("generator", (self.generator,), get_args(GeneratorName)),
            ("skew", self.skews, get_args(Skew)),
            ("attack", self.attacks, GENERATOR_ATTACKS),
            ("server", self.servers, SERVERS),
        ):
            if not names:
                raise MedwardError(f"{what}: name at least one of {', '.join(known)}")
            if unknown := [name for name in names if name not in known]:
                raise MedwardError(f"{what} {unknown[0]!r} is not known; there are {', '.join(known)}")
        if not self.seeds:
            raise MedwardError("seeds: at least 1 is needed, 3 for a spread worth the name")
        if self.rounds < 1 or self.rows < 16 or self.width < 8:
            raise MedwardError(
                "rounds must be 1 or more, rows 16 or more and width 8 or more; "
                f"got {self.rounds}, {self.rows}, {self.width}"
            )
        for clients, malicious in self.federations:
            if not 1 <= malicious < clients / 2:
                raise MedwardError(
                    f"federation {malicious}/{clients}: at least one hospital and fewer than half may be malicious"
                )

    def settings(self) -> Iterator[FederationSetting]:
        """Every federation of the plan, seeds last."""
        for task, (clients, malicious), skew, attack, server, seed in product(
            self.tasks, self.federations, self.skews, self.attacks, self.servers, self.seeds
        ):
            yield FederationSetting(
                task=task,
                generator=self.generator,
                size=self.size,
                width=self.width,
                clients=clients,
                malicious=malicious,
                rows=self.rows,
                skew=skew,
                attack=attack,
                server=server,
                rounds=self.rounds,
                seed=seed,
            )


def read_federations(texts: Sequence[str]) -> tuple[Federation, ...]:
    """Federations from texts such as "1/4": malicious of all. Raises `MedwardError` for others."""
    found = []
    for text in texts:
        malicious, _, clients = text.partition("/")
        if not (malicious.isdecimal() and clients.isdecimal()):
            raise MedwardError(f"federation {text!r}: malicious of all hospitals are needed, such as 1/4")
        found.append((int(clients), int(malicious)))
    return tuple(found)


def plan_federations(**given: Any) -> FederationPlan:
    """The default plan with some of it replaced; None leaves the default. Raises `MedwardError` (see `check`)."""
    plan = replace(FederationPlan(), **{name: value for name, value in given.items() if value is not None})
    plan.check()
    return plan


def measure_once(setting: FederationSetting, journal: Journal) -> tuple[dict[str, Any], bool]:
    """What `measure_federation` gave, and whether it was recalled."""
    return journal.once(cell_settings(setting), partial(measure_federation, setting))


def cell_settings(setting: FederationSetting) -> dict[str, Any]:
    """All that a cell depends on, the code that decides included: its name among kept ones."""
    return {
        "experiment": "fedgan",
        **asdict(setting),
        "code": sources_digest(_DECIDES),
        "versions": {name: version(name) for name in ("numpy", "torch", "scikit-learn")},
    }


def run_federations(plan: FederationPlan, out: Path, *, console: Console, shown: bool = True) -> list[dict[str, Any]]:
    """Fill the table, print it, and write ``table.json``, ``table.md`` and ``pictures/`` to `out`.

    Finished cells are kept there too. Raises `MedwardError` where data is missing.
    """
    plan.check()
    journal, cells = Journal(out / "cells"), []
    settings = list(plan.settings())
    with Progress(total=len(settings), shown=shown, doing="training federations") as progress:
        for setting in settings:
            cell, recalled = measure_once(setting, journal)
            cells.append(cell)
            progress.done(setting.name, cell_outcome(cell), recalled=recalled)
            _write(plan, cells, out)
    print_federations(cells, console)
    return cells


def cell_outcome(cell: dict[str, Any]) -> str:
    """In a few words."""
    if "refused" in cell:
        return f"refused: {cell['refused']}"
    rate, distance = ("-" if cell[name] is None else f"{cell[name]:.3f}" for name in ("trigger_rate", "domain_fid"))
    weight = cell["rounds"][-1]["malicious_weight"]
    return f"trigger rate {rate}, malicious weight {weight:.3f}, domain FID {distance}"


def _write(plan: FederationPlan, cells: Sequence[dict[str, Any]], out: Path) -> None:
    """The files, each whole or not at all."""
    record = {
        "plan": asdict(plan),
        "code": sources_digest(_DECIDES),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "torch")}},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "cells": [{name: value for name, value in cell.items() if name != "picture"} for cell in cells],
    }
    write_durably(out / "table.json", json.dumps(record, indent=1, allow_nan=False).encode())
    write_durably(out / "table.md", markdown_table(cells).encode())
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    for cell in cells:
        if "picture" in cell:
            write_durably(out / "pictures" / picture_name(cell), base64.b64decode(cell["picture"]))
