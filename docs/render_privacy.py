"""Tables of the documents about membership and private training, from ``docs/results/*.json``."""

from __future__ import annotations

from render_table import claim_details, table

PRIVATE_REPORTERS = {
    "base": "base",
    "all weights, without privacy": "all weights, without privacy",
    "without privacy": "low-rank additions, without privacy",
    "with privacy": "low-rank additions, with privacy",
}


def private_training() -> str:
    """Each data set, unit and epsilon: accuracy beside that without privacy, the strongest attack, its ceiling."""
    cells, rows = claim_details("private_training_within_ceilings")["cells"], []
    for name, cell in cells.items():
        data, unit, epsilon = name.split("/")
        if epsilon == "none":
            continue
        plain = cells[f"{data}/row/none"]["balanced_accuracy"]
        best = [max(score[rate]["value"] for score in cell["scores"].values()) for rate in ("0.01", "0.1")]
        spread = f"{cell['balanced_accuracy']:.2f} ({min(cell['each']):.2f} to {max(cell['each']):.2f})"
        strongest = [f"{best[0]:.3f}", f"{cell['ceilings']['0.01']:.3f}"]
        strongest += [f"{best[1]:.3f}", f"{cell['ceilings']['0.1']:.3f}"]
        rows.append([f"{data}, {unit}", cell["units"], f"{plain:.2f}", epsilon, spread, *strongest])
    heads = ("data, unit", "units", "without privacy", "epsilon", "balanced accuracy (4 trainings)")
    return table([*heads, "strongest attack at 1 %", "ceiling", "at 10 %", "ceiling"], rows)


def front_row() -> str:
    """What privacy costs and allows on PneumoniaMNIST at epsilon 8, by patient's row."""
    cells = claim_details("private_training_within_ceilings")["cells"]
    private, plain = cells["pneumoniamnist/row/8"], cells["pneumoniamnist/row/none"]
    strongest = max(score["0.01"]["value"] for score in private["scores"].values())
    costs = f"balanced accuracy {private['balanced_accuracy']:.2f}, {plain['balanced_accuracy']:.2f} learned by heart"
    ceiling = f"{private['ceilings']['0.01']:.0%}"
    named = f"{strongest:.1%} of members named at 1 % false positives"
    return f"at epsilon 8 {costs}; {named}, at most {ceiling} by any attack"


def private_language() -> str:
    """Perplexity of a report model after low-rank fine-tuning, and the strongest score beside its ceiling."""
    rows = []
    for name, cell in claim_details("private_language_within_ceilings")["cells"].items():
        found = [""] * 4
        if "scores" in cell:
            for place, rate in enumerate(("0.01", "0.1")):
                found[2 * place] = f"{max(score[rate]['value'] for score in cell['scores'].values()):.3f}"
                found[2 * place + 1] = f"{cell['ceilings'][rate]:.3f}" if cell["ceilings"] else ""
        rows.append([name, f"{cell['perplexity']:.2f}", *found])
    heads = ("report model", "perplexity of other reports", "strongest score at 1 %", "ceiling", "at 10 %", "ceiling")
    return table(heads, rows)


def peers() -> str:
    """Membership scores of Medward and of its peers on the same logits, the strongest first."""
    return table(
        ["data", "attack", "AUC", "true positive rate at 1 %"],
        (
            [data, name, f"{row['auc']:.3f}", f"{row['tpr_at_1_percent']:.3f}"]
            for data, rows in claim_details("membership_against_peers")["subjects"].items()
            for name, row in sorted(rows.items(), key=lambda item: -item[1]["auc"])
        ),
    )


def language() -> str:
    """Membership scores of a fine-tuned report model, the strongest first."""
    details = claim_details("language_membership_scores")
    scores = ((name, details["scores"][name]) for name in details["order"])
    return table(
        ["score", "AUC", "true positive rate at 1 %"],
        ([name, row["auc"], row["true_positive_rate_at_1_percent"]] for name, row in scores),
    )


def report_membership() -> str:
    """AUC of every score that is shown, victim by victim: the mean over seeds, with the outermost ends of intervals."""
    rows = claim_details("report_membership_scores")["rows"]
    names = dict.fromkeys(name for cells in rows.values() for cell in cells for name in cell["scores"])
    told = {
        name: [[cell["scores"][name]["auc"] for cell in cells if name in cell["scores"]] for cells in rows.values()]
        for name in names
    }
    seeds = [f"{len(cells)}, {cells[0]['members']} and {cells[0]['others']}" for cells in rows.values()]
    lines = [[name, *map(_over_seeds, each)] for name, each in told.items()]
    return table(["score", *map(_victim, rows)], [*lines, ["seeds, members and others", *seeds]])


def report_membership_chosen() -> str:
    """The two scores that count: what they name at few false positives, and what is told without the victim."""
    details, rows = claim_details("report_membership_scores"), []
    for row, cells in details["rows"].items():
        for kind, name in details["chosen"].items():
            held = [cell["scores"][name] for cell in cells if name in cell["scores"]]
            if held:
                rates = [[each["rates"][rate] for each in held] for rate in ("0.01", "0.001")]
                others = [[each.get(what) for each in held] for what in ("reference", "gain", "stranger")]
                told = [[each["auc"] for each in held], *rates, *others, [each["shuffled"] for each in held]]
                found = [*map(_over_seeds, told), _over_seeds([cell["blind"] for cell in cells])]
                words = _plain_mean([each["other_words"] for each in held])
                rows.append([_victim(row), f"{name} ({kind})", *found, words])
    heads = ("victim", "score", "AUC", "at 1 %", "at 0.1 %", "reference alone", "gain over it", "a victim of others")
    return table([*heads, "sides dealt anew", "without a model", "in other words"], rows)


def report_membership_private() -> str:
    """A base, and what it becomes on a thousand coins with privacy and without: told members, audit, label F1."""
    cells, rows = claim_details("report_membership_private")["cells"], []
    for name, told in PRIVATE_REPORTERS.items():
        held = [cell[name] for cell in cells]
        scores = [each["scores"]["reference"] for each in held]
        found = [[each["scores"]["loss"]["auc"] for each in held], [each["auc"] for each in scores]]
        found.append([each["rates"]["0.01"] for each in scores])
        ceiling = f"{max(cell['ceiling'] for cell in cells):.3f}" if name == "with privacy" else ""
        refuted = max(bound for each in held for bound in each["audit"].values())
        quality = _over_seeds([each["label_f1"] for each in held])
        rows.append([told, *map(_over_seeds, found), ceiling, f"{refuted:.2f}", quality])
    heads = ("network", "AUC, loss", "AUC, likelihood ratio", "at 1 %", "ceiling", "refuted epsilon", "label F1")
    return table(heads, rows)


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
    columns = ("attack", "measure", "before", "after")
    return table(
        ["training", "attack", "measured as", "before", "after"],
        (
            [training, *(row[each] for each in columns)]
            for training, rows in claim_details("training_interactions")["trainings"].items()
            for row in rows
        ),
    )
