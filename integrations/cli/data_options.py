"""How data are read: the options that say it, alike for every command, and the reading they become."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medward.guard.errors import MedwardError
from medward.integrations.cli.options import parsed_numbers

if TYPE_CHECKING:
    from medward.guard.data.reading import Reading
    from medward.guard.data.split import Split
    from medward.guard.preparation import Preparation, Window

WindowOption = Annotated[
    str | None,
    typer.Option("--window", help="DICOM values: 40,400 (centre, width), file, pixels (all bits) or units (rescaled)"),
]
FrameOption = Annotated[int | None, typer.Option("--frame", min=1, help="of a DICOM file of several, from 1 on")]
ResizeOption = Annotated[str | None, typer.Option("--resize", metavar="HxW", help="resize images, as 224x224")]
ResampleOption = Annotated[
    Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] | None,
    typer.Option("--resample", help="the filter of --resize [bilinear]"),
]
CropOption = Annotated[str | None, typer.Option("--crop", metavar="HxW", help="then cut out the centre, as 224x224")]
MeanOption = Annotated[
    str | None, typer.Option("--mean", help="subtracted inside the model, per channel: 0.485,0.456,0.406")
]
StdOption = Annotated[str | None, typer.Option("--std", help="divided by inside the model, per channel")]
ChannelsOption = Annotated[int | None, typer.Option("--channels", help="of image files: 1 for grey, 3 for colour")]
LabelsOption = Annotated[
    Path | None, typer.Option("--labels", help="CSV of labels for a folder of files, with a column file")
]
TargetOption = Annotated[
    str | None, typer.Option("--target", help="column of what is right, or columns of findings, comma-separated")
]
PatientOption = Annotated[str | None, typer.Option("--patient", help="column of whose a row is")]


def parsed_preparation(
    *,
    window: str | None,
    frame: int | None,
    resize: str | None,
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] | None,
    crop: str | None,
    mean: str | None,
    std: str | None,
) -> Preparation:
    """What was said of how files become inputs."""
    from medward.guard.preparation import Preparation

    if resample is not None and resize is None:
        raise MedwardError(f"--resample: {resample} is the filter of --resize; say --resize HxW too")
    return Preparation(
        window=_window(window),
        frame=frame,
        resize=_height_width("--resize", resize),
        resample=resample or "bilinear",
        crop=_height_width("--crop", crop),
        mean=parsed_numbers("--mean", mean),
        std=parsed_numbers("--std", std),
    )


def read_with_progress(data: Path, reading: Reading) -> dict[str, Split]:
    """Read `data`, with a bar on stderr while many files are read, if a person looks on."""
    from rich.console import Console
    from rich.progress import Progress

    from medward.guard.data.reading import read_data

    if not sys.stderr.isatty():
        return read_data(data, reading)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        return read_data(data, reading, lambda done, total: bar.update(task, completed=done, total=total))


def _window(text: str | None) -> Window | None:
    """``40,400`` as centre and width, or one of the words."""
    if text is None or text in ("file", "pixels", "units"):
        return text  # type: ignore[return-value]
    numbers = parsed_numbers("--window", text)
    if len(numbers) != 2:
        raise MedwardError(f"--window: needs 40,400 (centre, width), file, pixels or units, got {text!r}")
    return numbers[0], numbers[1]


def _height_width(option: str, text: str | None) -> tuple[int, int] | None:
    """``224x256`` as height and width."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.strip().isdecimal() and width.strip().isdecimal()):
        raise MedwardError(f"{option}: needs height x width, as 224x224, got {text!r}")
    return int(height), int(width)
