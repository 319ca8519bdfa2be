"""The cells of the universal-perturbation table, summed up over seeds, and shown as the paper shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy import special

from medward.attacks.experiments.uap.cells import UNDEFENDED, CellMeasurement, Crafting, Judged
from medward.attacks.intervals import LEVEL, Interval, clopper_pearson

_NOTE = (
    "All in percent, means over seeds, below them the smallest and the largest seed. clean: balanced accuracy. Rf: "
    "decisions changed. Rs: taken for the target class, mean over all classes, of rows that neither are of it nor were "
    "taken for it. At the largest radius, random: the same for random signs of this norm; acc.: the lowest balanced "
    "accuracy under a perturbation. worst: the largest share of decisions that any perturbation of any seed changed."
)
_CHANCE = 0.1  # balanced accuracy that is no more than so far above one class for all is no classifier's
MARK = "†"
MARKED = (
    f"{MARK} The undefended network is at chance level (clean balanced accuracy at most 1 / classes + {_CHANCE:g}) "
    "with at least one seed: that it is fooled, or no longer is, says nothing there."
)

SYMBOLS: dict[Crafting, str] = {"nontargeted": "Rf", "targeted": "Rs"}  # as the paper names them


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One seed's measurement; `span` is the width of the input range."""

    task: str
    classes: tuple[str, ...]
    span: float
    architecture: str
    defense: str
    zeta: float
    attack: Crafting
    seed: int
    measured: CellMeasurement

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.task} {self.architecture} {self.defense} {self.attack} {self.zeta:g} % seed {self.seed}"

    @property
    def outcome(self) -> str:
        """In a few words."""
        return f"{self.rate:.3f} (random {self.noise:.3f}), worst balanced accuracy {self.balanced:.3f}"

    @property
    def open(self) -> list[Judged]:
        """The perturbations that had rows to win."""
        return [each for each in self.measured.judged if each.rows]

    @property
    def rate(self) -> float:
        """Share won, mean over the classes if targeted."""
        return _mean([each.won / each.rows for each in self.open])

    @property
    def noise(self) -> float:
        """The same, by random signs."""
        return _mean([each.noise / each.rows for each in self.open])

    @property
    def balanced(self) -> float:
        """The lowest balanced accuracy under a perturbation."""
        return min(each.balanced for each in self.measured.judged)

    @property
    def fooled(self) -> float:
        """The largest share of decisions that a perturbation changed, whatever its goal."""
        return max(each.fooled / each.total for each in self.measured.judged)

    def json(self) -> dict[str, Any]:
        """What the table keeps of one seed, with an exact interval for each perturbation."""
        return {
            "seed": self.seed,
            "rate": self.rate,
            "random": self.noise,
            "clean": self.measured.clean,
            "balanced_under_random": self.measured.under_noise,
            "balanced": self.balanced,
            "fooled": self.fooled,
            "perturbations": [
                {
                    "goal": None if each.goal is None else self.classes[each.goal],
                    "rate": asdict(clopper_pearson(each.won, each.rows)),
                    "random": asdict(clopper_pearson(each.noise, each.rows)),
                    "fooled": asdict(clopper_pearson(each.fooled, each.total)),
                    "balanced": each.balanced,
                }
                for each in self.open
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A mean over seeds, the smallest and the largest, and a 95 % t interval (None for one seed)."""

    mean: float
    least: float
    most: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One setting over all its seeds.

    `worst` is the largest rate of a seed and class, with its exact interval; None where no row could be won.
    `chance` says that the undefended network is at chance level with a seed; None where it was not measured.
    """

    task: str
    architecture: str
    defense: str
    zeta: float
    attack: Crafting
    epsilon: float
    epsilon_255: float
    rate: Summary
    random: Summary
    clean: Summary
    balanced: Summary
    worst: Interval | None
    worst_fooled: Interval
    chance: bool | None
    seeds: tuple[dict[str, Any], ...]

    @property
    def network(self) -> str:
        """The architecture, marked where the undefended network is at chance level."""
        return f"{self.architecture} {MARK}" if self.chance else self.architecture

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def summary_over_seeds(values: Sequence[float]) -> Summary:
    """Over seeds; the interval is Student's, cut to [0, 1]: values are rates."""
    mean, n = _mean(values), len(values)
    interval = None
    if n > 1:
        reach = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * float(np.std(values, ddof=1)) / n**0.5
        interval = (max(0.0, mean - reach), min(1.0, mean + reach))
    return Summary(mean=mean, least=min(values), most=max(values), interval=interval)


def aggregate_cells(cells: Iterable[Cell]) -> list[Entry]:
    """One entry per task, defense, architecture, radius and attack, in the order they first came."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    chance: dict[tuple[str, str], bool] = {}
    for cell in cells:
        groups.setdefault((cell.task, cell.defense, cell.architecture, cell.zeta, cell.attack), []).append(cell)
        if cell.defense == UNDEFENDED:
            bare = cell.task, cell.architecture
            chance[bare] = chance.get(bare, False) or cell.measured.clean <= 1 / len(cell.classes) + _CHANCE
    return [_entry(group, chance.get((group[0].task, group[0].architecture))) for group in groups.values()]


def _entry(cells: Sequence[Cell], chance: bool | None) -> Entry:
    first = cells[0]
    judged = [each for cell in cells for each in cell.open]
    epsilon = _mean([cell.measured.epsilon for cell in cells])
    won = max(judged, key=lambda each: each.won / each.rows, default=None)
    fooled = max((each for cell in cells for each in cell.measured.judged), key=lambda each: each.fooled / each.total)
    return Entry(
        task=first.task,
        architecture=first.architecture,
        defense=first.defense,
        zeta=first.zeta,
        attack=first.attack,
        epsilon=epsilon,
        epsilon_255=255 * epsilon / first.span,
        rate=summary_over_seeds([cell.rate for cell in cells]),
        random=summary_over_seeds([cell.noise for cell in cells]),
        clean=summary_over_seeds([cell.measured.clean for cell in cells]),
        balanced=summary_over_seeds([cell.balanced for cell in cells]),
        worst=None if won is None else clopper_pearson(won.won, won.rows),
        worst_fooled=clopper_pearson(fooled.fooled, fooled.total),
        chance=chance,
        seeds=tuple(cell.json() for cell in cells),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One task under one defense: column heads, and a row of (value, range) cells per architecture."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[tuple[str, str], ...], ...]


def paper_sheets(entries: Sequence[Entry]) -> list[Sheet]:
    """The paper's shape: one sheet per task and defense, a row per architecture, a column per attack and radius."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.task, entry.defense), []).append(entry)
    return [_sheet(task, defense, group) for (task, defense), group in groups.items()]


def _sheet(task: str, defense: str, entries: list[Entry]) -> Sheet:
    kinds = list(dict.fromkeys(entry.attack for entry in entries))
    zetas = sorted({entry.zeta for entry in entries})
    found = {(entry.architecture, entry.attack, entry.zeta): entry for entry in entries}
    heads = ["architecture", "clean"]
    for kind in kinds:
        heads += [f"{SYMBOLS[kind]} {zeta:g}%" for zeta in zetas] + ["random", "acc."]
    rows = []
    for architecture in dict.fromkeys(entry.architecture for entry in entries):
        mine = [entry for entry in entries if entry.architecture == architecture]
        row = [(mine[0].network, ""), _shown(mine[0].clean)]
        for kind in kinds:
            row += [_shown(found[architecture, kind, zeta].rate) for zeta in zetas]
            last = found[architecture, kind, zetas[-1]]
            row += [_shown(last.random), _shown(last.balanced)]
        worst = max((entry.worst_fooled for entry in mine), key=lambda each: each.value)
        rows.append((*row, (f"{100 * worst.value:.1f}", "")))
    radii = ", ".join(f"{zeta:g} % = {_radius(entries, zeta):.1f}/255" for zeta in zetas)
    seeds = len(entries[0].seeds)
    return Sheet(title=f"{task}, {defense}; {radii}; seeds: {seeds}", heads=(*heads, "worst"), rows=tuple(rows))


def _radius(entries: Sequence[Entry], zeta: float) -> float:
    return _mean([entry.epsilon_255 for entry in entries if entry.zeta == zeta])


def _shown(values: Summary) -> tuple[str, str]:
    spread = "" if values.interval is None else f"{100 * values.least:.0f}–{100 * values.most:.0f}"
    return f"{100 * values.mean:.1f}", spread


def print_table(entries: Sequence[Entry], console: Console) -> None:
    """One table per task and defense."""
    for sheet in paper_sheets(entries):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=sheet.title, title_justify="left")
        for number, name in enumerate(sheet.heads):
            table.add_column(name, justify="right" if number else "left", no_wrap=number > 0)
        for row in sheet.rows:
            table.add_row(*(Text.assemble(value, (f"\n{spread}", "dim") if spread else "") for value, spread in row))
        console.print(table)
    console.print(Text(_note(entries), "dim"))


def markdown_tables(entries: Sequence[Entry], left_out: dict[str, str]) -> str:
    """The same tables, then every setting on a line with its t interval over seeds."""
    lines = ["# Universal perturbations", "", _note(entries), ""]
    for sheet in paper_sheets(entries):
        lines += [f"## {sheet.title}", ""]
        lines += _grid(sheet.heads, [[f"{a} ({b})" if b else a for a, b in row] for row in sheet.rows])
    lines += [f"Left out: {name}: {reason}" for name, reason in left_out.items()]
    heads = ("task", "defense", "architecture", "attack", "radius", "rate", "95 % over seeds", "random", "clean")
    rows = [
        [
            entry.task,
            entry.defense,
            entry.network,
            entry.attack,
            f"{entry.zeta:g} % = {entry.epsilon_255:.1f}/255",
            _plain(entry.rate),
            "" if entry.rate.interval is None else "{:.3f} to {:.3f}".format(*entry.rate.interval),
            _plain(entry.random),
            _plain(entry.clean),
            _plain(entry.balanced),
            "" if entry.worst is None else f"{entry.worst.value:.3f} ({entry.worst.low:.3f} to {entry.worst.high:.3f})",
        ]
        for entry in entries
    ]
    return "\n".join([*lines, "## Every setting", "", *_grid((*heads, "balanced under it", "worst rate"), rows)])


def _note(entries: Iterable[Entry]) -> str:
    return f"{_NOTE} {MARKED}" if any(entry.chance for entry in entries) else _NOTE


def _plain(values: Summary) -> str:
    return f"{values.mean:.3f} ({values.least:.3f} to {values.most:.3f})"


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
