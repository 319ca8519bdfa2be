"""``medward calibrate``: a site's own calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.benign import print_notes
from medward.integrations.cli.lines import printed_log
from medward.integrations.cli.options import (
    AllowCode,
    BundlePath,
    Expect,
    PatientOption,
    SplitOption,
    TargetOption,
    console,
    see_working_directory,
)


def calibrate_command(
    bundle: BundlePath,
    data: Annotated[
        Path, typer.Argument(help="npz or table of benign inputs of that site, which the model was not trained on")
    ],
    site: Annotated[str, typer.Option(help="the organisation: the first level of its keys' principals")],
    split: SplitOption = None,
    target: TargetOption = None,
    patient: PatientOption = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    allow_code: AllowCode = False,
    expect: Expect = None,
) -> None:
    """Judge one organisation's inputs and accounts against its own benign data, and no longer the bundle's."""
    from medward.guard.bundle.site import calibrate_site as learn

    if allow_code:
        see_working_directory()
    with printed_log(console, "medward.data"):
        made = learn(
            bundle,
            data,
            site,
            split=split,
            target=target,
            patient=patient,
            seed=seed,
            allow_code=allow_code,
            expect=expect,
        )
    own, shared = made.sites[site].thresholds, made.profile.thresholds
    rows = made.card.sites[site].sizes["benign"]
    console.print(f"{site}: calibrated on {rows} benign rows, {own.n} of them as reference", markup=False)
    console.print(
        f"smallest tail it bounds: {own.levels[0]:g} of benign inputs; the bundle's own: {shared.levels[0]:g}"
    )
    if own.levels[0] > shared.levels[0]:
        console.print(
            "note: fewer rows bound only a larger tail: no more false alarms, but a thief is noticed later; "
            "add rows for a smaller one"
        )
    print_notes(made)
    console.print("alarms that stand are kept: `medward accounts reset` clears them, account by account")
    console.print(f"bundle: {bundle}  digest {made.digest}; restart servers of it", markup=False)
