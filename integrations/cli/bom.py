"""``medward bom``: a bundle's bill of materials, with what its validation measured and claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.options import console


def bom_command(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="the report's folder, or its report.json")],
    bundle: Annotated[Path | None, typer.Option(help="the bundle's folder, if not where the report says")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="the file; default: bom.cdx.json beside the report")
    ] = None,
) -> None:
    """Write a CycloneDX 1.7 bill: files, serving libraries, model card with intervals, claims and counter-evidence."""
    from medward.guard.files import write_durably
    from medward.integrations.evidence.material_bill import write_material_bill

    data = write_material_bill(report, bundle)
    path = out or (report if report.is_dir() else report.parent) / "bom.cdx.json"
    write_durably(path, data)
    console.print(f"bill of materials: {path}", markup=False)
