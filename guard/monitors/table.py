"""The table of monitors: everything that watches accounts, and nothing else knows a monitor by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from medward.guard.monitors.base import Monitor
from medward.guard.monitors.boundary_probing import PROBING
from medward.guard.monitors.coverage import COVERAGE
from medward.guard.monitors.kernel_features import EMBEDDING
from medward.guard.monitors.noise_residuals import SHARED
from medward.guard.monitors.strangeness import STRANGE

MONITORS: tuple[Monitor, ...] = (
    STRANGE,
    SHARED,
    EMBEDDING,
    COVERAGE,
    PROBING,
)
"""One row each. A row that is added takes its share from all others, and every calibration begins anew."""


def calibration_shares() -> Mapping[str, float]:
    """How the capital and the calibration risk are divided, by monitor; a missing one leaves capital to the others."""
    total = math.fsum(monitor.share for monitor in MONITORS)
    return {monitor.name: monitor.share / total for monitor in MONITORS}


def fitting_monitors() -> Iterator[Monitor]:
    """The first monitor of each source: it fits and reads what those of the source share."""
    seen: set[str] = set()
    for monitor in MONITORS:
        if monitor.source not in seen:
            seen.add(monitor.source)
            yield monitor
