"""Tables of the documents about membership and private training, from ``docs/results/*.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def private_training() -> str:
    """Each data set, unit and epsilon: accuracy beside that without privacy, the strongest attack, its ceiling."""
    cells = _details("private_training_within_ceilings")["cells"]
    lines = [
        "| data, unit | units | without privacy | epsilon | balanced accuracy (4 trainings) | strongest attack at 1 % "
        "| ceiling | at 10 % | ceiling |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, cell in cells.items():
        data, unit, epsilon = name.split("/")
        if epsilon == "none":
            continue
        plain = cells[f"{data}/row/none"]["balanced_accuracy"]
        best = [max(score[rate]["value"] for score in cell["scores"].values()) for rate in ("0.01", "0.1")]
        spread = f"{cell['balanced_accuracy']:.2f} ({min(cell['each']):.2f} to {max(cell['each']):.2f})"
        lines.append(
            f"| {data}, {unit} | {cell['units']} | {plain:.2f} | {epsilon} | {spread} | {best[0]:.3f} "
            f"| {cell['ceilings']['0.01']:.3f} | {best[1]:.3f} | {cell['ceilings']['0.1']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def front_row() -> str:
    """What privacy costs and allows on PneumoniaMNIST at epsilon 8, by patient's row."""
    cells = _details("private_training_within_ceilings")["cells"]
    private, plain = cells["pneumoniamnist/row/8"], cells["pneumoniamnist/row/none"]
    strongest = max(score["0.01"]["value"] for score in private["scores"].values())
    costs = f"balanced accuracy {private['balanced_accuracy']:.2f}, {plain['balanced_accuracy']:.2f} learned by heart"
    ceiling = f"{private['ceilings']['0.01']:.0%}"
    named = f"{strongest:.1%} of members named at 1 % false positives"
    return f"at epsilon 8 {costs}; {named}, at most {ceiling} by any attack"


def private_language() -> str:
    """Perplexity of a report model after low-rank fine-tuning, and the strongest score beside its ceiling."""
    cells = _details("private_language_within_ceilings")["cells"]
    lines = [
        "| report model | perplexity of other reports | strongest score at 1 % | ceiling | at 10 % | ceiling |",
        "|---|---|---|---|---|---|",
    ]
    for name, cell in cells.items():
        found = [""] * 4
        if "scores" in cell:
            for place, rate in enumerate(("0.01", "0.1")):
                found[2 * place] = f"{max(score[rate]['value'] for score in cell['scores'].values()):.3f}"
                found[2 * place + 1] = f"{cell['ceilings'][rate]:.3f}" if cell["ceilings"] else ""
        lines.append(f"| {name} | {cell['perplexity']:.2f} | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def peers() -> str:
    """Membership scores of Medward and of its peers on the same logits, the strongest first."""
    subjects = _details("membership_against_peers")["subjects"]
    lines = ["| data | attack | AUC | true positive rate at 1 % |", "|---|---|---|---|"]
    for data, rows in subjects.items():
        for name, row in sorted(rows.items(), key=lambda item: -item[1]["auc"]):
            lines.append(f"| {data} | {name} | {row['auc']:.3f} | {row['tpr_at_1_percent']:.3f} |")
    return "\n".join(lines) + "\n"


def language() -> str:
    """Membership scores of a fine-tuned report model, the strongest first."""
    details = _details("language_membership_scores")
    lines = ["| score | AUC | true positive rate at 1 % |", "|---|---|---|"]
    for name in details["order"]:
        row = details["scores"][name]
        lines.append(f"| {name} | {row['auc']} | {row['true_positive_rate_at_1_percent']} |")
    return "\n".join(lines) + "\n"


def changed() -> str:
    """What training changed: every attack on the bare model before and after it."""
    lines = ["| training | attack | measured as | before | after |", "|---|---|---|---|---|"]
    for training, rows in _details("training_interactions")["trainings"].items():
        for row in rows:
            lines.append(f"| {training} | {row['attack']} | {row['measure']} | {row['before']} | {row['after']} |")
    return "\n".join(lines) + "\n"


def _details(name: str) -> dict[str, Any]:
    details: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())["details"]
    return details
