"""Fields of settings that are options too: a flag, an environment variable, a line in a file, each within a range."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any

from medward.guard.errors import MedwardError


def option_field(default: Any, said: str, *, least: float = 1, most: float = float("inf")) -> Any:
    """A field of a dataclass with its help for the command line and the range of a number."""
    return field(default=default, metadata={"help": said, "least": least, "most": most})


def check_option_ranges(settings: Any, name: str) -> None:
    """Refuse a number of `settings`, a dataclass of `option_field`, that is out of its range; `name` is said first."""
    for option in fields(settings):
        value, least, most = getattr(settings, option.name), option.metadata["least"], option.metadata["most"]
        if isinstance(value, str):
            continue
        if not value >= least:
            raise MedwardError(f"{name}.{option.name} must be >= {least}, got {value}")
        if not value <= most:
            raise MedwardError(f"{name}.{option.name} must be <= {most}, got {value}")
