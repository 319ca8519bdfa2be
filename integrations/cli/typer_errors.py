"""The error that Typer raises for a command line that it cannot read, by whichever name its version has for it."""

from __future__ import annotations

try:
    from typer.exceptions import TyperException
except ModuleNotFoundError:  # Typer before 0.29, which Flower holds on to, raises Click's
    from click import ClickException as TyperException  # type: ignore[assignment]

__all__ = ["TyperException"]
