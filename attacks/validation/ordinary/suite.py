"""The table of ordinary behaviours, in the order in which they are told."""

from __future__ import annotations

from medward.attacks.validation.ordinary.behaviour import Behaviour, Traffic
from medward.attacks.validation.ordinary.geometry import GEOMETRY
from medward.attacks.validation.ordinary.grey_values import GREY_VALUES
from medward.attacks.validation.ordinary.loops import LOOPS
from medward.attacks.validation.ordinary.overlays import OVERLAYS
from medward.attacks.validation.ordinary.phantoms import PHANTOMS
from medward.attacks.validation.ordinary.specialists import SPECIALISTS
from medward.attacks.validation.ordinary.table_values import TABLE_VALUES

BEHAVIOURS: tuple[Behaviour, ...] = (
    *LOOPS,
    *SPECIALISTS,
    *PHANTOMS,
    *OVERLAYS,
    *GEOMETRY,
    *GREY_VALUES,
    *TABLE_VALUES,
)


def suited_behaviours(traffic: Traffic) -> tuple[Behaviour, ...]:
    """Those that such traffic can show."""
    return tuple(each for each in BEHAVIOURS if each.suits(traffic))
