"""Medward guards deployed medical models, and proves by attack that the guard works.

What most users need has its address here. Importing it loads nothing heavy: each name is imported when it is first
asked for, so that a serving host never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medward.attacks.validate import validate as validate
    from medward.attacks.validate_writer import validate_writer as validate_writer
    from medward.guard.alarm import Alarm as Alarm
    from medward.guard.bundle.folder import Bundle as Bundle
    from medward.guard.bundle.folder import load_bundle as load
    from medward.guard.bundle.make import protect as protect
    from medward.guard.columns import Column as Column
    from medward.guard.data.reading import Reading as Reading
    from medward.guard.data.reading import read_data as read_data
    from medward.guard.data.split import Split as Split
    from medward.guard.errors import MedwardError as MedwardError
    from medward.guard.harden.folder import harden as harden
    from medward.guard.harden.private.method import PrivateTraining as PrivateTraining
    from medward.guard.pipeline import Guard as Guard
    from medward.guard.policy import Policy as Policy
    from medward.guard.preparation import Preparation as Preparation
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
    "Column": "guard.columns.Column",
    "Guard": "guard.pipeline.Guard",
    "GuardMiddleware": "integrations.asgi.GuardMiddleware",
    "KeyStore": "integrations.serving.keys.KeyStore",
    "MedwardError": "guard.errors.MedwardError",
    "Policy": "guard.policy.Policy",
    "Preparation": "guard.preparation.Preparation",
    "PrivateTraining": "guard.harden.private.method.PrivateTraining",
    "Query": "guard.types.Query",
    "Reading": "guard.data.reading.Reading",
    "Split": "guard.data.split.Split",
    "asking_as": "integrations.asking.asking_as",
    "current_principal": "integrations.asking.current_principal",
    "guarded": "integrations.asking.guarded",
    "harden": "guard.harden.folder.harden",
    "load": "guard.bundle.folder.load_bundle",
    "protect": "guard.bundle.make.protect",
    "read_data": "guard.data.reading.read_data",
    "validate": "attacks.validate.validate",
    "validate_writer": "attacks.validate_writer.validate_writer",
}
"""Every public name, and where it is defined."""
__all__ = [
    "Alarm",
    "Answer",
    "Bundle",
    "Column",
    "Guard",
    "GuardMiddleware",
    "KeyStore",
    "MedwardError",
    "Policy",
    "Preparation",
    "PrivateTraining",
    "Query",
    "Reading",
    "Split",
    "asking_as",
    "current_principal",
    "guarded",
    "harden",
    "load",
    "protect",
    "read_data",
    "validate",
    "validate_writer",
]


def __getattr__(name: str) -> Any:
    """Import the public name `name`."""
    if name not in _HOMES:
        raise AttributeError(f"module 'medward' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = _HOMES[name].rpartition(".")
    return getattr(importlib.import_module(f"medward.{module}"), attribute)


def __dir__() -> list[str]:
    return __all__
