"""``medward deidentify``: a folder of DICOM and image files without identifiers, and a report of what was removed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medward.integrations.cli.options import console


def deidentify_command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="DICOM, PNG and JPEG files, at any depth; only read")
    ],
    out: Annotated[Path, typer.Option(help="where the de-identified files and the report go; a killed run goes on")],
    key: Annotated[
        Path,
        typer.Option(
            help="the secret of the pseudonyms: made where there is none, kept apart from --out; the same key gives "
            "the same patient the same pseudonym"
        ),
    ],
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="read text in all pixels, not only where there are strokes; slower")
    ] = False,
) -> int:
    """Take identifiers out of headers and pixels. Exits 0 when every file was written, 1 when some were refused."""
    from medward.guard.intake.deidentify.any_file import check_libraries
    from medward.guard.intake.deidentify.cleaner import Deidentification
    from medward.guard.intake.deidentify.pseudonyms import Pseudonyms, read_key, read_or_make_key
    from medward.integrations.deidentification.folder import (
        FolderRun,
        check_apart,
        check_key_file,
        check_out,
        followed,
        source_files,
    )
    from medward.integrations.deidentification.report import write_report

    check_apart(folder, out, key)
    check_libraries()
    paths = source_files(folder)
    check_key_file(key)
    check_out(out, key, Pseudonyms(read_key(key)) if key.exists() else None)
    how = Deidentification(pseudonyms=Pseudonyms(read_or_make_key(key)), everywhere=everywhere)
    run = FolderRun(source=folder, out=out, key=key, how=how)
    bar = (TextColumn("de-identified"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, console=console) as progress:
        task = progress.add_task("files", total=len(paths))
        outcomes = followed(run.outcomes(paths), lambda: progress.advance(task))
    earlier = run.remove_earlier(outcomes)
    write_report(out, outcomes, earlier)
    listed = run.keep_source_list(paths, outcomes)
    refused = sum(bool(each.refused) for each in outcomes)
    console.print(
        f"{len(outcomes) - refused} of {len(outcomes)} files written to {out}, {refused} refused"
        f"{f', {earlier.removed} of earlier runs removed' if earlier.removed else ''}; read "
        f"{out / 'report.md'}; {listed} says which number is which source, keep it with the key",
        markup=False,
    )
    return 1 if refused else 0
