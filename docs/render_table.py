"""What the renderers of tables share: the details of a claim, a table of cells, a value with its interval."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def claim_details(claim: str) -> dict[str, Any]:
    """The details of ``docs/results/<claim>.json``."""
    details: dict[str, Any] = json.loads((RESULTS / f"{claim}.json").read_text())["details"]
    return details


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with `heads`, a line for each of the `rows`."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def with_interval(found: dict[str, float]) -> str:
    """A value with the ends of its interval."""
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def mean(values: Sequence[float]) -> float:
    """The mean."""
    return sum(values) / len(values)
