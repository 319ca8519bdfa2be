"""Put a trained scikit-learn classifier behind a guard, ask it as a clinic would, then as a thief would."""

import tempfile
from pathlib import Path

from medward.attacks.benchmarks.datasets.natural import tabular_pool
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import train_victim
from medward.guard.bundle.make import protect
from medward.guard.policy import Policy
from medward.guard.types import Query


def main() -> None:
    task = load_task("wdbc")
    model = train_victim(task)
    with tempfile.TemporaryDirectory() as folder:
        bundle = protect(
            model,
            task.splits["calibration"],
            Policy(on_error="withhold"),
            Path(folder) / "bundle",
            name=task.name,
            classes=task.classes,
        )
        guard = bundle.guard(ephemeral=True)
        clinic = task.splits["test"].inputs[:40]
        thief = tabular_pool(task.splits["calibration"].inputs, 40, seed=0)
        for who, rows in (("clinic", clinic), ("thief", thief)):
            answers = [guard.answer(Query(principal=(who,), inputs=row[None])) for row in rows]
            levels = [answer.levels[0].label for answer in answers]
            print(f"{who}: " + ", ".join(f"{levels.count(level)} {level}" for level in sorted(set(levels))))


if __name__ == "__main__":
    main()
