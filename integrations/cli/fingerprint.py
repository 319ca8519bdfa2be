"""``medward fingerprint``: inputs by which clones of a model can be told, without any change to the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.data_options import LabelsOption, PatientOption, TargetOption, read_with_progress
from medward.integrations.cli.lines import printed_log
from medward.integrations.cli.options import AllowCode, BundlePath, Expect, console, see_working_directory


def fingerprint_command(
    bundle: BundlePath,
    data: Annotated[
        Path,
        typer.Option(help='npz, folder or table with a labelled "train" split, as the model learned from, and others'),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="the fingerprint's file, a new .npz; keep it secret")],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="FUNCTION",
            help="package.module:function from inputs, labels and a seed to a model, trained as the bundle's was",
        ),
    ] = None,
    choosing: Annotated[int, typer.Option(min=2, help="independent models that choose inputs")] = 12,
    null: Annotated[int, typer.Option(min=1, help="further ones to compare with; p is at least 1 / (1 + null)")] = 19,
    inputs: Annotated[int, typer.Option(min=20, help="inputs for each way of theft")] = 120,
    candidates: Annotated[int, typer.Option(min=1, help="inputs to choose among")] = 12000,
    labels: LabelsOption = None,
    target: TargetOption = None,
    patient: PatientOption = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    allow_code: AllowCode = False,
    expect: Expect = None,
) -> None:
    """Choose inputs that clones decide as the model does and independent models do not; minutes of training."""
    from medward.attacks.ownership.compare import fingerprint_power
    from medward.attacks.ownership.fingerprint import FingerprintSettings
    from medward.attacks.ownership.fingerprint import fingerprint as make
    from medward.attacks.ownership.fingerprint_file import check_new_file, save_fingerprint
    from medward.guard.bundle.folder import load_bundle
    from medward.guard.bundle.site import bundle_reading
    from medward.guard.data.reading import Reading
    from medward.guard.models.callable_model import named_function

    check_new_file(out)
    if allow_code or recipe is not None:
        see_working_directory()
    settings = FingerprintSettings(choosing=choosing, null=null, inputs=inputs, candidates=candidates, seed=seed)
    with printed_log(console, "medward.data"), printed_log(console, "medward.ownership"):
        loaded = load_bundle(bundle, allow_code=allow_code, expect=expect)
        reading = bundle_reading(loaded, Reading(target=target, patient=patient, labels=labels))
        found = make(
            loaded,
            read_with_progress(data, reading),
            settings=settings,
            recipe=None if recipe is None else named_function("--recipe", recipe),
            progress=lambda words: console.print(words, markup=False),
        )
    digest = save_fingerprint(out, found)
    console.print(f"fingerprint: {out}  digest {digest[:12]}, of bundle {found.bundle[:12]}", markup=False)
    for line in fingerprint_power(found).power_sentences():
        console.print(line, markup=False)
    console.print("keep the file secret: who has it can train a clone to answer these inputs otherwise", markup=False)
