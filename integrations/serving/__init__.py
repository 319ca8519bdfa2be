"""The guarded endpoint over HTTP (FastAPI). `create_app` builds it around a Guard; `serve` runs a bundle."""

from integrations.serving.app import create_app
from integrations.serving.limits import Limits
from integrations.serving.run import load_app, serve

__all__ = ["Limits", "create_app", "load_app", "serve"]
