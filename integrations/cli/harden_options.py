"""``medward harden``: from the words of a command line to a method, and from its progress to lines on the screen."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console

from medward.guard.certificate import EMPIRICAL, ORIGINAL, PER_ANSWER, Guarantee
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden import (
    PRIVATE,
    AnyCertificate,
    Hardener,
    PrivacyCertificate,
    RobustnessCertificate,
    known_hardeners,
)
from medward.guard.harden.certified.architecture import known_architecture
from medward.guard.harden.certified.training import CertifiedTraining
from medward.guard.harden.folder import harden
from medward.guard.harden.method import PERTURBATION_WORDS, RANDOM_CHANGE_WORDS
from medward.guard.harden.result_folder import MODEL
from medward.guard.harden.robust.universal import UniversalTraining
from medward.guard.harden.trees.method import TREE_ARCHITECTURE, CertifiedTrees
from medward.guard.spec import AnyTask
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.regression import Regression
from medward.integrations.cli.lines import printed_log
from medward.integrations.cli.private_options import describe_privacy, tell_collapse

_ROBUST = {
    "epsilon": "is the radius of a change",
    "margin": "is a radius of uat and certified",
    "architecture": "is of certified",
    "augment": "is of robust methods",
}
"""Options of methods against changes, and what each is."""
_WORTH: dict[Guarantee, str] = {
    EMPIRICAL: "estimates by the defense itself",
    PER_ANSWER: "how many these are, and all else, is estimated by the defense itself",
}


def check_options(method: str, said: Mapping[str, object]) -> None:
    """Refuse a `method` that there is not, and what was `said` (not None) that does not fit it, in one sentence."""
    known = (*known_hardeners(), PRIVATE)
    if method not in known:
        raise MedwardError(f"--method: there is no {method!r}; there are {', '.join(known)}")
    for name, value in said.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or (name in _ROBUST) == (method != PRIVATE):
            continue
        if method == PRIVATE:
            remedy = "say --target-epsilon" if name == "epsilon" else "leave it out"
            raise MedwardError(f"{option}: {_ROBUST[name]}, and {PRIVATE} hides patients; {remedy}")
        raise MedwardError(f"{option}: is an option of --method {PRIVATE}, not of {method}; leave it out")


def chosen_method(
    method: str,
    *,
    epsilon: float,
    margin: float | None,
    architecture: str | None,
    epochs: int | None,
    rate: float | None,
    augment: bool,
    device: str,
    table: bool = False,
) -> Hardener | CertifiedTrees:
    """The method called `method` with what was said about it; of a `table` with its usual settings there."""
    hardener = known_hardeners()[method]
    hardener = hardener.for_tables() if table else hardener
    if architecture == TREE_ARCHITECTURE and isinstance(hardener, CertifiedTraining):
        if rate is not None or not augment:
            raise MedwardError(
                f"--rate, --no-augment: are of networks, not of --architecture {TREE_ARCHITECTURE}; leave them out"
            )
        trees = CertifiedTrees(epsilon=epsilon)
        boosting = trees.boosting if epochs is None else replace(trees.boosting, rounds=epochs)
        return replace(trees, margin=trees.margin if margin is None else margin, boosting=boosting)
    if margin is not None:
        if not isinstance(hardener, UniversalTraining | CertifiedTraining):
            raise MedwardError(
                f"--margin: only uat and certified train at more than their radius, not {method}; leave it out"
            )
        hardener = replace(hardener, margin=margin)
    if architecture is not None:
        if not isinstance(hardener, CertifiedTraining):
            raise MedwardError(f"--architecture: only certified brings networks of its own, not {method}; leave it out")
        hardener = replace(hardener, architecture=known_architecture(architecture))
    training = replace(hardener.training, device=device)
    if epochs is not None:
        training = replace(training, epochs=epochs)
    if rate is not None:
        training = replace(training, rate=rate)
    if not augment:
        training = replace(training, augment=None)
    return replace(hardener, epsilon=epsilon, training=training)


def chosen_radius(
    text: str | None, splits: Mapping[str, Split], low: float | None, high: float | None, method: str
) -> float:
    """What was said, else the usual radius of `method`.

    Raises `MedwardError` for images whose range was not said, for a radius of more than half of it, and for one of
    less than half a grey level of 255.
    """
    if next(iter(splits.values())).inputs.ndim == 2:
        return known_hardeners()[method].for_tables().epsilon if text is None else parse_number(text)
    if low is None or high is None:
        raise MedwardError(
            "--low and --high: say the range of the images, as --low 0 --high 1; a radius is a share of it"
        )
    if not low < high:
        raise MedwardError(f"--low must be below --high, got {low:g} and {high:g}")
    size = known_hardeners()[method].epsilon * (high - low) if text is None else parse_number(text)
    if size > (high - low) / 2:
        raise MedwardError(f"--epsilon: {size:g} is more than half of the range {low:g} to {high:g}; 10/255 is usual")
    if 0 < size < (grey := (high - low) / 255) / 2:
        raise MedwardError(
            f"--epsilon: {size:.3g} is next to nothing in the range {low:g} to {high:g}, a grey level is {grey:.3g}; "
            f"it is in input units: what 10/255 is to a range of 1 is {10 * grey:.3g} here"
        )
    return size


def parse_number(text: str) -> float:
    """``"0.04"`` or ``"10/255"`` as a number."""
    try:
        return float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise MedwardError(f"epsilon: expected a number or a fraction as 10/255, got {text!r}") from None


def run_hardening(
    model: object,
    splits: Mapping[str, Split],
    out: Path,
    method: Hardener | CertifiedTrees,
    *,
    again: Mapping[str, object],
    console: Console,
    **settings: Any,
) -> int:
    """Harden with the `settings` of `guard.harden.folder.harden`, with a line per epoch, and say what came of it.

    `again` are the options about data that the next commands need too, by name. What is returned is the exit code.
    """
    with printed_log(console, "medward.data"), printed_log(console, "medward.harden"):
        certificate, chosen_on = harden(model, splits, out, method, **settings)
    console.print(chosen_on, markup=False)
    if isinstance(certificate, PrivacyCertificate):
        return describe_privacy(certificate, again, out, console, protect_options(certificate))
    return describe_certificate(certificate, out, console)


def describe_certificate(certificate: RobustnessCertificate, out: Path, console: Console) -> int:
    """Accuracies before and after, what they are worth, and what to do next; warnings go to stderr.

    What is returned is the exit code: 1 where training collapsed, else 0.
    """
    c = certificate
    kept = f"{c.epochs} rounds" if c.best_epoch is None else f"epoch {c.best_epoch} of {c.epochs} kept"
    console.print(f"{c.method}, radius {c.epsilon:.4g} {c.unit}, {kept}; {c.measure}{_operated_at(c.task)}:")
    words = RANDOM_CHANGE_WORDS if c.changes == "random" else PERTURBATION_WORDS
    for key, what in (("clean", "clean"), *words.items()):
        before, after = getattr(c.before, key, None), getattr(c.after, key)
        if after is not None:
            console.print(f"  {what:<24} {_changed_from(before)}{after:.3f}")
    for each in c.certified_shares:
        console.print(f"  decisions certified within {each.radius:.4g}: {_changed_from(each.before)}{each.after:.3f}")
    for note in c.notes:
        sys.stderr.write(f"medward: warning: {note}\n")
    if tell_collapse(c.notes, out, console):
        return 1
    options = protect_options(c)
    said = f" with {options}" if options else ""
    console.print(
        f"{c.guarantee}: {_WORTH[c.guarantee]}, on the selection rows. Protect {out / MODEL}"
        f"{said}, then check it: medward validate BUNDLE --before {out / ORIGINAL}",
        markup=False,
    )
    return 0


def _changed_from(before: float | None) -> str:
    return "" if before is None else f"{before:.3f} -> "


def protect_options(certificate: AnyCertificate) -> str:
    """The words of `medward protect` for the model of `certificate`: its task, and the range of its inputs."""
    c = certificate
    bounds = [f"--{name} {value:g}" for name, value in (("low", c.low), ("high", c.high)) if value is not None]
    said = "" if c.task is None else task_options(c.task)
    return " ".join([*filter(None, [said]), *bounds])


def task_options(task: AnyTask) -> str:
    """The words of `medward protect` that say what the model of `task` answers and how it is operated."""
    numbered = task.names == tuple(map(str, range(len(task.names))))
    options = [] if isinstance(task, Classification) else [f"--task {task.kind}"]
    if isinstance(task, Classification | Multilabel):
        options.append(f"--output {task.output}")
    if not numbered or isinstance(task, Multilabel) or (isinstance(task, Classification) and task.one_column):
        options.append(f"--classes {','.join(task.names)}")
    if isinstance(task, Multilabel):
        options.append(f"--threshold {','.join(map(str, task.thresholds))}")
    elif isinstance(task, Regression):
        options.append(f"--tolerance {task.tolerance:g}")
        options += [f"--cut-points {','.join(map(str, task.cut_points))}"] * bool(task.cut_points)
    elif isinstance(task, Classification) and task.threshold is not None:
        options.append(f"--threshold {task.threshold}")
    return " ".join(options)


def _operated_at(task: AnyTask) -> str:
    """What decisions were made with, in words."""
    if isinstance(task, Multilabel):
        points = ", ".join(f"{name} {point:g}" for name, point in zip(task.findings, task.thresholds, strict=True))
        return f" at the thresholds {points}"
    if isinstance(task, Regression):
        points = ", ".join(f"{each:g}" for each in task.cut_points)
        return f" (tolerance {task.tolerance:g}{f', cut points {points}' if points else ''})"
    threshold = task.threshold if isinstance(task, Classification) else None
    return "" if threshold is None else f" at the threshold {threshold}"
