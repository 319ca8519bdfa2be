"""How many queries until a thief of a table is flagged, beside the limit for one who hides, on tables of many kinds.

Each draw trains a forest on a part of the rows, calibrates its guard on another, and mixes invented rows into the rest:
columns drawn one by one from normals, from what each column has (shuffled), and half of each row taken from a real one.
Whether columns depend on one another is what decides: of a table whose columns were made independent (the control)
nothing can be noticed in shuffled columns, and the power statement says so. Benign accounts ask each row once, so that
they are exchangeable with the calibration rows. Thieves repeat nothing.

What the power statement promises is kept to its word: from a few rows it says how many would notice a thief of a tenth
of all queries within `WANTED_QUERIES`; so many are calibrated on, and the thief is tried.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import stealing
from claim import Claim
from eprocess import clopper_pearson
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from specialists import summary
from stealing.asked import finished, named, sources_of
from stealing.fleet import Pool, first_alarms
from support.sights import sight_of

from medward import guard
from medward.attacks.benchmarks.base import data_root
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.bundle.more_rows import WANTED_QUERIES
from medward.guard.bundle.power import dilution_limit, measure_power
from medward.guard.models import wrap
from medward.guard.models.base import Model
from medward.guard.monitors.base import CONTENT_CODES
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches
from medward.guard.screens.joint import normal_rows, shuffled_rows
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints

CLAIMS = ("stealing_tables", "stealing_tables_benign", "stealing_tables_rows_said")
TUNED, UNOPENED = ("wdbc", "diabetes", "fetal_ctg"), ("wine", "digits")
"""The screens were chosen on the first three; the others were first looked at when these figures were printed."""
CONTROL = "independent"  # WDBC, each column shuffled on its own
POLICY = Policy(on_error="withhold")
Watched = Callable[[Array], tuple[Profile, AccountMonitors, Pool]]
ALPHA, SHARES, DRAWS, ACCOUNTS, PATIENCE = 1e-3, (1.0, 0.1), 10, 20, 1000
TRAIN, CALIBRATION = 0.2, 0.5
LIMITS = {"normal": 10, "shuffled": 25}
DELTA = POLICY.monitor.calibration_risk
FEW, SAID = 150, {"rows drawn from normals": "normal", "rows of shuffled columns": "shuffled"}
"""Calibration rows of which the power statement is asked, and its kinds by the thief who is tried."""
NEAR = 1.5  # times what was said
CODE = (Path(__file__).read_bytes(), *(sources_of(package) for package in (guard, stealing)))


def table_rows(name: str) -> tuple[Array, Ints]:
    """Rows ``(n, d)`` and two or more classes ``(n,)`` of a table that a dependency or MEDWARD_DATA has."""
    if name == "fetal_ctg":
        with (data_root(None) / "fetal_ctg" / "fetal_health.csv").open() as file:
            rows = np.array([list(map(float, each.values())) for each in csv.DictReader(file)])
        rows = np.unique(rows, axis=0)
        return rows[:, :-1], rows[:, -1].astype(np.int64) - 1
    if name == CONTROL:
        rows, labels = table_rows("wdbc")
        return shuffled_rows(rows, len(rows), np.random.default_rng(0)), labels
    load = {"wdbc": load_breast_cancer, "diabetes": load_diabetes, "wine": load_wine}
    bunch = load_digits() if name == "digits" else load[name]()
    labels = bunch.target > np.median(bunch.target) if name == "diabetes" else bunch.target
    return np.asarray(bunch.data, np.float64), np.asarray(labels, np.int64)


def half_real(rows: Array, count: int, rng: np.random.Generator) -> Array:
    """Rows of which half of the columns are drawn anew."""
    real = rows[rng.integers(len(rows), size=count)]
    return np.where(rng.random(real.shape) < 0.5, shuffled_rows(rows, count, rng), real)


THIEVES: dict[str, Callable[[Array, int, np.random.Generator], Array]] = {
    "normal": normal_rows,
    "shuffled": shuffled_rows,
    "half real": half_real,
}


def measure() -> Iterator[Claim]:
    """Thieves by table, then benign accounts, then the power statement's word."""
    names = (*TUNED, *UNOPENED, CONTROL)
    draws = {name: [_draw(name, number) for number in range(DRAWS)] for name in names}
    yield thieves(draws)
    yield benign(draws)
    yield rows_said(draws)


