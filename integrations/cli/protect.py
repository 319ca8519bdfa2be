"""``medward protect``: from a trained model and benign data to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medward.guard.answering import RADIUS_UNITS
from medward.guard.errors import MedwardError
from medward.integrations.cli.benign import print_notes, print_noticed
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
    SplitOption,
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


def protect_command(
    model: Annotated[
        str,
        typer.Argument(
            help="model.onnx, a Hugging Face or MONAI folder, or package.module:attribute of a model or function"
        ),
    ],
    data: Annotated[
        Path, typer.Option(help="npz, folder, CSV or Parquet of benign inputs the model was not trained on")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the bundle")],
    on_error: Annotated[
        Literal["withhold", "flag"] | None,
        typer.Option(help="when a defense fails (no default; or use --policy)"),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="policy.toml; default: our defaults with --on-error")] = None,
    split: SplitOption = None,
    name: Annotated[str, typer.Option(help="the model's name, also in its URL")] = "model",
    modality: Annotated[Literal["image", "tabular"] | None, typer.Option(help="default: by the inputs' shape")] = None,
    task: TaskOption = None,
    classes: ClassesOption = None,
    output: OutputOption = None,
    threshold: ThresholdOption = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="choose the operating point that reaches this on the labelled benign rows")
    ] = None,
    tolerance: ToleranceOption = None,
    cut_points: CutPointsOption = None,
    unit: Annotated[str, typer.Option(help="regression: the number's unit")] = "",
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
    integer: Annotated[str | None, typer.Option(help="columns of a table that stay whole numbers under attack")] = None,
    immutable: Annotated[str | None, typer.Option(help="columns of a table that nobody can change")] = None,
    features: Annotated[str | None, typer.Option(help="torch layer or ONNX output that monitors watch")] = None,
    output_key: OutputKeyOption = None,
    processor: ProcessorOption = None,
    allow_code: TrustCode = False,
    certificate: Annotated[
        Path | None, typer.Option(help="of medward harden, for this very file; default: certificate.json beside it")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an existing bundle")] = False,
) -> None:
    """Wrap a trained model and calibrate its guard on benign data: MODEL + data -> bundle."""
    from medward.guard.bundle.make import protect as build
    from medward.guard.data.objects import benign_split
    from medward.guard.data.reading import Reading
    from medward.guard.models.sources import open_source
    from medward.guard.policy import Policy

    if policy is not None and on_error is not None:
        raise MedwardError("give --policy or --on-error, not both")
    if policy is not None:
        chosen = Policy.load(policy)
    elif on_error is not None:
        chosen = Policy(on_error=on_error)
    else:
        raise MedwardError("on_error must be chosen: --on-error withhold, or --on-error flag, or a --policy file")
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
        bundle = build(
            source.model,
            benign_split(splits, split, data),
            chosen,
            out,
            name=name,
            modality=modality,
            task=task,
            classes=comma_parts(classes) or source.classes,
            output=output,
            threshold=parsed_threshold(threshold),
            sensitivity=sensitivity,
            tolerance=tolerance,
            cut_points=parsed_numbers("--cut-points", cut_points),
            unit=unit,
            low=source.low,
            high=source.high,
            layout=layout,
            bits=bits,
            prepare=source.prepare,
            target=target,
            patient=patient,
            integer=comma_parts(integer) or (),
            immutable=comma_parts(immutable) or (),
            features=features,
            output_key=output_key,
            certificate=certificate,
            seed=seed,
            overwrite=overwrite,
        )
    _describe(bundle, out)
    _note_trained_rows(splits, benign_split(splits, split, data), bundle.card.spec)


def _note_trained_rows(splits: dict[str, Any], benign: Any, spec: Any) -> None:
    """Say which calibration rows are also in train, where the file has one; the bounds need unseen ones."""
    from medward.guard.data.overlap import measure_overlap
    from medward.guard.data.split import conformed_split

    if "train" not in splits or splits["train"] is benign:
        return
    shared = measure_overlap(conformed_split(splits["train"], spec), conformed_split(benign, spec))
    if said := shared.sentence("train", "the calibration data"):
        console.print(f"note: {said}; the bounds need rows that the model was not trained on", markup=False)


def _describe(bundle: Any, out: Path) -> None:
    """Say what was written, what it guarantees, what it notices, and what the calibration set was too small for."""
    policy = bundle.policy
    console.print(f"bundle: {out}  digest {bundle.digest}", markup=False)
    console.print(f"{bundle.model.spec.name}: {bundle.model.spec.rule}", markup=False)
    console.print(f"{len(bundle.profile.reference)} benign rows as reference")
    for rung in policy.monitor.ladder:
        console.print(
            f"P(ever {rung.action} a benign account) <= {rung.false_alarm:g} + {policy.monitor.calibration_risk:g}"
        )
    print_noticed(bundle.card.power)
    if (held := bundle.card.certified) is not None:
        unit = RADIUS_UNITS[bundle.card.spec.modality]
        console.print(f"certified at {held.radius:g} {unit}: {held.certified} of {held.rows} calibration rows")
    _tell_prices(bundle)
    print_notes(bundle)


def _tell_prices(bundle: Any) -> None:
    """Say what a report and its findings cost a budget; of other models a label is log2 of their number."""
    import numpy as np

    from medward.guard.accounts.budget import price_words
    from medward.guard.tasks.base import ReleaseSettings
    from medward.guard.tasks.report import WrittenReport
    from medward.guard.types import Level

    task = bundle.card.spec.task
    if isinstance(task, WrittenReport):
        text, findings = (
            price_words(task.bits(np.zeros((1, len(task.findings))), level, ReleaseSettings()))
            for level in (Level.FULL, Level.LABEL)
        )
        console.print(f"[budget]: a report costs {text} bits, its findings alone {findings}", markup=False)
