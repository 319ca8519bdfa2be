"""The table of fingerprints, from the claims of ``tests/benchmarks/fingerprint.py``."""

from __future__ import annotations

from typing import Any

from render_table import claim_details, mean, table

KNOWN, BLIND, ERRORS = "with the recipe", "other recipes", "own errors"


def fingerprints() -> str:
    """Every thief by task: the area under its curve, and its agreement in the way that it asked; then the others."""
    details = claim_details("fingerprint_clones_told")
    tasks = details["tasks"]
    best = {name: each.get(KNOWN, each[BLIND]) for name, each in tasks.items()}
    first = next(iter(best.values()))
    rows = []
    for thief in first["thieves"]:
        way = int(thief in details["thieves_of_own_kind"])
        found = [each["thieves"][thief] for each in best.values()]
        rows.append((thief, *(f"{each['auc']:.2f} ({each['agreement'][way]:.2f})" for each in found)))
    for way in first["powerful"]:
        rows.append((f"independent models agree, {way}", *(_null(each, way) for each in best.values())))
    for way in first["powerful"]:
        rows.append(
            (f"fingerprints that claim power, {way}", *(f"{each['powerful'][way]:.0%}" for each in best.values()))
        )
    others = "models by the owner's recipe that stand out"
    rows.append((f"{others}, others of it in the null", *(_claimed(each.get(KNOWN)) for each in tasks.values())))
    rows.append((f"{others}, none of it in the null", *(_claimed(each[BLIND]) for each in tasks.values())))
    control = "mean area of the thieves on the model's own errors"
    rows.append((control, *(_mean_area(each[ERRORS]) for each in tasks.values())))
    return table(("suspect", *tasks), rows)


def _null(arm: dict[str, Any], way: str) -> str:
    return f"{arm['null_agreement'][way]['mean']:.2f}, at most {arm['null_agreement'][way]['largest']:.2f}"


def _claimed(arm: dict[str, Any] | None) -> str:
    if arm is None or not arm["fingerprints"]:
        return "not tried"
    return f"{arm['outsiders']['claimed']} of {arm['outsiders']['n']}"


def _mean_area(arm: dict[str, Any]) -> str:
    if not arm["fingerprints"]:
        return "too few errors"
    return f"{mean([each['auc'] for each in arm['thieves'].values()]):.2f}"
