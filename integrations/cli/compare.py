"""``medward compare``: is a suspect made from a model's answers? Evidence by its fingerprint, never proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.guard.errors import MedwardError
from medward.integrations.cli.options import AllowCode, console, see_working_directory

EXIT_CODES = {"no evidence": 0, "evidence": 1, "clone or recipe": 2, "cannot tell": 2}
"""What the command exits with."""


def compare_command(
    fingerprint: Annotated[Path, typer.Argument(metavar="FINGERPRINT", help="the file of `medward fingerprint`")],
    suspect: Annotated[
        str | None,
        typer.Argument(
            metavar="SUSPECT",
            help="a model as protect takes it, a bundle, or answers: a CSV, an npz of labels, the folder of --inputs",
        ),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="write the inputs there, to ask a suspect elsewhere")
    ] = None,
    alpha: Annotated[float, typer.Option(help="the p-value up to which agreement is called evidence")] = 0.05,
    allow_code: AllowCode = False,
) -> int:
    """Compare a suspect's decisions with a model's: exit 1 for evidence, 0 for none, 2 where it cannot be told."""
    from medward.attacks.ownership.compare import compare
    from medward.attacks.ownership.fingerprint_file import load_fingerprint
    from medward.attacks.ownership.suspects import ANSWERS_FILE, suspect_answers, write_inputs

    if (suspect is None) == (inputs is None):
        raise MedwardError("compare: give a SUSPECT, or --inputs FOLDER to ask one elsewhere, and not both")
    found = load_fingerprint(fingerprint)
    if inputs is not None:
        write_inputs(found, inputs)
        console.print(
            f"{len(found)} inputs: {inputs}; fill in the labels in {inputs / ANSWERS_FILE}, then: "
            f"medward compare {fingerprint} {inputs}",
            markup=False,
        )
        return 0
    see_working_directory()
    told = compare(found, suspect_answers(found, str(suspect), allow_code=allow_code), alpha=alpha)
    for way in told.ways:
        console.print(way.sentence(), markup=False)
    for line in told.sentences():
        console.print(line, markup=False)
    return EXIT_CODES[told.judgement]