def _draw(name: str, number: int) -> dict[str, Any]:
    settings = repr((POLICY, SHARES, ACCOUNTS, PATIENCE, TRAIN, CALIBRATION, FEW))
    found: dict[str, Any] = finished(f"{name}-{number}", named(settings, *CODE), lambda: _asked(name, number))
    return found


def _asked(name: str, number: int) -> dict[str, Any]:
    """One draw of a table: reference rows, queries to flag each thief and benign accounts, and what few rows said."""
    rows, labels = table_rows(name)
    rng = np.random.default_rng(number)
    order = rng.permutation(len(rows))
    ends = [int(TRAIN * len(rows)), int((TRAIN + CALIBRATION) * len(rows))]
    train, calibration, traffic = np.split(order, ends)
    classes = tuple(f"class {label}" for label in range(len(np.unique(labels[train]))))
    forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=number).fit(rows[train], labels[train])
    task = Classification(classes=classes, output="probabilities")
    spec = ModelSpec(name=name, modality="tabular", shape=rows.shape[1:], task=task)
    model = wrap(forest, spec=spec, sample=rows[calibration[:32]].astype(np.float32))
    known = rows[calibration].astype(np.float32)
    own = rows[traffic]
    invented = {thief: make(rows[train], PATIENCE, rng) for thief, make in THIEVES.items()}
    inputs = np.concatenate([own, *invented.values()]).astype(np.float32)

    def watched(some: Array) -> tuple[Profile, AccountMonitors, Pool]:
        profile = Profile.fit(model, some, risk=DELTA, seed=number, secret=number)
        sight = sight_of(POLICY, profile, inputs, forward_batches(model, inputs))
        pool = {part: np.asarray(column) for part, column in sight.items() if part != CONTENT_CODES}
        return profile, AccountMonitors.of(POLICY, profile, 1), pool

    profile, monitors, pool = watched(known)
    flags, mixtures = {}, {}
    for place, thief in enumerate(THIEVES):
        first = len(own) + place * PATIENCE
        for share in SHARES:
            stolen = rng.random((ACCOUNTS, PATIENCE)) < share
            theirs = first + np.array([rng.permutation(PATIENCE) for _ in range(ACCOUNTS)])
            mixed = np.where(stolen, theirs, rng.integers(len(own), size=(ACCOUNTS, PATIENCE)))
            flags[f"{thief}, {share:g}"] = first_alarms(monitors, pool, mixed, ALPHA, repeats=False)
            mixtures[thief, share] = mixed
    benign_rows = np.stack([rng.permutation(len(own)) for _ in range(ACCOUNTS)])
    peaks = first_alarms(monitors, pool, benign_rows, POLICY.monitor.ladder[0].false_alarm)
    return {
        "reference": len(profile.reference),
        "columns": rows.shape[1],
        "flags": flags,
        "benign": peaks,
        "said": list(_said(watched, model, known, {thief: mixtures[thief, SHARES[-1]] for thief in SAID.values()})),
    }


def _said(watched: Watched, model: Model, known: Array, mixtures: dict[str, Array]) -> Iterator[dict[str, Any]]:
    """By kind how many rows the statement of a few of `known` asks for, and after how many queries these then show."""
    if len(known) <= FEW:
        return
    power = measure_power(model, watched(known[:FEW])[0], POLICY, known[:FEW])
    for needed in power.needed:
        thief, rows = SAID.get(needed.kind), needed.calibration
        if thief is None or needed.share != SHARES[-1]:
            continue
        found: dict[str, Any] = {"thief": thief, "rows": rows, "there are": len(known), "queries": []}
        if rows is not None and rows <= len(known):
            _, monitors, pool = watched(known[:rows])
            found["queries"] = first_alarms(monitors, pool, mixtures[thief], ALPHA, repeats=False)
        yield found


