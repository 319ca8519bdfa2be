"""``medward demo``: a real classifier is guarded, robbed, attacked, hardened and attacked again.

The data come with scikit-learn, so that nothing is downloaded.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medward.guard.errors import MedwardError
from medward.integrations.cli.lines import alarms_expected
from medward.integrations.cli.options import console

if TYPE_CHECKING:
    from medward.attacks.benchmarks.base import BenchmarkTask
    from medward.attacks.validation.finding import Finding
    from medward.attacks.validation.record import Report
    from medward.guard.bundle.folder import Bundle
    from medward.guard.types import Array
    from medward.guard.waiver_policy import Waiver

ASKED, ENOUGH, DAYS = 500, 0.95, 30
"""What the thief asks at most, the agreement of a copy as good as the model, and how long a risk is accepted."""
_POLICY: dict[str, Any] = {"on_error": "withhold", "screen": {"action": "flag"}}
"""Strange inputs leave marked: answers are certified in the end, and no one is refused."""


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for models, bundles and reports")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Rob, attack, harden and attack again a real classifier of breast tumours (WDBC, 569 patients)."""
    with alarms_expected():
        run_demo(out, seed=seed)


def run_demo(out: Path, *, seed: int) -> None:
    """Guard and judge a model as it is and once it is hardened; what is found is printed and kept under `out`."""
    from medward.attacks.benchmarks.tasks import load_task
    from medward.attacks.benchmarks.victims import accuracy, predict_labels, train_victim
    from medward.attacks.validate import validate
    from medward.guard.bundle.make import protect
    from medward.guard.certify_policy import CertifyPolicy
    from medward.guard.harden.folder import harden
    from medward.guard.policy import Policy

    task = load_task("wdbc", seed=seed)
    victim = train_victim(task, architecture="network", seed=seed)
    test = task.splits["test"]
    assert test.labels is not None  # the loader of this task gives them
    correct, balanced = accuracy(test.labels, predict_labels(victim, test.inputs))
    _say(f"task: {task.name}, {task.source}")
    _say(f"model: accuracy {correct:.3f} on {len(test.labels)} held-out patients (balanced {balanced:.3f})")
    given: dict[str, Any] = {"name": task.name, "classes": task.classes, "output": "logits", "seed": seed}

    _step("1. A guard around the model as it is (medward protect), and a thief")
    bare = protect(victim, task.splits["calibration"], Policy(**_POLICY), out / "bare/bundle", overwrite=True, **given)
    _rob(bare, task, seed)

    _step("2. Attack it (medward validate)")
    before = validate(bare, task.splits, out / "bare/report", seed=seed)
    _tell(before, out / "bare/report")

    _step("3. Train a copy whose answers can be certified (medward harden --method certified)")
    rows = {"train": task.splits["train"], "selection": task.splits["calibration"]}
    certificate, _ = harden(
        victim, rows, out / "hardened", "certified", classes=task.classes, output="logits", seed=seed, overwrite=True
    )
    _say(_certified_words(certificate))

    _step("4. Guard the copy; answers say whether they are certified, and what cannot be helped is accepted by name")
    policy = Policy(**_POLICY, certify=CertifyPolicy(enabled=True), accept=accepted_theft(before))
    bundle = protect(
        str(out / "hardened/model.onnx"), task.splits["calibration"], policy, out / "bundle", overwrite=True, **given
    )
    for waiver in policy.accept:
        _say(f"accepted until {waiver.until}: {waiver.attack}, {waiver.reason}")

    _step("5. Attack that")
    after = validate(bundle, task.splits, out / "report", before=out / "hardened/original.onnx", seed=seed)
    _tell(after, out / "report")
    for finding in _thefts(after):
        _say(f"{finding.attack}, of what is deployed now: the copy {copy_words(finding)}")


def accepted_theft(report: Report) -> tuple[Waiver, ...]:
    """Waivers for what thieves do with patients' rows, each with the answers that its copy took in `report`.

    That one is of the model before hardening, and the reason says so. Raises `MedwardError` where a theft has no curve.
    """
    from medward.guard.waiver_policy import Waiver

    until = datetime.now(UTC).date() + timedelta(days=DAYS)
    return tuple(
        Waiver(
            attack=finding.attack,
            reason="a thief who asks with patients' rows looks like a client; of the model before hardening the copy "
            + copy_words(finding),
            by="whoever runs medward demo",
            until=until,
        )
        for finding in _thefts(report)
    )


def _thefts(report: Report) -> tuple[Finding, ...]:
    """Those that are judged: without a budget nothing stands in the way of one with ordinary cases, and none is."""
    from medward.attacks.validation.finding import Status

    thefts = (finding for finding in report.findings if finding.family == "extraction")
    return tuple(finding for finding in thefts if finding.status is not Status.NOT_APPLICABLE)


def copy_words(finding: Finding) -> str:
    """After how many answers the copy of a thief who knows the guard is as good as the model.

    Raises `MedwardError` where it was not measured: that is not the same as never.
    """
    asked, agreed = finding.curves.get("adaptive", {}).get("clone", ((), ()))
    if not asked:
        raise MedwardError(f"{finding.attack}: no copy was measured on any answer; see the reasons of its row")
    enough = next((int(n) for n, share in zip(asked, agreed, strict=True) if share >= ENOUGH), None)
    if enough is None:
        return f"does not agree on {ENOUGH:.0%} after {int(asked[-1])} answers"
    return f"agrees on {ENOUGH:.0%} after {enough} answers"


def _rob(bundle: Bundle, task: BenchmarkTask, seed: int) -> None:
    """Let a clinic ask with patients' rows, and a thief with rows drawn over the range of each column."""
    import numpy as np

    known = task.splits["calibration"].inputs
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(known.min(axis=0), known.max(axis=0), (ASKED, known.shape[1])).astype(np.float32)
    for who, rows in {"clinic": task.splits["test"].inputs, "thief": drawn}.items():
        _say(f"{who}: {_asked_words(bundle, who, rows)}")


def _asked_words(bundle: Bundle, who: str, rows: Array) -> str:
    """When an account that asks `rows` one by one is first alarmed, and when nothing more leaves for it."""
    from medward.guard.types import Level, Query

    alarms: list[object] = []
    guard = bundle.guard(ephemeral=True, on_alarm=alarms.append)
    first = None
    for n, row in enumerate(rows, 1):
        answer = guard.answer(Query(principal=(who,), inputs=row[None]))
        first = n if first is None and alarms else first
        if alarms and answer.levels[0] is Level.WITHHELD:
            return f"alarmed after {first} rows, and from row {n} on nothing leaves for it"
    return f"asked {len(rows)} rows, " + ("no alarm" if first is None else f"alarmed after {first}")


def _certified_words(certificate: Any) -> str:
    """What a certificate says of accuracy and of the shares that are certified."""
    from medward.guard.certificate import certificate_sentence

    return certificate_sentence(certificate)


def _tell(report: Report, folder: Path) -> None:
    from medward.attacks.report.table import print_findings

    print_findings(report, console)
    _say(f"report: {folder / 'report.html'}")


def _step(text: str) -> None:
    console.print(f"\n{text}", style="bold", markup=False)


def _say(text: str) -> None:
    console.print(text, markup=False)
