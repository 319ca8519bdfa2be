"""The tables of the documents about report victims and their theft, from ``docs/results/report_*.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
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
    lines = [
        '| data | network | trained on | label F1 | without "no finding" | mean of labels | BLEU | ROUGE-L | METEOR |',
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for data in VICTIMS:
        for kind, name in KINDS.items():
            for row, found in _details(f"report_victim_{data}_{kind}")["rows"].items():
                scores = " | ".join(_interval(found[each]) for each in ("micro", "findings_micro", "macro"))
                words = " | ".join(f"{found[each]:.2f}" for each in ("bleu", "rouge_l", "meteor"))
                seen = {"victim": "the images", "other images": "images of others"}.get(row, row)
                lines.append(f"| {data.replace('_', '-')} | {name} | {seen} | {scores} | {words} |")
    return "\n".join(lines) + "\n"


def labels() -> str:
    """F1 of each label of each victim."""
    found = {
        (data, kind): _details(f"report_victim_{data}_{kind}")["rows"]["victim"]["labels"]
        for data in VICTIMS
        for kind in KINDS
    }
    heads = " | ".join(f"{data.replace('_', '-')}, {KINDS[kind]}" for data, kind in found)
    lines = [f"| label | {heads} |", "|---|" + "---|" * len(found)]
    for label in dict.fromkeys(name for each in found.values() for name in each):
        cells = " | ".join(_interval(each[label]) if label in each else "-" for each in found.values())
        lines.append(f"| {label} | {cells} |")
    return "\n".join(lines) + "\n"


def samples() -> str:
    """Three references with what the victim wrote."""
    lines = ["| reference | written |", "|---|---|"]
    for each in _details("report_victim_samples")["samples"]:
        lines.append(f"| {each['reference']} | {each['written']} |")
    return "\n".join(lines) + "\n"


def reader() -> str:
    """The reader against MeSH: F1 of each finding."""
    lines = ["| finding | reports with it | F1 | precision | recall |", "|---|---|---|---|---|"]
    for name, row in _details("report_reader_mesh")["findings"].items():
        low, high = row["interval"]
        score = _interval({"value": row["f1"]["doubt counts"], "low": low, "high": high})
        lines.append(f"| {name} | {row['n']} | {score} | {row['precision']:.2f} | {row['recall']:.2f} |")
    return "\n".join(lines) + "\n"


def theft() -> str:
    """What each thief makes of the bare victim."""
    return _thieves(_details("report_theft_gain"))


def theft_elsewhere() -> str:
    """The same of the second victim, and by who begins with trained weights."""
    return _thieves(_details("report_theft_elsewhere"))


def _thieves(details: dict[str, Any]) -> str:
    lines = ["| thief | share of the gap closed | label F1 over the queries | agreement |", "|---|---|---|---|"]
    for name, closed in details["gap_closed"].items():
        curves = details["f1_over_queries"][name]
        points = [
            f"{_mean([curve[1][at] for curve in curves]):.2f} ({queries:.0f})"
            for at, queries in enumerate(curves[0][0])
        ]
        agreement = _mean(details["agreement"][name])
        lines.append(f"| {THIEVES[name]} | {_range(closed)} | {', '.join(points)} | {agreement:.2f} |")
    lines.append(f"| no victim: the best constant answer | 0 | {_mean(details['no_victim_f1']):.2f} | |")
    lines.append(f"| the victim itself | 1 | {_mean(details['victim_f1']):.2f} | 1 |")
    return "\n".join(lines) + "\n"


def theft_transfer() -> str:
    """How often moved photographs yield the aimed findings, by radius: its own, the victim's."""
    cells = _details("report_theft_transfer")["cells"]
    lines = [
        "| radius | on the thief's own model | on the victim | random noise, on the victim |",
        "|---|---|---|---|",
    ]
    for grey in cells[0]["hits"]["thief"]:
        own, victim = ([each["hits"]["thief"][grey][who] for each in cells] for who in ("own", "victim"))
        noise = [each["hits"]["noise"][grey]["victim"] for each in cells]
        lines.append(f"| {grey}/255 | {_range(own)} | {_range(victim)} | {_range(noise)} |")
    return "\n".join(lines) + "\n"


