"""The tables of the document about report victims, from ``docs/results/report_*.json``."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

RESULTS = Path(__file__).parent / "results"
VICTIMS = ("nih_cxr", "pneumoniamnist")
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
                    means = [fmean(each[name] for each in cells["seeds"]) for name in EVADED]
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
