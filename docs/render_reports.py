"""The tables of the documents about report victims and their theft, from ``docs/results/report_*.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from render_table import claim_details, mean, table, with_interval

VICTIMS = ("nih_cxr", "pneumoniamnist")
THIEVES = {
    "ada-steal-plain-text": "Knockoff with texts: photographs as they are",
    "ada-steal-enrich-text": "photographs chosen for enriched reports",
    "ada-steal-align-text": "photographs moved towards reports of others",
    "ada-steal-text": "ADA-STEAL: moved towards enriched reports, 16/255",
    "ada-steal-8-text": "ADA-STEAL, 8/255",
    "ada-steal-32-text": "ADA-STEAL, 32/255",
    "lord-like-text": "LoRD-like, photographs",
    "knockoff-hard": "findings alone, photographs",
    "noise-text": "uniform noise",
    "ada-steal-text-diluted": "ADA-STEAL in a tenth, radiographs in the rest",
    "in-domain-text": "radiographs",
}
LEARNED = {
    "thief": "250 photographs; then other photographs",
    "in-domain": "500 radiographs; then other radiographs",
    "moved on the victim": "250 photographs and 250 that were moved on the victim; then radiographs",
}
ARMS = {
    "ada-steal-text": "ADA-STEAL",
    "ada-steal-text-diluted": "ADA-STEAL in a tenth, radiographs in the rest",
    "in-domain": "radiographs",
    "in-domain, budget": "radiographs, a budget of 50 findings",
    "in-domain, budget, accounts": "the same budget, 100 accounts of one organisation",
}
EVADED = ("changed", "left_out", "planted", "noise")
KINDS = {"encoder_decoder": "encoder and decoder", "llava": "LLaVA"}


def victims() -> str:
    """One line for each victim and each row beside it: label F1 with intervals, and what words alone say."""
    rows = []
    for data in VICTIMS:
        for kind, name in KINDS.items():
            for row, found in claim_details(f"report_victim_{data}_{kind}")["rows"].items():
                scores = [with_interval(found[each]) for each in ("micro", "findings_micro", "macro")]
                words = [f"{found[each]:.2f}" for each in ("bleu", "rouge_l", "meteor")]
                seen = {"victim": "the images", "other images": "images of others"}.get(row, row)
                rows.append([data.replace("_", "-"), name, seen, *scores, *words])
    heads = ("data", "network", "trained on", "label F1", 'without "no finding"', "mean of labels")
    return table([*heads, "BLEU", "ROUGE-L", "METEOR"], rows)


def labels() -> str:
    """F1 of each label of each victim."""
    found = {
        (data, kind): claim_details(f"report_victim_{data}_{kind}")["rows"]["victim"]["labels"]
        for data in VICTIMS
        for kind in KINDS
    }
    heads = [f"{data.replace('_', '-')}, {KINDS[kind]}" for data, kind in found]
    names = dict.fromkeys(name for each in found.values() for name in each)
    return table(
        ["label", *heads],
        ([name, *(with_interval(each[name]) if name in each else "-" for each in found.values())] for name in names),
    )


def samples() -> str:
    """Three references with what the victim wrote."""
    written = claim_details("report_victim_samples")["samples"]
    return table(["reference", "written"], ([each["reference"], each["written"]] for each in written))


def reader() -> str:
    """The reader against MeSH: F1 of each finding."""
    rows = []
    for name, row in claim_details("report_reader_mesh")["findings"].items():
        low, high = row["interval"]
        score = with_interval({"value": row["f1"]["doubt counts"], "low": low, "high": high})
        rows.append([name, row["n"], score, f"{row['precision']:.2f}", f"{row['recall']:.2f}"])
    return table(["finding", "reports with it", "F1", "precision", "recall"], rows)


def theft() -> str:
    """What each thief makes of the bare victim."""
    return _thieves(claim_details("report_theft_gain"))


def theft_elsewhere() -> str:
    """The same of the second victim, and by who begins with trained weights."""
    return _thieves(claim_details("report_theft_elsewhere"))


def _thieves(details: dict[str, Any]) -> str:
    rows = []
    for name, closed in details["gap_closed"].items():
        curves = details["f1_over_queries"][name]
        points = [
            f"{mean([curve[1][at] for curve in curves]):.2f} ({queries:.0f})" for at, queries in enumerate(curves[0][0])
        ]
        agreement = mean(details["agreement"][name])
        rows.append([THIEVES[name], _range(closed), ", ".join(points), f"{agreement:.2f}"])
    rows.append(["no victim: the best constant answer", "0", f"{mean(details['no_victim_f1']):.2f}", ""])
    rows.append(["the victim itself", "1", f"{mean(details['victim_f1']):.2f}", "1"])
    return table(["thief", "share of the gap closed", "label F1 over the queries", "agreement"], rows)


def theft_transfer() -> str:
    """How often moved photographs yield the aimed findings, by radius: its own, the victim's."""
    cells, rows = claim_details("report_theft_transfer")["cells"], []
    for grey in cells[0]["hits"]["thief"]:
        own, victim = ([each["hits"]["thief"][grey][who] for each in cells] for who in ("own", "victim"))
        noise = [each["hits"]["noise"][grey]["victim"] for each in cells]
        rows.append([f"{grey}/255", _range(own), _range(victim), _range(noise)])
    return table(["radius", "on the thief's own model", "on the victim", "random noise, on the victim"], rows)