def thieves(draws: dict[str, list[dict[str, Any]]]) -> Claim:
    """The share of dependent tables on which both thieves are flagged as soon as promised."""
    tables: dict[str, Any] = {}
    for name, found in draws.items():
        reference = int(np.median([each["reference"] for each in found]))
        lines = {}
        for thief in found[0]["flags"]:
            counts = [math.inf if each is None else each for draw in found for each in draw["flags"][thief]]
            lines[thief] = summary(counts)
        limit = dilution_limit(math.log(1 / DELTA) / reference, SHARES[-1], ALPHA)
        for thief in THIEVES:
            lines[f"{thief}, {SHARES[-1]:g}"]["limit"] = limit if math.isfinite(limit) else None
        tables[name] = {
            "reference": reference,
            "columns": found[0]["columns"],
            "opened while tuning": name in (*TUNED, CONTROL),
            "thieves": lines,
        }
    dependent = [name for name in tables if name != CONTROL]
    good = [
        name
        for name in dependent
        if all((tables[name]["thieves"][f"{thief}, 1"]["median"] or math.inf) <= most for thief, most in LIMITS.items())
    ]
    return Claim(
        claim=CLAIMS[0],
        value=len(good) / len(dependent),
        target=f"median <= {LIMITS['normal']} queries of normals, <= {LIMITS['shuffled']} of shuffled columns, of each",
        met=len(good) == len(dependent) and set(UNOPENED) <= set(tables),
        n=sum(len(found) for found in draws.values()) * ACCOUNTS,
        seed=0,
        details={"tables": tables, "alpha": ALPHA, "draws": DRAWS, "accounts": ACCOUNTS, "patience": PATIENCE},
    )


def benign(draws: dict[str, list[dict[str, Any]]]) -> Claim:
    """How many benign accounts were ever coarsened."""
    counts = {
        name: [sum(each is not None for draw in found for each in draw["benign"]), len(found) * ACCOUNTS]
        for name, found in draws.items()
    }
    alarmed, of = (sum(each[i] for each in counts.values()) for i in (0, 1))
    alpha = POLICY.monitor.ladder[0].false_alarm
    return Claim(
        claim=CLAIMS[1],
        value=alarmed / of,
        interval=clopper_pearson(alarmed, of),
        target=f"<= {alpha:g} + {POLICY.monitor.calibration_risk:g} ever coarsened, within sampling error",
        met=clopper_pearson(alarmed, of)[0] <= alpha + POLICY.monitor.calibration_risk,
        n=of,
        seed=0,
        details={"alarmed, of": counts, "interval_assumes": "independent accounts; those of a draw share calibration"},
    )


def rows_said(draws: dict[str, list[dict[str, Any]]]) -> Claim:
    """After how many queries diluted thieves show where as many rows are calibrated on as the statement asks for."""
    tables: dict[str, Any] = {}
    for name, found in draws.items():
        said = [each for draw in found for each in draw["said"]]
        tried = [[math.inf if one is None else one for one in each["queries"]] for each in said if each["queries"]]
        tables[name] = {
            "asked for": [each["rows"] for each in said],
            "of them there were so many": len(tried),
            "medians": [float(each) for each in np.sort([np.median(each) for each in tried]) if np.isfinite(each)],
            **(summary([one for each in tried for one in each]) if tried else {}),
        }
    medians = [each["median"] for each in tables.values() if "median" in each]
    worst = None if None in medians else max(medians, default=None)
    return Claim(
        claim=CLAIMS[2],
        value="never" if worst is None else worst,
        target=f"<= {NEAR:g} x {WANTED_QUERIES} queries: largest median of any table, of thieves of a tenth",
        met=worst is not None and worst <= NEAR * WANTED_QUERIES,
        n=sum(each.get("n", 0) for each in tables.values()),
        seed=0,
        details={"tables": tables, "alpha": ALPHA, "asked of rows": FEW, "draws": DRAWS, "accounts": ACCOUNTS},
    )


if __name__ == "__main__":
    print(json.dumps([each.__dict__ for each in measure()], default=str, indent=1))
