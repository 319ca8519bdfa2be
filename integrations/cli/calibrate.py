"""``medward calibrate``: a site's own calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.benign import print_notes, print_noticed
from medward.integrations.cli.data_options import (
    LabelsOption,
    PatientOption,
    TargetOption,
    read_with_progress,
)
from medward.integrations.cli.lines import printed_log
from medward.integrations.cli.options import (
    AllowCode,
    BundlePath,
    Expect,
    SplitOption,
    console,
    see_working_directory,
)


def calibrate_command(
    bundle: BundlePath,
    data: Annotated[
        Path,
        typer.Argument(help="npz, folder or table of benign inputs of that site, unseen by the model in training"),
    ],
    site: Annotated[str, typer.Option(help="the organisation: the first level of its keys' principals")],
    split: SplitOption = None,
    labels: LabelsOption = None,
    target: TargetOption = None,
    patient: PatientOption = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    allow_code: AllowCode = False,
    expect: Expect = None,
) -> None:
    """Judge one organisation's inputs and accounts against its own benign data, and no longer the bundle's."""
    from medward.guard.bundle.folder import load_bundle
    from medward.guard.bundle.site import bundle_reading
    from medward.guard.bundle.site import calibrate_site as learn
    from medward.guard.data.reading import Reading

    if allow_code:
        see_working_directory()
    with printed_log(console, "medward.data"):
        loaded = load_bundle(bundle, allow_code=allow_code, expect=expect)
        reading = bundle_reading(loaded, Reading(target=target, patient=patient, labels=labels))
        benign = read_with_progress(data, reading)
        made = learn(bundle, benign, site, split=split, seed=seed, allow_code=allow_code, expect=expect)
    own, shared = len(made.sites[site].reference), len(made.profile.reference)
    rows = made.card.sites[site].sizes["benign"]
    console.print(
        f"{site}: calibrated on {rows} benign rows, {own} of them as reference; the bundle's own has {shared}",
        markup=False,
    )
    print_noticed(made.card.sites[site].power)
    if own < shared:
        console.print(
            "note: with fewer rows there are no more false alarms, but a thief is noticed later; add rows to "
            "notice it sooner"
        )
    print_notes(made)
    console.print("alarms that stand are kept: `medward accounts reset` clears them, account by account")
    console.print(f"bundle: {bundle}  digest {made.digest}; restart servers of it", markup=False)
