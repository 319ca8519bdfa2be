"""The guarded endpoint over HTTP (FastAPI). `create_app` builds it around a Guard; `serve_bundle` runs a bundle.

Each name is imported when it is first asked for, so that the command line can name the limits without FastAPI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medward.integrations.serving.app import create_app as create_app
    from medward.integrations.serving.limits import Limits as Limits
    from medward.integrations.serving.run import load_app as load_app
    from medward.integrations.serving.run import serve_bundle as serve_bundle

__all__ = ["Limits", "create_app", "load_app", "serve_bundle"]
_HOMES = {"Limits": "limits", "create_app": "app", "load_app": "run", "serve_bundle": "run"}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
