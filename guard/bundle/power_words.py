"""What a calibration notices and what not, in sentences: on the console, in reports and in a server's notes."""

from __future__ import annotations

from medward.guard.bundle.more_rows import PATIENCE_QUERIES, WANTED_QUERIES
from medward.guard.bundle.power import STOLEN_SHARES, Power
from medward.guard.profile import FIT_ROWS

_ALONE, _HIDDEN = STOLEN_SHARES


def power_words(power: Power) -> tuple[str, ...]:
    """What is noticed and when, a sentence for each kind of inputs."""
    return tuple(
        f"{kind}: noticed after {_queries(found[_ALONE])}; as a tenth of an account's after {_queries(found[_HIDDEN])}"
        for kind, found in _by_kind(power).items()
    )


def power_cautions(power: Power | None) -> tuple[str, ...]:
    """What a calibration cannot notice, or only late, a sentence each, and how many rows would change it."""
    if power is None:
        return ("what this calibration can notice was never measured; protect the model again",)
    found = _by_kind(power)
    told = []
    for each in power.needed:
        alone = each.share == _ALONE
        how = "even alone" if alone else "as a tenth of an account's queries"
        said = f"{each.kind}, {how}: noticed after {_queries(found[each.kind][each.share])}"
        within = PATIENCE_QUERIES if alone else WANTED_QUERIES
        if each.calibration is None:
            told.append(f"{said}; {_no_number(power)} makes that {within}; what limits such thieves is [budget]")
        else:
            told.append(
                f"{said}; about {each.calibration} calibration {power.counted} would make that {within}, with "
                f"{each.reference} rows for comparison where there are {sum(power.reference)}"
            )
    return tuple(told)


def _no_number(power: Power) -> str:
    """Which rows would not help: none at all, or where rows still teach the screens, none as these see inputs now."""
    if power.fitted >= FIT_ROWS:
        return "no number of rows"
    return (
        f"as these screens see them no number of rows (more rows teach the screens, fitted to {power.fitted} now and "
        f"{FIT_ROWS} at most, to see better: only trying tells)"
    )


def _by_kind(power: Power) -> dict[str, dict[float, int | None]]:
    kinds: dict[str, dict[float, int | None]] = {}
    for each in power.noticed:
        kinds.setdefault(each.kind, {})[each.share] = each.queries
    return kinds


def _queries(count: int | None) -> str:
    return f"more than {PATIENCE_QUERIES} queries, if ever" if count is None else f"{count} queries"
