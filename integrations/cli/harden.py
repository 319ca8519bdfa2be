"""``medward harden``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.lines import printed_log
from medward.integrations.cli.options import (
    Bits,
    ClassesOption,
    CutPointsOption,
    HighOption,
    LowOption,
    OutputOption,
    Pixels,
    TaskOption,
    ThresholdOption,
    ToleranceOption,
    comma_parts,
    console,
    parsed_numbers,
    parsed_threshold,
    see_working_directory,
)


def harden_command(
    model: Annotated[str, typer.Argument(help="package.module:attribute of a trained torch module")],
    data: Annotated[Path, typer.Option(help='npz with labelled "train" rows; "selection" or "val" choose the epoch')],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the hardened model")],
    method: Annotated[
        str,
        typer.Option(
            help="uat: shared changes; pgd, trades: any change; retraining: to compare with (a wrong name lists all)"
        ),
    ] = "uat",
    epsilon: Annotated[
        str | None,
        typer.Option(help="radius, as 0.04 or 10/255; images: input units, tables: standard deviations"),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(min=0.1, max=4.0, help="uat: train at so many radii; less costs less clean accuracy [1.4]"),
    ] = None,
    low: LowOption = None,
    high: HighOption = None,
    layout: Pixels = None,
    bits: Bits = None,
    task: TaskOption = None,
    classes: ClassesOption = None,
    output: OutputOption = None,
    threshold: ThresholdOption = None,
    tolerance: ToleranceOption = None,
    cut_points: CutPointsOption = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="default: the method's own")] = None,
    rate: Annotated[float | None, typer.Option(help="largest learning rate; default: the method's own")] = None,
    augment: Annotated[bool, typer.Option(help="shift, mirror and relight training images")] = True,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier result")] = False,
) -> None:
    """Train a copy of a torch model to withstand small changes: MODEL + labelled data -> hardened model."""
    from medward.guard.data.split import load_npz
    from medward.integrations.cli.harden_options import chosen_method, chosen_radius, run_hardening

    with printed_log(console, "medward.data"):
        splits = load_npz(data)
    size = chosen_radius(epsilon, splits, low, high)
    settings = chosen_method(
        method, epsilon=size, margin=margin, epochs=epochs, rate=rate, augment=augment, device=device
    )
    see_working_directory()
    run_hardening(
        model,
        splits,
        out,
        settings,
        low=low,
        high=high,
        layout=layout,
        bits=bits,
        task=task,
        classes=comma_parts(classes),
        output=output,
        threshold=parsed_threshold(threshold),
        tolerance=tolerance,
        cut_points=parsed_numbers("--cut-points", cut_points),
        seed=seed,
        overwrite=overwrite,
        console=console,
    )
