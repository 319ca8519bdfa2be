"""What a calibration notices and what not, in sentences: on the console, in reports and in a server's notes."""

from __future__ import annotations

from medward.guard.bundle.invented_inputs import MISTAKES
from medward.guard.bundle.more_rows import PATIENCE_QUERIES, WANTED_QUERIES
from medward.guard.bundle.power import STOLEN_SHARES, NeededRows, Power
from medward.guard.profile import FIT_ROWS

_ALONE, _HIDDEN = STOLEN_SHARES


def power_words(power: Power) -> tuple[str, ...]:
    """What is noticed and when, a sentence for each kind of inputs."""
    behind = _behind_one_class(power)
    return tuple(
        f"{kind}: {_noticed(found[_ALONE])}; as a tenth of all queries {_noticed(found[_HIDDEN])}"
        + (f", and at worst, the others being of one class, {_noticed(behind[kind])}" if kind in behind else "")
        for kind, found in _by_kind(power).items()
    )


def power_cautions(power: Power | None) -> tuple[str, ...]:
    """What a calibration cannot notice, or only late, a few sentences each, and how many rows would change it."""
    if power is None:
        return ("what this calibration can notice was never measured; protect the model again",)
    found = _by_kind(power)
    late = [kind for kind, queries in _behind_one_class(power).items() if queries is None]
    unseen = [kind for kind in late if found[kind][_HIDDEN] is not None and kind not in MISTAKES]
    hidden = (
        f"A thief who hides {' or '.join(unseen)} among nine times as many patients of one class alone, the class that "
        f"serves best, is not noticed within {PATIENCE_QUERIES} queries: set [budget]",
    )
    return (hidden if unseen else ()) + tuple(
        f"{_who(each.kind, alone=each.share == _ALONE)} {_noticed(found[each.kind][each.share], verb='is ')}. "
        f"{_remedy(power, each)}"
        for each in power.needed
    )


def _who(kind: str, *, alone: bool) -> str:
    """Who sends inputs of a `kind`: a thief, or for a site's own mistakes nobody."""
    if kind in MISTAKES:
        return (
            f"{kind[0].upper()}{kind[1:]}, {'even if nothing else is sent' if alone else 'as a tenth of all queries'},"
        )
    if alone:
        return f"A thief who sends {kind} and nothing else"
    return f"A thief who hides {kind} among nine times as many patients"


def _remedy(power: Power, needed: NeededRows) -> str:
    """How many rows would notice it in time, or what else there is where none would."""
    within = PATIENCE_QUERIES if needed.share == _ALONE else WANTED_QUERIES
    if needed.calibration is not None:
        return (
            f"With about {needed.calibration} calibration {power.counted} ({needed.reference} rows for comparison, now "
            f"{sum(power.reference)}) that would be within {within} queries, by this draw of rows; the number may be "
            "off by a factor of two or more"
        )
    limit = "" if needed.kind in MISTAKES else "set [budget]"
    if power.fitted >= FIT_ROWS:
        return f"More calibration {power.counted} do not help{limit and f': {limit}'}"
    return (
        f"More comparison rows alone do not help; up to {FIT_ROWS} rows also train the screens ({power.fitted} now), "
        f"which may{limit and f'. Otherwise {limit}'}"
    )


def _by_kind(power: Power) -> dict[str, dict[float, int | None]]:
    kinds: dict[str, dict[float, int | None]] = {}
    for each in power.noticed:
        if each.cover == "all":
            kinds.setdefault(each.kind, {})[each.share] = each.queries
    return kinds


def _behind_one_class(power: Power) -> dict[str, int | None]:
    """Of each kind, after how many queries it is noticed behind one class."""
    return {each.kind: each.queries for each in power.noticed if each.cover == "one class"}


def _noticed(count: int | None, verb: str = "") -> str:
    return (
        f"{verb}not noticed within {PATIENCE_QUERIES} queries"
        if count is None
        else f"{verb}noticed after {count} queries"
    )
