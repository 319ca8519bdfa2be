"""The tables of streams that are changed alike, of thieves near repeats, and of what one patient would cost."""

from __future__ import annotations

from typing import Any

from render_table import claim_details, table

STREAMS, THIEVES, PATIENT = "blind_spot_streams_alarmed", "near_repeat_thieves", "one_patient_price"
_ALPHA = "0.001"


def streams() -> str:
    """By kind and share the queries until the alarm on each set: the median and the worst, and how many never."""
    details = claim_details(STREAMS)
    tasks = details["tasks"]
    rows = []
    for name in next(iter(tasks.values())):
        kind, share = name.rsplit(", ", 1)
        judged = [task for task in tasks if share == "1" and kind in details["judged"][task]]
        cells = [_alarmed(found[name][_ALPHA]) for found in tasks.values()]
        rows.append([kind, f"{float(share):.0%}", *cells, ", ".join(judged)])
    return table(["images", "share of the queries", *tasks, "target holds for"], rows)


def thieves() -> str:
    """By way and set, when thieves are flagged, and what they had by then, now and before."""
    details = claim_details(THIEVES)
    before = (details["before"] or {"tasks": {}})["tasks"]
    index = details["index_of_near_duplicates_flags"]
    rows = []
    for task, ways in details["tasks"].items():
        for way, found in ways.items():
            then = before.get(task, {}).get(way)
            rows.append(
                [
                    task,
                    way,
                    _alarmed(then["flagged"]) if then else "",
                    _alarmed(found["flagged"]),
                    index[task][way] or "never",
                    f"{found['asked_far_apart']:.0f}",
                    f"{found['answered']:.0f}",
                    f"{found['clone_of_asked']:+.2f}",
                    f"{found['clone_of_answered']:+.2f}",
                    f"{found['clone_unguarded']:+.2f}" if "clone_unguarded" in found else "",
                ]
            )
    heads = ["set", "asks about", "flagged, before", "flagged", "index flags", "far apart", "passed the screen"]
    return table([*heads, "clone", "of what passed", "nobody looks"], rows)


def one_patient() -> str:
    """By rule and set how many accounts of one patient, and of attacks that look so, are acted upon."""
    details = claim_details(PATIENT)
    rules = list(details["all"])
    rows = [
        [kind, *(_share(found[rule][key]) for found in details["tasks"].values() for rule in rules)]
        for key, kind in (
            ("patients", "one patient again and again"),
            ("searches", "a search around one image"),
            ("perturbed", "one perturbation on images that look alike"),
        )
    ]
    heads = [f"{task}: {rule}" for task in details["tasks"] for rule in rules]
    return table(["acted upon", *heads], rows)


def _alarmed(found: dict[str, Any]) -> str:
    """The median and the worst that came, and how many never."""
    if found["worst"] is None:
        return "never"
    median = "never" if found["median"] is None else f"{found['median']:.0f}"
    missed = f", {found['never']} of {found['n']} never" if found["never"] else ""
    return f"{median} ({found['worst']}){missed}"


def _share(found: dict[str, int]) -> str:
    return f"{found['acted']} of {found['n']}"
