"""Tables of the documents about membership and private training, from ``docs/results/*.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PRIVATE_REPORTERS = {
    "base": "base",
    "all weights, without privacy": "all weights, without privacy",
    "without privacy": "low-rank additions, without privacy",
    "with privacy": "low-rank additions, with privacy",
}


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


def report_membership() -> str:
    """AUC of every score that is shown, victim by victim: the mean over seeds, with the outermost ends of intervals."""
    rows = _details("report_membership_scores")["rows"]
    names = dict.fromkeys(name for cells in rows.values() for cell in cells for name in cell["scores"])
    lines = [f"| score | {' | '.join(map(_victim, rows))} |", "|---|" + "---|" * len(rows)]
    for name in names:
        told = [[cell["scores"][name]["auc"] for cell in cells if name in cell["scores"]] for cells in rows.values()]
        lines.append(f"| {name} | {' | '.join(map(_over_seeds, told))} |")
    seeds = " | ".join(f"{len(cells)}, {cells[0]['members']} and {cells[0]['others']}" for cells in rows.values())
    return "\n".join([*lines, f"| seeds, members and others | {seeds} |"]) + "\n"


def report_membership_chosen() -> str:
    """The two scores that count: what they name at few false positives, and what is told without the victim."""
    details = _details("report_membership_scores")
    lines = [
        "| victim | score | AUC | at 1 % | at 0.1 % | reference alone | gain over it | a victim of others "
        "| sides dealt anew | without a model | in other words |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row, cells in details["rows"].items():
        for kind, name in details["chosen"].items():
            held = [cell["scores"][name] for cell in cells if name in cell["scores"]]
            if held:
                lines.append(
                    f"| {_victim(row)} | {name} ({kind}) | {_over_seeds([each['auc'] for each in held])} "
                    f"| {_over_seeds([each['rates']['0.01'] for each in held])} "
                    f"| {_over_seeds([each['rates']['0.001'] for each in held])} "
                    f"| {_over_seeds([each.get('reference') for each in held])} "
                    f"| {_over_seeds([each.get('gain') for each in held])} "
                    f"| {_over_seeds([each.get('stranger') for each in held])} "
                    f"| {_over_seeds([each['shuffled'] for each in held])} "
                    f"| {_over_seeds([cell['blind'] for cell in cells])} "
                    f"| {_plain_mean([each['other_words'] for each in held])} |"
                )
    return "\n".join(lines) + "\n"


def report_membership_private() -> str:
    """A base, and what it becomes on a thousand coins with privacy and without: told members, audit, label F1."""
    cells = _details("report_membership_private")["cells"]
    lines = [
        "| network | AUC, loss | AUC, likelihood ratio | at 1 % | ceiling | refuted epsilon | label F1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, told in PRIVATE_REPORTERS.items():
        held = [cell[name] for cell in cells]
        scores = [each["scores"]["reference"] for each in held]
        ceiling = f"{max(cell['ceiling'] for cell in cells):.3f}" if name == "with privacy" else ""
        lines.append(
            f"| {told} | {_over_seeds([each['scores']['loss']['auc'] for each in held])} "
            f"| {_over_seeds([each['auc'] for each in scores])} "
            f"| {_over_seeds([each['rates']['0.01'] for each in scores])} | {ceiling} "
            f"| {max(bound for each in held for bound in each['audit'].values()):.2f} "
            f"| {_over_seeds([each['label_f1'] for each in held])} |"
        )
    return "\n".join(lines) + "\n"


def _victim(row: str) -> str:
    """A row of victims in words."""
    data, kind, *kept = row.split("/")
    named = {"encoder-decoder": "encoder and decoder", "llava": "LLaVA"}[kind]
    return f"{data.replace('_', '-')}, {named}" + (", of all training images" if kept else "")


def _plain_mean(found: list[float | None]) -> str:
    known = [each for each in found if each is not None]
    return f"{sum(known) / len(known):.2f}" if known else "-"


def _over_seeds(found: list[dict[str, float] | None]) -> str:
    """The mean of what seeds have, with the least lower and the largest upper end of their intervals."""
    known = [each for each in found if each is not None]
    if not known:
        return "-"
    value = sum(each["value"] for each in known) / len(known)
    return f"{value:.2f} ({min(each['low'] for each in known):.2f} to {max(each['high'] for each in known):.2f})"


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
