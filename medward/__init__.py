"""Medward guards deployed medical models, and proves by attack that the guard works.

What most users need has its address here. Importing it loads nothing heavy: each name is imported when it is first
asked for, so that a serving host never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medward.attacks.validate import validate as validate
    from medward.guard.alarm import Alarm as Alarm
    from medward.guard.bundle.folder import Bundle as Bundle
    from medward.guard.bundle.folder import load_bundle as load
    from medward.guard.bundle.make import protect as protect
    from medward.guard.data.split import Split as Split
    from medward.guard.errors import MedwardError as MedwardError
    from medward.guard.harden.folder import harden as harden
    from medward.guard.pipeline import Guard as Guard
    from medward.guard.policy import Policy as Policy
    from medward.guard.types import Answer as Answer
    from medward.guard.types import Query as Query
    from medward.integrations.asgi import GuardMiddleware as GuardMiddleware
    from medward.integrations.asking import asking_as as asking_as
    from medward.integrations.asking import current_principal as current_principal
    from medward.integrations.asking import guarded as guarded
    from medward.integrations.serving.keys import KeyStore as KeyStore

_HOMES = {
    "Alarm": "guard.alarm.Alarm",
    "Answer": "guard.types.Answer",
    "Bundle": "guard.bundle.folder.Bundle",
    "Guard": "guard.pipeline.Guard",
    "GuardMiddleware": "integrations.asgi.GuardMiddleware",
    "KeyStore": "integrations.serving.keys.KeyStore",
    "MedwardError": "guard.errors.MedwardError",
    "Policy": "guard.policy.Policy",
    "Query": "guard.types.Query",
    "Split": "guard.data.split.Split",
    "asking_as": "integrations.asking.asking_as",
    "current_principal": "integrations.asking.current_principal",
    "guarded": "integrations.asking.guarded",
    "harden": "guard.harden.folder.harden",
    "load": "guard.bundle.folder.load_bundle",
    "protect": "guard.bundle.make.protect",
    "validate": "attacks.validate.validate",
}
"""Every public name, and where it is defined."""
__all__ = [
    "Alarm",
    "Answer",
    "Bundle",
    "Guard",
    "GuardMiddleware",
    "KeyStore",
    "MedwardError",
    "Policy",
    "Query",
    "Split",
    "asking_as",
    "current_principal",
    "guarded",
    "harden",
    "load",
    "protect",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Import the public name `name`."""
    if name not in _HOMES:
        raise AttributeError(f"module 'medward' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = _HOMES[name].rpartition(".")
    return getattr(importlib.import_module(f"medward.{module}"), attribute)


def __dir__() -> list[str]:
    return __all__
