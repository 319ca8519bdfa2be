"""The tables of commissioning: which word is said of batches that were sent wrongly, and of ordinary ones."""

from __future__ import annotations

from typing import Any

from render_table import claim_details, table

CLAIM = "commissioning_words"
NAMES = {
    "pneumoniamnist": "PneumoniaMNIST (tuned on)",
    "wdbc": "WDBC (tuned on)",
    "nih-cxr": "NIH-64",
    "blood": "blood cells",
    "fetal-ctg": "fetal CTG (mended on)",
}
IMAGES, TABLES = ("pneumoniamnist", "nih-cxr", "blood"), ("wdbc", "fetal-ctg")


def images() -> str:
    """Mistakes of images."""
    return _mistakes(IMAGES)


def tables() -> str:
    """Mistakes of tables."""
    return _mistakes(TABLES)


def shares() -> str:
    """Of all batches with a mistake what was said, by set, and on fetal CTG before that was mended."""
    details = claim_details(CLAIM)
    found = {NAMES[name]: each for name, each in details["shares"].items()}
    found["fetal CTG, first printing"] = details["before"]["fetal-ctg"]["shares"]
    outcomes = {
        "right": "right",
        "among": "named second",
        "wrong": "another",
        "differs": "differs",
        "nothing": "nothing",
    }
    rows = ((name, *(f"{each[outcome]:.1%}" for outcome in outcomes)) for name, each in found.items())
    return table(("set", *outcomes.values()), rows)


def ordinary() -> str:
    """How often anything is said of batches in which nothing was changed."""
    sets = claim_details(CLAIM)["sets"]
    heads = ("set", "calibration rows compared with", "20 ordinary rows", "5 ordinary rows", "20 rows of one class")
    cells = ("ordinary", "first_rows", "one_class")
    return table(
        heads,
        (
            (NAMES[name], found["reference"][0], *(f"{found[cell]['said']} of {found[cell]['n']}" for cell in cells))
            for name, found in sets.items()
        ),
    )


def _mistakes(names: tuple[str, ...]) -> str:
    sets = {name: claim_details(CLAIM)["sets"][name]["mistakes"] for name in names}
    mistakes = dict.fromkeys(mistake for found in sets.values() for mistake in found)
    heads = ("mistake", *(NAMES[name] for name in names))
    return table(heads, ((each, *(_outcomes(sets[name].get(each)) for name in names)) for each in mistakes))


def _outcomes(counts: dict[str, Any] | None) -> str:
    """Right, named second, wrong, differs and nothing, in per cent."""
    if counts is None:
        return "-"
    shares = [100 * counts[name] / counts["n"] for name in ("right", "among", "wrong", "differs", "nothing")]
    return " / ".join(f"{share:.0f}" for share in shares)
