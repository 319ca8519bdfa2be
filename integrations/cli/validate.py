"""``medward validate``: attacks on a bundle, and what they show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.guard.errors import MedwardError
from medward.integrations.cli.data_options import (
    LabelsOption,
    PatientOption,
    TargetOption,
    read_with_progress,
)
from medward.integrations.cli.lines import alarms_expected, printed_log
from medward.integrations.cli.options import AllowCode, BundlePath, Expect, comma_parts, console, see_working_directory


def validate_command(
    bundle: BundlePath,
    data: Annotated[
        Path, typer.Option(help='npz or folder with a "test" split; "train" and "holdout" add membership tests')
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the report; finished runs are kept there")],
    attacks: Annotated[
        str | None, typer.Option(help="comma-separated names; default: the standard suite (a wrong name lists all)")
    ] = None,
    undefended: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="the model before hardening, which evasion must fool: original.onnx"),
    ] = None,
    output_key: Annotated[
        str | None, typer.Option("--output-key", help="of several outputs of --undefended the one to take")
    ] = None,
    decide: Annotated[
        str | None,
        typer.Option(metavar="FUNCTION", help="opaque models: package.module:function from outputs to decisions"),
    ] = None,
    integer: Annotated[str | None, typer.Option(help="a table's features that take whole numbers: 0,3")] = None,
    immutable: Annotated[str | None, typer.Option(help="a table's features that nobody can change: 1,2")] = None,
    labels: LabelsOption = None,
    target: TargetOption = None,
    patient: PatientOption = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    restart: Annotated[bool, typer.Option("--restart", help="run everything again")] = False,
    allow_code: AllowCode = False,
    expect: Expect = None,
) -> int:
    """Attack a bundle undefended, guarded and knowingly; write report.html, report.json and junit.xml."""
    from medward.attacks.report.table import print_findings
    from medward.attacks.validate import validate
    from medward.attacks.whitebox.ball import FeatureRules
    from medward.guard.bundle.folder import load_bundle
    from medward.guard.data.reading import Reading, spec_reading
    from medward.guard.models.callable_model import named_function

    if allow_code or undefended is not None or decide is not None:
        see_working_directory()
    with alarms_expected(), printed_log(console, "medward.data"):
        loaded = load_bundle(bundle, allow_code=allow_code, expect=expect)
        reading = spec_reading(loaded.model.spec, Reading(target=target, patient=patient, labels=labels))
        report = validate(
            loaded,
            read_with_progress(data, reading),
            out,
            names=comma_parts(attacks),
            rules=FeatureRules(integer=_indices("integer", integer), immutable=_indices("immutable", immutable))
            if integer or immutable
            else None,
            undefended=undefended,
            output_key=output_key,
            decide=None if decide is None else named_function("--decide", decide),
            seed=seed,
            resume=not restart,
        )
    print_findings(report, console)
    console.print(f"report: {out / 'report.html'}")
    return report.exit_code


def _indices(option: str, text: str | None) -> tuple[int, ...]:
    """Feature numbers, counted from 0."""
    try:
        return tuple(int(each) for each in (text or "").split(",") if each.strip())
    except ValueError:
        raise MedwardError(f"--{option}: feature numbers such as 0,3 are needed, got {text!r}") from None
