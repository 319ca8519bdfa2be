"""``medward validate``: attacks on a bundle, and what they show."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medward.integrations.cli.data_options import (
    LabelsOption,
    PatientOption,
    TargetOption,
    read_with_progress,
)
from medward.integrations.cli.lines import alarms_expected, printed_log
from medward.integrations.cli.options import (
    AllowCode,
    BundlePath,
    Expect,
    comma_parts,
    console,
    see_working_directory,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medward.attacks.validation.plan import RunAhead
    from medward.guard.data.split import Split


def validate_command(
    bundle: BundlePath,
    data: Annotated[
        Path,
        typer.Option(help='npz, folder or table with a "test" split; "train" and "holdout" add membership tests'),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the report; finished runs are kept there")],
    attacks: Annotated[
        str | None, typer.Option(help="comma-separated names; default: the standard suite (a wrong name lists all)")
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="the model before hardening, as medward harden wrote it: original.onnx"),
    ] = None,
    canaries: Annotated[
        Path | None, typer.Option(help="the made-up rows that were planted in training: canaries.npz")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="which rows a coin held out of training: membership.json")
    ] = None,
    output_key: Annotated[
        str | None, typer.Option("--output-key", help="of several outputs of --before the one to take")
    ] = None,
    decide: Annotated[
        str | None,
        typer.Option(metavar="FUNCTION", help="opaque models: package.module:function from outputs to decisions"),
    ] = None,
    traffic: Annotated[
        int | None,
        typer.Option(help="answers an account gets on its busiest ordinary day: proposes a budget"),
    ] = None,
    accounts: Annotated[int | None, typer.Option(help="accounts that an organisation has; goes with --traffic")] = None,
    labels: LabelsOption = None,
    target: TargetOption = None,
    patient: PatientOption = None,
    integer: Annotated[
        str | None,
        typer.Option(help="columns or places of a table that take whole numbers: age,3; besides the bundle's"),
    ] = None,
    immutable: Annotated[
        str | None,
        typer.Option(help="columns or places of a table that nobody can change: sex,2; besides the bundle's"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="a minute or two: fewer rows, the attacks that fit, wide intervals")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(metavar="OLD", help="an older report's folder: what changed, what must be tested again"),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="run attacks as tasks of Ray: of the cluster at RAY_ADDRESS, or here")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="run everything again")] = False,
    allow_code: AllowCode = False,
    expect: Expect = None,
) -> int:
    """Attack a bundle undefended, guarded and knowingly; write report.html, report.json and junit.xml."""
    from medward.attacks.report.comparison import compare_reports, load_report
    from medward.attacks.report.table import print_comparison, print_findings
    from medward.attacks.validate import validate
    from medward.guard.bundle.folder import load_bundle
    from medward.guard.bundle.site import bundle_reading
    from medward.guard.data.reading import Reading
    from medward.guard.models.callable_model import named_function

    if allow_code or before is not None or decide is not None:
        see_working_directory()
    older = None if against is None else load_report(against, "against")
    with alarms_expected(), printed_log(console, "medward.data"):
        loaded = load_bundle(bundle, allow_code=allow_code, expect=expect)
        reading = bundle_reading(loaded, Reading(target=target, patient=patient, labels=labels))
        splits = read_with_progress(data, reading)
        settings: dict[str, Any] = {
            "integer": comma_parts(integer) or (),
            "immutable": comma_parts(immutable) or (),
            "names": comma_parts(attacks),
            "before": before,
            "canaries": canaries,
            "manifest": manifest,
            "output_key": output_key,
            "decide": None if decide is None else named_function("--decide", decide),
            "traffic": traffic,
            "accounts": accounts,
            "seed": seed,
        }
        report = validate(
            loaded,
            splits,
            out,
            **settings,
            ahead=_ray_tasks(bundle, splits, settings, allow_code, expect) if ray else None,
            resume=not restart,
            quick=quick,
            against=older,
            data_path=data,
            options=_said_again(labels=labels, target=target, patient=patient, decide=decide, allow_code=allow_code),
        )
    print_findings(report, console)
    if older is not None:
        print_comparison(compare_reports(older, report), report, console)
    console.print(f"report: {out / 'report.html'}")
    return report.exit_code


def _ray_tasks(
    bundle: Path, splits: Mapping[str, Split], settings: Mapping[str, Any], allow_code: bool, expect: str | None
) -> RunAhead:
    from medward.integrations.ray_validation import RayTasks

    placed = {name: each.absolute() if isinstance(each, Path) else each for name, each in settings.items()}
    return RayTasks(bundle=bundle, splits=splits, settings=placed, allow_code=allow_code, expect=expect)


def _said_again(**said: object) -> str:
    """The options that the next command needs too, as it is typed; an option without a value is True."""
    words = []
    for name, value in said.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [] if not value else [option, str(value)]
    return shlex.join(words)