def theft_lessons() -> str:
    """How often a thief's models find what the victim does, of what they learned and of what they never saw."""
    cells, rows = claim_details("report_theft_transfer")["cells"], []
    for model, name in LEARNED.items():
        found = [each["agreement"][model] for each in cells]
        rows.append([name, *(_range([each[what] for each in found]) for what in ("lessons", "unseen", "commonest"))])
    return table(
        ["what the model learned of", "its own lessons", "images it never saw", "the commonest answer there"], rows
    )


def theft_flags() -> str:
    """Queries until each thief is flagged, by data set and share of theft."""
    pure, diluted = (claim_details(f"report_theft_flagged_{each}") for each in ("pure", "diluted"))
    return table(
        ["data", "thief", "all its queries", "a tenth of them"],
        (
            [data.replace("_", "-"), thief, _count(found), _count(diluted["thieves"][data][thief])]
            for data, thieves in pure["thieves"].items()
            for thief, found in thieves.items()
        ),
    )


def theft_reference() -> str:
    """Queries until ADA-STEAL in a tenth of the queries is flagged, by how many rows calibration compares with."""
    details = claim_details("report_theft_flagged_diluted")["by_reference_rows"]
    return table(
        ["data", "reference rows", "queries until flagged"],
        (
            [data.replace("_", "-"), rows, _count(found)]
            for data, sizes in details.items()
            for rows, found in sizes.items()
        ),
    )


def theft_guarded() -> str:
    """What leaves a guard for each thief, and what it makes of that."""
    details, rows = claim_details("report_theft_gap_guarded"), []
    for data, arms in details["gap_closed"].items():
        for name, closed in arms.items():
            found = details["arms"][data][name]
            flagged = ", ".join("never" if each["flagged"] is None else str(each["flagged"]) for each in found)
            counts = ([each["levels"].get(level, 0) for each in found] for level in ("full", "label", "withheld"))
            told = [f"{mean(each):.0f}" for each in counts]
            rows.append([data.replace("_", "-"), ARMS[name], flagged, *told, _range(closed)])
    first = next(iter(details["gap_closed"])).replace("_", "-")
    for count, closed in details["radiographs_alone"].items():
        rows.append([first, f"bare, {count} radiographs and nothing else", "", count, 0, 0, _range(closed)])
    heads = ("data", "thief", "flagged at query", "reports", "findings alone", "withheld", "share of the gap closed")
    return table(heads, rows)


def _count(found: dict[str, Any]) -> str:
    if found["median"] is None:
        return f"never ({found['never']} of {found['n']})"
    low, high = ("never" if each is None else f"{each:.0f}" for each in found["interval"])
    return f"{found['median']:.0f} ({low} to {high})"


def _range(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def evasion() -> str:
    """Reports that say other findings once the image is changed, before and after the tower was hardened."""
    rows = []
    for data, arms in claim_details("report_evasion_per_image")["subjects"].items():
        for arm, changes in arms.items():
            scores = dict(zip(("value", "low", "high"), changes["label_f1"], strict=True))
            for change, cells in changes.items():
                if change != "label_f1":
                    low, high = cells["interval"]
                    first, *others = [mean([each[name] for each in cells["seeds"]]) for name in EVADED]
                    shares = [with_interval({"value": first, "low": low, "high": high}), *map(_two, others)]
                    rows.append([data.replace("_", "-"), arm, change, *shares, with_interval(scores)])
    heads = ("data", "network", "change", "other findings", "left out", "planted", "noise", "label F1")
    return table(heads, rows)


def evasion_guarded() -> str:
    """What the default guard withholds of changed images, and what leaves all the same, by who knows it and who not."""
    shares = {
        "clean withheld": "withheld: clean images",
        "noise withheld": "with noise",
        "withheld": "attacked",
        "bare": "other findings: bare",
        "guarded": "guarded",
        "knowing": "by who knows the guard",
        "knowing withheld": "of whose images are withheld",
    }
    rows = [
        [data.replace("_", "-"), change, *(with_interval(each[name]) for name in shares)]
        for data, found in claim_details("report_evasion_guarded")["subjects"].items()
        for change, each in found["attacks"].items()
    ]
    return table(("data", "change", *shares.values()), rows)


def _two(value: float) -> str:
    return f"{value:.2f}"
