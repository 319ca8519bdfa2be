"""The tables of ordinary behaviour, from the claim of ``tests/benchmarks/ordinary.py``."""

from __future__ import annotations

from typing import Any

from render_table import claim_details, table

CLAIM = "ordinary_accounts_withheld"
_LARGE = 0.1
"""The share of the wealth from which on a part is named."""


def accounts() -> str:
    """Of each behaviour and set the percentages of accounts coarsened and withheld, and the parts that did it.

    What was otherwise before stands before an arrow.
    """
    details = claim_details(CLAIM)
    subjects, before = details["subjects"], _before(details)
    names = dict.fromkeys(name for found in subjects.values() for name in found["behaviours"])
    rows, last = [], []
    for name in names:
        found = [each["behaviours"].get(name) for each in subjects.values()]
        known = next(each for each in found if each is not None)
        thief = known["group"] == "theft"
        forgiven = "" if thief else "yes" if known["forgiven"] else "no"
        cells = [
            _cell(row, before.get(subject, {}).get("behaviours", {}).get(name))
            for subject, row in zip(subjects, found, strict=True)
        ]
        (last if thief else rows).append([name, forgiven, *cells, _parts(found)])
    return table(["behaviour", "meant to be forgiven", *subjects, "by"], [*rows, *last])


def thieves() -> str:
    """Of each set the queries until a thief is noticed, now and before."""
    details = claim_details(CLAIM)
    before = _before(details)
    rows = []
    for subject, found in details["subjects"].items():
        then = before.get(subject, {}).get("thieves_flagged_after", {})
        for share, counts in found["thieves_flagged_after"].items():
            rows.append(
                [subject, found["reference"], f"{float(share):.0%}", _queries(counts), _queries(then.get(share))]
            )
    heads = ["set", "reference rows", "share of theft", "noticed after", "before"]
    return table(heads, rows)


def remedies() -> str:
    """What a site does about what is not forgiven."""
    return table(["behaviour", "instead"], claim_details(CLAIM)["remedies"].items())


def _before(details: dict[str, Any]) -> dict[str, Any]:
    """What was found before, by set; nothing where that is not known."""
    found: dict[str, Any] = (details["before"] or {"subjects": {}})["subjects"]
    return found


def _cell(row: dict[str, Any] | None, then: list[int] | None) -> str:
    """Coarsened or withheld, and withheld, in percent of the accounts; what was otherwise before an arrow."""
    if row is None:
        return ""
    now = _percentages(row["coarsened"], row["withheld"], row["n"])
    was = now if then is None else _percentages(*then)
    return now if was == now else f"{was} → {now}"


def _percentages(coarsened: int, withheld: int, n: int) -> str:
    return f"{100 * coarsened / n:.0f} / {100 * withheld / n:.0f}"


def _parts(found: list[dict[str, Any] | None]) -> str:
    """The parts of the monitors with a large share of the wealth on any set, or nothing."""
    shares: dict[str, float] = {}
    for row in found:
        for part, share in (row or {"parts": {}})["parts"].items():
            shares[part] = max(shares.get(part, 0.0), share)
    return ", ".join(part for part in sorted(shares, key=lambda part: -shares[part]) if shares[part] >= _LARGE)


def _queries(counts: dict[str, Any] | None) -> str:
    """The median and the 90th percentile, and how many were never noticed."""
    if counts is None:
        return ""
    median, late = ("never" if each is None else f"{each:.0f}" for each in (counts["median"], counts["p90"]))
    missed = f", {counts['never']} of {counts['n']} never" if counts["never"] else ""
    return f"{median} ({late}){missed}"
