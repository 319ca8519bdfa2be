"""Watch thieves being caught: the e-values of a clinic, of a Knockoff thief, and of one who hides among patients.

Last the hidden thief asks from a hundred keys, and its organisation is caught instead: alpha is split over the levels
of a path, so each rung is twice as high there.
"""

import logging
import math
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medward.attacks.benchmarks.base import BenchmarkTask, stratified_partition
from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.attacks.benchmarks.datasets.phantom import draw_phantoms
from medward.attacks.benchmarks.victims import train_victim
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.types import Action, Query

QUERIES, PATIENCE = 500, 20  # what an account asks, unless it was refused so many times in a row
SIZES = {"train": 700, "selection": 200, "calibration": 1500, "test": 1200}
# By default a strange input is withheld at once. Here it is flagged only, to see what the account's past does.
POLICY = Policy(on_error="withhold", screen={"action": "flag"}, monitor={"parents": "withhold"})
PLOT = Path("out/catch_a_thief.png")


def my_task() -> BenchmarkTask:
    """Radiographs that are drawn: no patient, no download."""
    return BenchmarkTask(
        name="phantom-32",
        modality="image",
        shape=(1, 32, 32),
        low=0.0,
        high=1.0,
        classes=("clear", "opacity"),
        splits=stratified_partition(Split(*draw_phantoms(sum(SIZES.values()), size=32)), SIZES, seed=0),
        source="drawn",
    )


def rows(patients: np.ndarray, share: float, seed: int) -> np.ndarray:
    """What an account asks: patients' images, of which a `share` gave way to cuts of photographs."""
    rng = np.random.default_rng(seed)
    asked = rng.permutation(patients)[:QUERIES]
    stolen = np.flatnonzero(rng.random(QUERIES) < share)
    if len(stolen):
        asked[stolen] = natural_images(len(stolen), asked.shape[1:], seed=seed)
    return asked


def ask(guard: Guard, account: str, asked: np.ndarray, keys: int = 0) -> list[float]:
    """Ask row by row, by turns from `keys` keys of the account if any; print the news, return log10 of the e-values."""
    wealth, levels, alarms, last = [], [], {}, Action.ALLOW
    for n, row in enumerate(asked, 1):
        principal = (account, f"key-{n % keys}") if keys else (account,)
        answer = guard.answer(Query(principal=principal, inputs=row[None]))
        # The answer is all that the client sees. The verdicts are the operator's: one for each account on the path.
        (verdict,) = (each for each in answer.verdicts if each.source == f"e-process:{account}")
        wealth.append(verdict.evidence["log_e"] / math.log(10))
        levels.append(answer.levels[0].label)
        if news := verdict.action > last:
            alarms[verdict.action.label], last = n, verdict.action
        if news or n in (1, 10, 100, QUERIES):
            shares = {name[6:]: share for name, share in verdict.evidence.items() if name.startswith("share:")}
            most = ", ".join(f"{name} {shares[name]:.0%}" for name in sorted(shares, key=shares.get, reverse=True)[:3])
            peak = verdict.evidence["peak"] / math.log(10)
            print(f"{n:4d}  {account:12s}  log10 e = {wealth[-1]:4.1f}, peak {peak:4.1f}  {last.label:8s}  {most}")
        if levels[-PATIENCE:] == ["withheld"] * PATIENCE:
            break
    acted = ", ".join(f"{action} at query {n}" for action, n in alarms.items()) or "no alarm"
    since = Counter(levels[min(alarms.values(), default=1) - 1 :])
    got = ", ".join(f"{count} {level}" for level, count in since.items())
    print(f"=> {account}: {acted}; answers {'from then on' if alarms else 'got'}: {got}\n")
    return wealth


def plot(journeys: dict[str, list[float]]) -> None:
    """The e-values, and the rungs of the ladder that they climb."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for account, wealth in journeys.items():
        axes.plot(range(1, len(wealth) + 1), wealth, label=account)
    for rung in POLICY.monitor.ladder:
        height = -math.log10(rung.false_alarm)
        axes.axhline(height, color="grey", linestyle="--", linewidth=1)
        axes.text(11, height, f"{rung.action}: 1 / {rung.false_alarm:g}", va="bottom")
    axes.set(xlabel="query", ylabel="log10 of the e-value", xscale="log", ylim=(-3, 9))
    axes.legend(loc="upper left")
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=150)
    print(f"plot: {PLOT}")


def main() -> None:
    logging.getLogger("medward").setLevel(logging.ERROR)  # alarms are printed here
    task = my_task()
    spec = {"classes": task.classes, "output": "logits", "low": task.low, "high": task.high}
    with tempfile.TemporaryDirectory() as folder:
        victim = train_victim(task, epochs=12)
        guard = protect(victim, task.splits["calibration"], POLICY, Path(folder) / "bundle", **spec).guard(
            ephemeral=True
        )
        patients = task.splits["test"].inputs
        journeys = {
            who: ask(guard, who, rows(patients, share, seed))
            for seed, (who, share) in enumerate({"clinic": 0.0, "thief": 1.0, "hidden thief": 0.1}.items())
        }
        # The hidden thief's rows by turns from a hundred keys: none asks enough to be noticed, but all count for their
        # organisation.
        ask(guard, "organisation", rows(patients, 0.1, seed=2), keys=100)
        plot(journeys)


if __name__ == "__main__":
    main()
