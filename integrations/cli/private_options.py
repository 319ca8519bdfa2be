"""What ``medward harden --method dp`` is told, and the words of its result."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from medward.guard.certificate import CERTIFIED, ORIGINAL, PrivacyCertificate, certificate_sentence
from medward.guard.errors import MedwardError
from medward.integrations.cli.options import comma_parts

TargetEpsilonOption = Annotated[
    float | None, typer.Option("--target-epsilon", help="dp: most privacy to spend; 8 is usual, 1 is strong")
]
DeltaOption = Annotated[
    str | None,
    typer.Option("--delta", help="dp: chance that the bound does not hold [auto: by their number]"),
]
UnitOption = Annotated[
    Literal["patient", "row"] | None, typer.Option("--unit", help="dp: whose presence is hidden [patient]")
]
StartOption = Annotated[
    Literal["fresh", "pretrained"] | None,
    typer.Option("--start", help="dp: weights drawn anew, or yours if they never saw these rows [fresh]"),
]
PartOption = Annotated[
    Literal["all", "head", "lora"] | None, typer.Option("--part", help="dp: which weights are trained [all]")
]
ClipOption = Annotated[float | None, typer.Option("--clip", help="dp: most that one unit may pull [1]")]
BatchOption = Annotated[
    float | None, typer.Option("--batch", help="dp: units expected in a step; default: a quarter of all")
]
ClassPriorOption = Annotated[
    str | None,
    typer.Option("--class-prior", help="dp: shares of the classes as known from elsewhere: 0.7,0.3; counted; none"),
]
CanariesCountOption = Annotated[
    int | None, typer.Option("--canaries", min=1, help="dp: so many made-up rows for an audit; 1000 is usual")
]
CandidatesOption = Annotated[
    int | None, typer.Option("--candidates", min=1, help="dp: of so many rows a coin holds half out, for an audit")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="dp: go on with a training that was killed")]
_AUDIT = {"canaries": "canaries.npz", "manifest": "membership.json"}
"""Option of ``medward validate`` -> the file of a private training that it takes."""


def private_method(said: Mapping[str, object]) -> object:
    """The `PrivateTraining` that the options `said` ask for; those not said have the method's defaults."""
    from medward.guard.harden.private.method import PrivateTraining

    budget = said["target_epsilon"]
    if not isinstance(budget, float | int):
        raise MedwardError("--target-epsilon: say how much privacy may be spent on the patients; 8 is usual, 1 strong")
    fields = ("unit", "start", "part", "clip", "batch", "epochs", "rate", "device")
    given: dict[str, object] = {name: said[name] for name in fields if said.get(name) is not None}
    given["delta"] = parse_delta(said["delta"])
    if said["class_prior"] is not None:
        given["class_balance"] = parse_prior(str(said["class_prior"]))
    return PrivateTraining(target_epsilon=float(budget), **given)  # type: ignore[arg-type]


def parse_delta(text: object) -> float | None:
    """``"auto"``, or what was not said, as None; ``"1e-5"`` as a number."""
    if text is None or text == "auto":
        return None
    try:
        return float(str(text))
    except ValueError:
        raise MedwardError(f"--delta: expected auto or a number as 1e-5, got {text!r}") from None


def parse_prior(text: str) -> str | tuple[float, ...]:
    """``"counted"`` and ``"none"`` as they are, ``"0.7,0.3"`` as numbers."""
    if text in ("counted", "none"):
        return text
    try:
        return tuple(float(each) for each in comma_parts(text) or ())
    except ValueError:
        raise MedwardError(f"--class-prior: expected counted, none or shares as 0.7,0.3, got {text!r}") from None


def describe_privacy(
    certificate: PrivacyCertificate, again: Mapping[str, object], out: Path, console: Console, protect: str
) -> int:
    """What was spent and what it cost, warnings on stderr, and the commands to type next, as they must be typed.

    `again` are options about data by name, `protect` those of ``medward protect`` that say what the model answers.
    What is returned is the exit code: 1 where training collapsed, and nothing is to be typed next, else 0.
    """
    c = certificate
    console.print(certificate_sentence(c), markup=False)
    measured = ", ".join(f"{value:.3f} {name}" for name, value in c.measured.items())
    console.print(f"{c.measure}: {measured}; {c.trained} weights trained in {c.steps} steps", markup=False)
    for note in c.notes:
        sys.stderr.write(f"medward: warning: {note}\n")
    if tell_collapse(c.notes, out, console):
        return 1
    columns = {name: value for name, value in again.items() if name in ("target", "patient")}
    audit = {option: out / file for option, file in _AUDIT.items() if file in c.files}
    console.print("next, with benign rows that the model was not trained on:")
    benign = _options({"data": "BENIGN", "on-error": "withhold"})
    for command in (
        ["protect", str(out / CERTIFIED), *benign, *shlex.split(protect), *_options(columns), "-o", "bundle"],
        ["validate", "bundle", *_options({**again, "before": out / ORIGINAL, **audit}), "-o", "report"],
    ):
        console.print(f"  medward {shlex.join(command)}", markup=False, soft_wrap=True)
    return 0


def tell_collapse(notes: Sequence[str], out: Path, console: Console) -> bool:
    """Whether the `notes` of a certificate say that training collapsed; then a line says so of the folder `out`."""
    from medward.guard.harden.method import COLLAPSED

    collapsed = any(COLLAPSED in note for note in notes)
    if collapsed:
        console.print(f"collapsed: {out} is kept to be looked at, and is nothing to protect", markup=False)
    return collapsed


def _options(said: Mapping[str, object]) -> list[str]:
    """The words of options by name, without those that were not said."""
    return [word for name, value in said.items() if value is not None for word in (f"--{name}", str(value))]
