"""``medward advise``: what other settings of the policy would bring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.guard.errors import MedwardError
from medward.integrations.cli.data_options import LabelsOption, PatientOption, TargetOption, read_with_progress
from medward.integrations.cli.lines import alarms_expected, printed_log
from medward.integrations.cli.options import AllowCode, console, see_working_directory


def advise_command(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="the folder that `medward validate` wrote")],
    bundle: Annotated[Path | None, typer.Option(help="default: the bundle that the report was made of")] = None,
    data: Annotated[Path | None, typer.Option(help="default: the data that the report was made on")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for the runs; default: in the report's")
    ] = None,
    labels: LabelsOption = None,
    target: TargetOption = None,
    patient: PatientOption = None,
    allow_code: AllowCode = False,
) -> None:
    """Try settings of the policy against the rows that are not good: what each costs, and what is still reached."""
    from medward.attacks.advise import try_settings
    from medward.attacks.report.advised import print_settings
    from medward.attacks.report.comparison import load_report
    from medward.guard.bundle.folder import load_bundle
    from medward.guard.bundle.site import bundle_reading
    from medward.guard.data.reading import Reading

    read = load_report(report, "report")
    places = {"bundle": bundle, "data": data}
    for name, given in places.items():
        if given is None and name not in read.places:
            raise MedwardError(f"report: does not say where its {name} is; give --{name}")
    if allow_code or {"before", "decide"} & read.provenance.settings.keys():
        see_working_directory()
    with alarms_expected(), printed_log(console, "medward.data"):
        loaded = load_bundle(bundle or Path(read.places["bundle"]), allow_code=allow_code)
        reading = bundle_reading(loaded, Reading(target=target, patient=patient, labels=labels))
        rows = read_with_progress(data or Path(read.places["data"]), reading)
        tried = try_settings(loaded, rows, read, out or report / "advise")
    print_settings(tried, read, console)
