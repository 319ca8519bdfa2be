"""What several commands share: options, the console they print to, and how an option's text is read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 100)
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="the folder that `medward protect` wrote")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="let a callable bundle import its code")]
Expect = Annotated[str | None, typer.Option("--expect", help="the bundle digest you kept elsewhere")]
Pixels = Annotated[
    Literal["NHW", "NHWC", "NCHW"] | None,
    typer.Option(
        "--layout", help="image axes: rows, height, width, channels; default: as the array shows, else refused"
    ),
]
Bits = Annotated[
    int | None, typer.Option(min=8, max=16, help="of whole-number pixels: 12 for 0 to 4095; default: 8 for uint8")
]


def see_working_directory() -> None:
    """Let ``package.module:attribute`` name code in the current folder, as ``python -m`` does."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def comma_parts(listed: str | None) -> tuple[str, ...] | None:
    """A comma-separated option as its parts."""
    return None if listed is None else tuple(each.strip() for each in listed.split(","))