def theft_lessons() -> str:
    """How often a thief's models find what the victim does, of what they learned and of what they never saw."""
    cells = _details("report_theft_transfer")["cells"]
    lines = [
        "| what the model learned of | its own lessons | images it never saw | the commonest answer there |",
        "|---|---|---|---|",
    ]
    for model, name in LEARNED.items():
        found = [each["agreement"][model] for each in cells]
        shares = (_range([each[what] for each in found]) for what in ("lessons", "unseen", "commonest"))
        lines.append(f"| {name} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


def theft_flags() -> str:
    """Queries until each thief is flagged, by data set and share of theft."""
    pure, diluted = (_details(f"report_theft_flagged_{each}") for each in ("pure", "diluted"))
    lines = ["| data | thief | all its queries | a tenth of them |", "|---|---|---|---|"]
    for data, thieves in pure["thieves"].items():
        for thief, found in thieves.items():
            cells = " | ".join(_count(each) for each in (found, diluted["thieves"][data][thief]))
            lines.append(f"| {data.replace('_', '-')} | {thief} | {cells} |")
    return "\n".join(lines) + "\n"


def theft_reference() -> str:
    """Queries until ADA-STEAL in a tenth of the queries is flagged, by how many rows calibration compares with."""
    details = _details("report_theft_flagged_diluted")["by_reference_rows"]
    lines = ["| data | reference rows | queries until flagged |", "|---|---|---|"]
    for data, sizes in details.items():
        lines += [f"| {data.replace('_', '-')} | {rows} | {_count(found)} |" for rows, found in sizes.items()]
    return "\n".join(lines) + "\n"


def theft_guarded() -> str:
    """What leaves a guard for each thief, and what it makes of that."""
    details = _details("report_theft_gap_guarded")
    lines = [
        "| data | thief | flagged at query | reports | findings alone | withheld | share of the gap closed |",
        "|---|---|---|---|---|---|---|",
    ]
    for data, arms in details["gap_closed"].items():
        for name, closed in arms.items():
            found = details["arms"][data][name]
            flagged = ", ".join("never" if each["flagged"] is None else str(each["flagged"]) for each in found)
            counts = ([each["levels"].get(level, 0) for each in found] for level in ("full", "label", "withheld"))
            told = " | ".join(f"{_mean(each):.0f}" for each in counts)
            lines.append(f"| {data.replace('_', '-')} | {ARMS[name]} | {flagged} | {told} | {_range(closed)} |")
    first = next(iter(details["gap_closed"])).replace("_", "-")
    for count, closed in details["radiographs_alone"].items():
        lines.append(f"| {first} | bare, {count} radiographs and nothing else | | {count} | 0 | 0 | {_range(closed)} |")
    return "\n".join(lines) + "\n"


def _count(found: dict[str, Any]) -> str:
    if found["median"] is None:
        return f"never ({found['never']} of {found['n']})"
    low, high = ("never" if each is None else f"{each:.0f}" for each in found["interval"])
    return f"{found['median']:.0f} ({low} to {high})"


def _range(values: Sequence[float]) -> str:
    return f"{_mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def evasion() -> str:
    """Reports that say other findings once the image is changed, before and after the tower was hardened."""
    lines = [
        "| data | network | change | other findings | left out | planted | noise | label F1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for data, arms in _details("report_evasion_per_image")["subjects"].items():
        for arm, rows in arms.items():
            scores = dict(zip(("value", "low", "high"), rows["label_f1"], strict=True))
            for change, cells in rows.items():
                if change != "label_f1":
                    low, high = cells["interval"]
                    means = [_mean([each[name] for each in cells["seeds"]]) for name in EVADED]
                    shares = " | ".join(
                        [_interval({"value": means[0], "low": low, "high": high}), *map(_two, means[1:])]
                    )
                    lines.append(f"| {data.replace('_', '-')} | {arm} | {change} | {shares} | {_interval(scores)} |")
    return "\n".join(lines) + "\n"


def _two(value: float) -> str:
    return f"{value:.2f}"


def _details(claim: str) -> dict[str, Any]:
    details: dict[str, Any] = json.loads((RESULTS / f"{claim}.json").read_text())["details"]
    return details


def _interval(found: dict[str, float]) -> str:
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
