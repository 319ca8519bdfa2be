"""``medward demo``: a real classifier, guarded, attacked, judged; on data that scikit-learn brings along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.lines import alarms_expected
from medward.integrations.cli.options import console


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for model, bundle and report")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Protect and validate a real classifier of breast tumours (WDBC, 569 patients); no download."""
    with alarms_expected():
        run_demo(out, seed=seed)


def run_demo(out: Path, *, seed: int) -> None:
    """Train, protect and validate on WDBC; what is found is printed and kept under `out`."""
    from medward.attacks.benchmarks.tasks import load_task
    from medward.attacks.benchmarks.victims import accuracy, predict_labels, train_victim
    from medward.attacks.report.table import print_findings
    from medward.attacks.validate import validate
    from medward.guard.bundle.make import protect
    from medward.guard.policy import Policy

    task = load_task("wdbc", seed=seed)
    console.print(f"task: {task.name}, {task.source}", markup=False)
    victim = train_victim(task, seed=seed)
    labels = task.splits["test"].labels
    assert labels is not None  # the loader of this task gives them
    correct, balanced = accuracy(labels, predict_labels(victim, task.splits["test"].inputs))
    console.print(f"model: accuracy {correct:.3f} on {len(labels)} held-out patients (balanced {balanced:.3f})")
    bundle = protect(
        victim,
        task.splits["calibration"],
        Policy(on_error="withhold"),
        out / "bundle",
        name=task.name,
        classes=task.classes,
        seed=seed,
        overwrite=True,
    )
    console.print(f"bundle: {out / 'bundle'} (digest {bundle.digest[:12]})", markup=False)
    report = validate(bundle, task.splits, out / "report", seed=seed)
    print_findings(report, console)
    console.print(f"report: {out / 'report' / 'report.html'}", markup=False)
