"""``medward harden``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medward.integrations.cli.data_options import (
    ChannelsOption,
    CropOption,
    FrameOption,
    LabelsOption,
    MeanOption,
    PatientOption,
    ResampleOption,
    ResizeOption,
    StdOption,
    TargetOption,
    WindowOption,
    parsed_preparation,
    read_with_progress,
)
from medward.integrations.cli.lines import printed_log
from medward.integrations.cli.options import (
    Bits,
    ClassesOption,
    CutPointsOption,
    HighOption,
    LowOption,
    OutputKeyOption,
    OutputOption,
    Pixels,
    ProcessorOption,
    TaskOption,
    ThresholdOption,
    ToleranceOption,
    TrustCode,
    comma_parts,
    console,
    parsed_numbers,
    parsed_threshold,
    see_working_directory,
)
from medward.integrations.cli.private_options import (
    BatchOption,
    CanariesCountOption,
    CandidatesOption,
    ClassPriorOption,
    ClipOption,
    DeltaOption,
    PartOption,
    ResumeOption,
    StartOption,
    TargetEpsilonOption,
    UnitOption,
    private_method,
)


def harden_command(
    model: Annotated[
        str,
        typer.Argument(
            help="package.module:attribute of a trained torch module, a Hugging Face or MONAI folder; for trees any"
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(help='npz, folder or table with labelled "train" rows; "selection" or "val" choose the epoch'),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the hardened model")],
    method: Annotated[
        str,
        typer.Option(
            help="uat: shared changes; pgd, trades: any change; certified: any, with bounds that prove it; dp: "
            "privacy; retraining: to compare with (a wrong name lists all)"
        ),
    ] = "uat",
    epsilon: Annotated[
        str | None,
        typer.Option(help="radius, as 0.04 or 10/255; images: input units, tables: standard deviations"),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=4.0, help="uat, certified: train at so many radii; less costs less clean accuracy [1.4, 2.5]"
        ),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            help="certified: train the model's own network, or in its place ours: small, wide, trees (tables) [own]"
        ),
    ] = None,
    target_epsilon: TargetEpsilonOption = None,
    delta: DeltaOption = None,
    unit: UnitOption = None,
    start: StartOption = None,
    part: PartOption = None,
    clip: ClipOption = None,
    batch: BatchOption = None,
    class_prior: ClassPriorOption = None,
    canaries: CanariesCountOption = None,
    candidates: CandidatesOption = None,
    resume: ResumeOption = False,
    low: LowOption = None,
    high: HighOption = None,
    layout: Pixels = None,
    bits: Bits = None,
    window: WindowOption = None,
    frame: FrameOption = None,
    resize: ResizeOption = None,
    resample: ResampleOption = None,
    crop: CropOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    channels: ChannelsOption = None,
    labels: LabelsOption = None,
    target: TargetOption = None,
    patient: PatientOption = None,
    task: TaskOption = None,
    classes: ClassesOption = None,
    output: OutputOption = None,
    threshold: ThresholdOption = None,
    tolerance: ToleranceOption = None,
    cut_points: CutPointsOption = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="default: the method's own")] = None,
    rate: Annotated[float | None, typer.Option(help="largest learning rate; default: the method's own")] = None,
    augment: Annotated[
        bool | None, typer.Option("--augment/--no-augment", help="shift, mirror and relight training images [augment]")
    ] = None,
    output_key: OutputKeyOption = None,
    processor: ProcessorOption = None,
    allow_code: TrustCode = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier result")] = False,
) -> int:
    """Train a copy of a torch model to withstand small changes, or to hide its patients: MODEL + data -> folder."""
    from medward.guard.data.reading import Reading
    from medward.guard.harden import PRIVATE
    from medward.guard.models.sources import open_source
    from medward.integrations.cli.harden_options import check_options, chosen_method, chosen_radius, run_hardening

    said = {
        "epsilon": epsilon,
        "margin": margin,
        "architecture": architecture,
        "augment": augment,
        "target_epsilon": target_epsilon,
        "delta": delta,
        "unit": unit,
        "start": start,
        "part": part,
        "clip": clip,
        "batch": batch,
        "class_prior": class_prior,
        "canaries": canaries,
        "candidates": candidates,
        "resume": resume or None,
    }
    check_options(method, said)
    see_working_directory()
    prepare = parsed_preparation(
        window=window, frame=frame, resize=resize, resample=resample, crop=crop, mean=mean, std=std
    )
    source = open_source(model, processor, low=low, high=high, prepare=prepare, allow_code=allow_code)
    reading = Reading(
        low=source.low,
        high=source.high,
        channels=source.file_channels(data) if channels is None else channels,
        bits=bits,
        prepare=source.prepare,
        target=target,
        patient=patient,
        labels=labels,
    )
    with printed_log(console, "medward.data"):
        splits = read_with_progress(data, reading)
    settings: Any
    if method == PRIVATE:
        settings = private_method({**said, "epochs": epochs, "rate": rate, "device": device})
        audit = {"canaries": canaries or 0, "candidates": candidates, "resume": resume}
    else:
        size = chosen_radius(epsilon, splits, source.low, source.high, method)
        settings = chosen_method(
            method,
            epsilon=size,
            margin=margin,
            architecture=architecture,
            epochs=epochs,
            rate=rate,
            augment=augment is not False,
            device=device,
            table=next(iter(splits.values())).inputs.ndim == 2,
        )
        audit = {}
    return run_hardening(
        source.model,
        splits,
        out,
        settings,
        again={"data": data, "labels": labels, "target": target, "patient": patient},
        **audit,
        low=source.low,
        high=source.high,
        layout=layout,
        bits=bits,
        prepare=source.prepare,
        task=task,
        classes=comma_parts(classes) or source.classes,
        output=output,
        threshold=parsed_threshold(threshold),
        tolerance=tolerance,
        cut_points=parsed_numbers("--cut-points", cut_points),
        output_key=output_key,
        seed=seed,
        overwrite=overwrite,
        console=console,
    )
