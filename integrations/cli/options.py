"""What several commands share: options, the console they print to, and how an option's text is read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from medward.guard.errors import MedwardError

TASK_WORDS = ("classification", "multilabel", "regression", "opaque", "report")
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="the folder that `medward protect` wrote")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="let a callable bundle import its code")]
Expect = Annotated[str | None, typer.Option("--expect", help="the bundle digest you kept elsewhere")]
Pixels = Annotated[
    Literal["NHW", "NHWC", "NCHW", "NLT", "NDHW", "NCDHW"] | None,
    typer.Option(
        "--layout",
        help="axes: rows, channels, depth, height, width, or leads by times; default: as the array shows, else refused",
    ),
]
Bits = Annotated[
    int | None, typer.Option(min=8, max=16, help="of whole-number pixels: 12 for 0 to 4095; default: 8 for uint8")
]

SplitOption = Annotated[
    str | None, typer.Option("--split", help="which split of the npz; default: calibration, val or data")
]
StateOption = Annotated[Path, typer.Option("--state", help="the serving host's state folder")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="MEDWARD_STORE",
        help="where accounts are kept: redis://host:6379/0, one for all replicas of a bundle; default: in --state",
    ),
]
LowOption = Annotated[
    float | None, typer.Option("--low", help="smallest value the model takes; of whole-number images what 0 is")
]
HighOption = Annotated[
    float | None, typer.Option("--high", help="largest value the model takes; of whole-number images what white is")
]
TaskOption = Annotated[
    str | None,
    typer.Option("--task", help="what the model answers, where it does not show: " + ", ".join(TASK_WORDS)),
]
ClassesOption = Annotated[
    str | None, typer.Option("--classes", help="names in score order, comma-separated: classes, findings, the quantity")
]
OutputOption = Annotated[
    Literal["logits", "probabilities"] | None, typer.Option("--output", help="what the scores are")
]
ThresholdOption = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        help="decided from this probability on: the second of two classes, or each finding; 0.1 or mass=0.1,cyst=0.3",
    ),
]
ToleranceOption = Annotated[
    float | None, typer.Option("--tolerance", help="regression: the smallest change of the number that matters")
]
CutPointsOption = Annotated[
    str | None, typer.Option("--cut-points", help="regression: where decisions change, comma-separated")
]


OutputKeyOption = Annotated[
    str | None, typer.Option("--output-key", help="of several outputs the one to take: its name, key or place from 0")
]
ProcessorOption = Annotated[
    Path | None,
    typer.Option("--processor", help="folder of a Hugging Face image processor; default: the one beside the model"),
]
TrustCode = Annotated[bool, typer.Option("--allow-code", help="let a MONAI bundle's configuration run code")]


def parsed_threshold(text: str | None) -> float | list[float] | dict[str, float] | None:
    """One operating point, several in order, or several by name: ``0.1``, ``0.1,0.3`` or ``mass=0.1,nodule=0.3``."""
    if text is None:
        return None
    parts = [each.strip() for each in text.split(",")]
    if any("=" in each for each in parts):
        named = [each.rpartition("=") for each in parts]
        return {name.strip(): _number("--threshold", value) for name, _, value in named}
    points = [_number("--threshold", each) for each in parts]
    return points[0] if len(points) == 1 else points


def parsed_numbers(option: str, text: str | None) -> tuple[float, ...]:
    """Comma-separated numbers."""
    return () if text is None else tuple(_number(option, each) for each in text.split(","))


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MedwardError(f"{option}: a number is needed, got {text.strip()!r}") from None


def see_working_directory() -> None:
    """Let ``package.module:attribute`` name code in the current folder, as ``python -m`` does."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def comma_parts(listed: str | None) -> tuple[str, ...] | None:
    """A comma-separated option as its parts."""
    return None if listed is None else tuple(each.strip() for each in listed.split(","))
