"""The tables of the document about identifiers in text, from ``docs/results/*.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("without a model", "with spaCy's small model", "Presidio")


def english() -> str:
    """ASQ-PHI's half that was set aside: the share of each kind found, by the filter, with a model, and by Presidio."""
    details = json.loads((RESULTS / "text_asq_phi.json").read_text())["details"]
    found = [details[name] for name in COLUMNS]
    labels = found[0]["by_label"]
    lines = [
        "| found whole | spans | Medward | 95 % interval | with spaCy's small model | Presidio |",
        "|---|---|---|---|---|---|",
    ]
    for label, row in labels.items():
        shares = [each["by_label"][label]["recall"] for each in found]
        lines.append(_line(label.lower().replace("_", " "), row["n"], shares, row["interval"]))
    lines.append(_line("**all**", found[0]["spans"], [each["recall"] for each in found], found[0]["recall_interval"]))
    precise = " | ".join(f"{each['token_precision']:.3f}" for each in found[1:])
    lines.append(f"| removed tokens that are identifiers | | {found[0]['token_precision']:.3f} | | {precise} |")
    touched = [f"{each['clean_texts_touched']} of {each['clean_texts']}" for each in found]
    lines.append(f"| texts without an identifier touched | | {touched[0]} | | {touched[1]} | {touched[2]} |")
    return "\n".join(lines) + "\n"


def otherwise() -> str:
    """The same queries in other lines and letters, without a model."""
    found = json.loads((RESULTS / "text_written_otherwise.json").read_text())["details"]["by_writing"]
    lines = ["| the queries | found whole | 95 % interval | names | places | dates |", "|---|---|---|---|---|---|"]
    for writing, row in found.items():
        low, high = row["recall_interval"]
        shares = [row["by_label"][label]["recall"] for label in ("NAME", "GEOGRAPHIC_LOCATION", "DATE")]
        cells = " | ".join(f"{each:.3f}" for each in shares)
        lines.append(f"| {writing} | {row['recall']:.3f} | {low:.3f} to {high:.3f} | {cells} |")
    return "\n".join(lines) + "\n"


def _line(name: str, spans: int, shares: list[float], interval: Any) -> str:
    low, high = interval
    return f"| {name} | {spans} | {shares[0]:.3f} | {low:.3f} to {high:.3f} | {shares[1]:.3f} | {shares[2]:.3f} |"
