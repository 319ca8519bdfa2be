"""What every attack and every defense must do, as functions that a test of another package calls.

::

    from medward.integrations.contracts import check_monitor
    from medward_level import LEVEL

    def test_it_is_a_monitor():
        check_monitor(LEVEL, noticed=rows_with_the_event)

Each raises `MedwardError` with one sentence about what does not hold, and needs no test framework. Medward's own tests
call the same functions for its own attacks and defenses. Each is imported when it is first asked for, so that checking
a monitor loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medward.integrations.contracts.attack import check_attack as check_attack
    from medward.integrations.contracts.family import check_family as check_family
    from medward.integrations.contracts.hardener import check_hardener as check_hardener
    from medward.integrations.contracts.monitor import check_monitor as check_monitor
    from medward.integrations.contracts.screen import check_screen as check_screen

__all__ = ["check_attack", "check_family", "check_hardener", "check_monitor", "check_screen"]


def __getattr__(name: str) -> Any:
    """Import the contract that `name` checks."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{name.removeprefix('check_')}"), name)
