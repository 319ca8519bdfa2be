"""The table of monitors: everything that watches accounts, and nothing else knows a monitor by name.

Other packages add rows (`guard.plugins`). A profile says which of theirs took part in its calibration, and those alone,
with Medward's own, bet on accounts that it judges: installing a package changes no bundle that was made before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from medward.guard.errors import MedwardError
from medward.guard.monitors.base import ANSWER_MARKS, CONTENT_CODES, Monitor
from medward.guard.monitors.boundary_probing import PROBING
from medward.guard.monitors.coverage import COVERAGE
from medward.guard.monitors.kernel_features import EMBEDDING
from medward.guard.monitors.noise_residuals import SHARED
from medward.guard.monitors.strangeness import STRANGE, STRANGENESS
from medward.guard.plugins import Plugin, checked_plugins
from medward.guard.statistics.strata import STRATUM

MONITORS: tuple[Monitor, ...] = (
    STRANGE,
    SHARED,
    EMBEDDING,
    COVERAGE,
    PROBING,
)
"""One row each. A row that is added takes its share from all others, and every calibration begins anew."""


RESERVED_NAMES = (
    CONTENT_CODES,
    ANSWER_MARKS,
    STRANGENESS,
    STRATUM,
    "recent",
    "duplicates",
    "e-process",
    "contents",
    "codebook",
    "pools",
    "account",
)
"""Names in states, profiles and verdicts that no monitor may have."""


def plugin_monitors() -> tuple[Plugin, ...]:
    """The monitors of other packages that are installed. Raises `MedwardError` for one that cannot be used."""
    return checked_plugins("monitors", (*(each.name for each in MONITORS), *RESERVED_NAMES), _wrong)


def _wrong(value: object) -> str:
    """What keeps `value` from being a row of the table."""
    if not isinstance(value, Monitor):
        return f"is a {type(value).__name__} and not a Monitor (medward.guard.monitors.base)"
    if not 0 < value.share <= 1:
        return f"share must be above 0 and at most 1, got {value.share}"
    if value.source in {monitor.source for monitor in MONITORS}:
        return ""
    own = value.name, f"{value.name}."
    return "" if (value.source, value.prefix) == own else f"source and prefix must be {own[0]!r} and {own[1]!r}"


def monitors_with(plugins: Sequence[str] = ()) -> tuple[Monitor, ...]:
    """Medward's own monitors, and those called `plugins`. Raises `MedwardError` for one that is not installed."""
    if not plugins:
        return MONITORS
    known = {each.name: each.value for each in plugin_monitors()}
    if missing := [name for name in plugins if name not in known]:
        raise MedwardError(
            f"monitor {missing[0]!r}: no installed package has it; install the one it was calibrated with"
        )
    return (*MONITORS, *(known[name] for name in plugins))


def calibration_shares(plugins: Sequence[str] = ()) -> Mapping[str, float]:
    """How the capital and the calibration risk are divided, by monitor; a missing one leaves capital to the others."""
    monitors = monitors_with(plugins)
    total = math.fsum(monitor.share for monitor in monitors)
    return {monitor.name: monitor.share / total for monitor in monitors}


def fitting_monitors(plugins: Sequence[str] = ()) -> Iterator[Monitor]:
    """The first monitor of each source: it fits and reads what those of the source share."""
    seen: set[str] = set()
    for monitor in monitors_with(plugins):
        if monitor.source not in seen:
            seen.add(monitor.source)
            yield monitor
