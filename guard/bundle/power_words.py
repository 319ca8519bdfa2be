"""What a calibration notices and what not, in sentences: on the console, in reports and at ``/readyz``."""

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
    never = [kind for kind, queries in found.items() if queries[_ALONE] is None]
    told = [_never(never, power)] if never else []
    for each in power.needed:
        late = f"{each.kind}, as a tenth of an account's queries: noticed after {_queries(found[each.kind][_HIDDEN])}"
        if each.calibration is None:
            told.append(f"{late}; no number of rows makes that {WANTED_QUERIES}, what limits such thieves is [budget]")
        else:
            told.append(
                f"{late}; about {each.calibration} calibration {power.counted} would make that {WANTED_QUERIES}, with "
                f"{each.reference} rows for comparison where there are {sum(power.reference)}"
            )
    return tuple(told)


def _never(kinds: list[str], power: Power) -> str:
    """That `kinds` are not noticed even alone, and whether rows would help."""
    change = "no number of rows changes"
    if power.fitted < FIT_ROWS:
        change = (
            "more rows for comparison do not change (they teach the screens too, which may: these were fitted to "
            f"{power.fitted} rows, {FIT_ROWS} are the most)"
        )
    return (
        f"{' and '.join(kinds)}: not noticed within {PATIENCE_QUERIES} queries even alone; they look too ordinary to "
        f"these screens, which {change}; what limits such thieves is [budget]"
    )


def _by_kind(power: Power) -> dict[str, dict[float, int | None]]:
    kinds: dict[str, dict[float, int | None]] = {}
    for each in power.noticed:
        kinds.setdefault(each.kind, {})[each.share] = each.queries
    return kinds


def _queries(count: int | None) -> str:
    return f"more than {PATIENCE_QUERIES} queries, if ever" if count is None else f"{count} queries"
