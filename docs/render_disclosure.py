"""Tables of the documents about memory and disclosure, from ``docs/results/*.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from render_table import table

RESULTS = Path(__file__).parent / "results"
ARMS = {
    "undefended": "unguarded",
    "guarded": "unaware",
    "adaptive": "knows the filter",
    "baseline": "decoys",
    "status": "verdict",
}
"""What a row has of a writer and its filter, and how its column is headed."""


def memory() -> str:
    """What is taken out of held-out reports and known ones, what the file is, what a word costs."""
    claim, cost = _claim("memory_boilerplate"), _claim("memory_speed")["details"]
    found, each = claim["details"], cost["microseconds_a_word"]
    short = _claim("memory_short_answers")
    rows = {
        "words of held-out reports taken out": f"{claim['value']:.2%} of {found['words']:,}",
        "held-out reports touched": f"{found['reports_touched']:.1%} of {claim['n']:,}",
        "short answers about held-out reports withheld, in the worst style": f"{short['value']:.2%} of {short['n']:,}",
        "letters of known reports that are rare": f"{found['letters_of_known_reports_taken_out']:.0%}",
        "file": f"{found['bytes_of_the_file'] / 1e6:.1f} MB",
        "false positives, a stretch": f"{found['false_positive_of_the_file']:.1e}",
        "CPU time a word, whole text": f"{each['whole']:.1f} µs",
        "CPU time a word, streamed word by word": f"{each['word by word']:.1f} µs",
        "CPU time a word, words never seen before": f"{each['strange words']:.1f} µs",
        "CPU time a short answer of a conversation": f"{cost['microseconds_a_short_answer']:.0f} µs",
        "a set of plain n-grams of eight words, no views": f"{each['plain n-grams in a set']:.1f} µs",
    }
    return (
        "\n".join(["| measure | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())]) + "\n"
    )


def memory_in_turns() -> str:
    """How many rare passages are recovered when they come in pieces, and how many letters of one leave in a row."""
    lines = ["| pieces | recovered | recovered, each answer by itself | most letters in a row |", "|---|---|---|---|"]
    details = _claim("memory_leakage")["details"]
    for name, row in (details["every_passage_in_turns"] | details["every_fifth_passage_in_codes"]).items():
        lines.append(
            f"| {name} | {row['recovered']:.3f} | {row['recovered_of_answers_apart']:.3f} "
            f"| {row['most_letters_in_a_row']} |"
        )
    return "\n".join(lines) + "\n"


def disclosure() -> str:
    """Each disguise: what is recovered of values that were shown, and of training text."""
    shown, learned = _claim("disclosure_worst_case")["details"], _claim("memory_leakage")["details"]
    lines = [
        "| disguise | values of the request | rare training passages |",
        "|---|---|---|",
        f"| any, unguarded (least) | {shown['unguarded_least']:.2f} | {learned['unguarded_least']:.2f} |",
    ]
    for kind in ("guarded", "disguises_no_filter_was_built_for"):
        said = "" if kind == "guarded" else " (unseen)"
        lines += [f"| {name}{said} | {rate:.2f} | {learned[kind][name]:.2f} |" for name, rate in shown[kind].items()]
    lines += [f"| {name} (padded) | {rate:.2f} | not measured |" for name, rate in shown.get("padded", {}).items()]
    return "\n".join(lines) + "\n"


def linkage() -> str:
    """Shares of records named rightly, and those of shuffled columns."""
    lines = ["| quasi-identifiers | named rightly | with shuffled columns |", "|---|---|---|"]
    for name, row in _claim("linkage")["details"].items():
        lines.append(f"| {name} | {row['rightly']} | {row['baseline']} |")
    return "\n".join(lines) + "\n"


def writers() -> str:
    """Writers and filters before them: the share of planted values read, and the verdict."""
    rows = _claim("writer_validation")["details"]["rows"]
    return table(
        ["writer", "filter", *ARMS.values()], ([row[each] for each in ("writer", "filter", *ARMS)] for row in rows)
    )


def mm_privacy(risk: str) -> str:
    """Framings by mitigations: the share of values read, and in brackets of answers that refuse; the worst framing."""
    rows = _claim(f"mm_privacy_{risk}")["details"]["rows"]
    framings = list(next(iter(rows.values()))["success"])
    lines = [
        f"| mitigation | {' | '.join(framings)} | worst framing | decoys |",
        f"|---|{'---|' * (len(framings) + 2)}",
    ]
    for name, row in rows.items():
        cells = [f"{row['success'][each]['value']:.2f} ({row['refusal'][each]['value']:.2f})" for each in framings]
        lines.append(f"| {name} | {' | '.join([*cells, *(_with_ends(row[each]) for each in ('gate', 'decoys'))])} |")
    return "\n".join(lines) + "\n"


def mm_privacy_benign(risk: str) -> str:
    """What mitigations do to clinical answers, by what they are asked about."""
    rows = _claim(f"mm_privacy_{risk}")["details"]["rows"]
    lines = ["| mitigation | asked about | n | refused | altered | right |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        for pages, cost in row.get("benign", {}).items():
            shares = " | ".join(_with_ends(cost[each]) for each in ("refused", "altered", "right"))
            lines.append(f"| {name} | {pages} | {cost['right']['n']} | {shares} |")
    return "\n".join(lines) + "\n"


def mm_privacy_kinds() -> str:
    """Values of each kind that are read in the worst framing: off the reader, and of a script that says all of them."""
    details = _claim("mm_privacy_disclosure")["details"]
    rows = {
        "reader, no filter": details["bare_by_kind"],
        **{f"script that says all, {name}": row for name, row in details["script_by_kind"].items()},
    }
    kinds = list(details["bare_by_kind"])
    lines = [f"| writer | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(_with_ends(row[kind]) for kind in kinds)} |")
    return "\n".join(lines) + "\n"


def mm_privacy_validation() -> str:
    """What `validate_writer` says of trained readers, arm by arm."""
    rows = _claim("mm_privacy_validation")["details"]["rows"]
    return table(["writer", *ARMS.values()], ([name, *(row[each] for each in ARMS)] for name, row in rows.items()))


def _with_ends(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def burned_in() -> str:
    """In how many images with burned-in identifiers text is noticed, by size; and in real files."""
    details = _claim("burned_in_requests")["details"]
    count = details["without_text"]
    lines = [
        "| pixels a side | noticed | 95 % interval | without text, noticed | CPU seconds an image with text |",
        "|---|---|---|---|---|",
    ]
    for side, row in details["sides"].items():
        low, high = row["interval"]
        noticed = f"{row['noticed']} of {_claim('burned_in_requests')['n']} | {low:.2f} to {high:.2f}"
        lines.append(f"| {side} | {noticed} | {row['noticed_without_text']} of {count} | {row['seconds']:.2f} |")
    for name, row in details["files"].items():
        lines.append(f"| files {name}, at their own size | {row['noticed']} of {row['files']} | | | |")
    return "\n".join(lines) + "\n"


def _claim(name: str) -> dict[str, Any]:
    claim: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return claim
