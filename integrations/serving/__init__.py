"""The guarded endpoint over HTTP (FastAPI). `create_app` builds it around a Guard; `serve_bundle` runs a bundle."""

from medward.integrations.serving.app import create_app
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.run import load_app, serve_bundle

__all__ = ["Limits", "create_app", "load_app", "serve_bundle"]
