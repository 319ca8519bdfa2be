"""The cells of the federated table, summed up over seeds: a row for each server, a block for each attack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

FederationCell = Mapping[str, Any]
"""What `measure_federation` gave, or {"setting", "refused"}."""

_HEADS = (
    "attack",
    "server",
    "trigger rate",
    "malicious weight",
    "effective clients",
    "honest flagged",
    "domain FID",
    "domain KID",
    "precision",
    "recall",
    "TSTR",
)
NOTE = (
    "Means over seeds, in brackets the smallest and the largest where there are several. Trigger rate: share of "
    "images of the last model in which the trigger is seen, in percent; without an attack, of the patch. Malicious "
    "weight: of the last round, in percent of all weight. Effective clients: (sum of trust)^2 / sum of squared trust "
    "where a server judges clients, of their weights where none does, mean over rounds after the tenth, or over all "
    "where there are no more. Honest flagged: share of honest hospitals that are flagged in such a round, in percent. "
    "Domain FID and KID: distances to real test images by a small network trained on real rows of its own; not "
    "comparable with any other FID. TSTR: balanced accuracy on real test rows of a classifier that learned from made "
    "images only, in percent."
)
_SETTLED = 10  # rounds after which weights and flags are told


def print_federations(cells: Sequence[FederationCell], console: Console) -> None:
    """One table for each task and federation."""
    for title, rows in blocks(cells):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
        for number, name in enumerate(_HEADS):
            table.add_column(name, justify="right" if number > 1 else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(Text(NOTE, "dim"))


def markdown_table(cells: Sequence[FederationCell]) -> str:
    """The same tables in Markdown, with a picture of each last model's images."""
    lines = ["# Poisoned generators under federated training", "", NOTE, ""]
    for title, rows in blocks(cells):
        lines += [f"## {title}", "", _line(_HEADS), _line(["---"] * len(_HEADS)), *map(_line, rows), ""]
    lines += ["## Images of the last models", ""]
    lines += [f"![{name}](pictures/{name})" for name in picture_names(cells).values()]
    return "\n".join([*lines, ""])


def picture_names(cells: Iterable[FederationCell]) -> dict[str, str]:
    """The file name of each cell's picture, by the cell's place in a sentence."""
    return {cell_name(cell): picture_name(cell) for cell in cells if "picture" in cell}


def cell_name(cell: FederationCell) -> str:
    """What a person calls the cell."""
    told = cell["setting"]
    return f"{block_name(cell)} {told['attack']} {told['server']} seed {told['seed']}"


def picture_name(cell: FederationCell) -> str:
    """The file of a cell's picture."""
    return cell_name(cell).replace(",", "").replace(" ", "_").replace("/", "-of-") + ".png"


def block_name(cell: FederationCell) -> str:
    """The task, generator and federation of a cell."""
    told = cell["setting"]
    return f"{told['task']}, {told['generator']}, {told['malicious']}/{told['clients']} malicious, {told['skew']}"


def blocks(cells: Iterable[FederationCell]) -> list[tuple[str, list[list[str]]]]:
    """A title and its rows for each task and federation, in the order they first came."""
    found: dict[str, dict[tuple[str, str], list[FederationCell]]] = {}
    for cell in cells:
        told = cell["setting"]
        found.setdefault(block_name(cell), {}).setdefault((told["attack"], told["server"]), []).append(cell)
    return [(title, [table_row(*names, group) for names, group in rows.items()]) for title, rows in found.items()]


def table_row(attack: str, server: str, cells: Sequence[FederationCell]) -> list[str]:
    """One attack under one server, over seeds."""
    done = [cell for cell in cells if "refused" not in cell]
    if not done:
        return [attack, server, "refused", *[""] * (len(_HEADS) - 3)]
    return [
        attack,
        server,
        _percent([cell["trigger_rate"] for cell in done]),
        _percent([cell["rounds"][-1]["malicious_weight"] for cell in done]),
        _number([settled_mean(cell, "effective_clients") for cell in done]),
        _percent([settled_mean(cell, "false_positive_rate") for cell in done]),
        *(_number([cell[name] for cell in done]) for name in ("domain_fid", "domain_kid", "precision", "recall")),
        _percent([cell["synthetic_accuracy"] for cell in done]),
    ]


def settled_mean(cell: FederationCell, name: str) -> float | None:
    """The mean of a round's figure over the rounds after the tenth, or over all where there are no more."""
    told = [each[name] for each in cell["rounds"][_SETTLED:] or cell["rounds"]]
    return None if any(each is None for each in told) else float(np.mean(told))


def _percent(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    return _spread(known, ".1f")


def _number(values: Sequence[float | None]) -> str:
    return _spread([value for value in values if value is not None], ".2f")


def _spread(values: Sequence[float], digits: str) -> str:
    if not values:
        return "-"
    mean = format(float(np.mean(values)), digits)
    return mean if len(values) == 1 else f"{mean} ({min(values):{digits}} to {max(values):{digits}})"


def _line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(parts) + " |"
