"""What hospitals do on ordinary days, and how many accounts that do so are ever coarsened or withheld; thieves beside.

Every behaviour of `medward.attacks.validation.ordinary` goes through the deployed monitors at the default policy, over
several draws of calibration and traffic. What it costs to forgive shows in the thieves of the same run: queries until
one who asks photographs, or rows of independent normals, is at 1e-3, all of them or one in ten. `UNOPENED` was first
looked at when these figures were printed; this project has tuned on all other sets.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import stealing
from claim import Claim
from eprocess import clopper_pearson
from stealing import blood, table_subjects, watched
from stealing.asked import finished, named, sources_of

from medward import guard
from medward.attacks.benchmarks.datasets.natural import pool_for
from medward.attacks.validation import ordinary
from medward.attacks.validation.ordinary.behaviour import VisitSettings
from medward.attacks.validation.ordinary.measure import WatchedGuard, measure_ordinary
from medward.attacks.validation.ordinary.suite import BEHAVIOURS
from medward.guard.data.split import Split
from medward.guard.models.base import Model
from medward.guard.policy import Policy
from medward.guard.profile import Profile

CLAIMS = ("ordinary_accounts_withheld",)
POLICY = Policy(on_error="withhold")
SUBJECTS = (*watched.TASKS, "blood", *table_subjects.TABLES)
UNOPENED = ("digits",)
BLOOD_ROWS = 1000
DRAWS = int(os.environ.get("MEDWARD_ORDINARY_DRAWS", "15"))
SETTINGS = VisitSettings(accounts=20, queries=150, rounds=20, rows=300)
GROUPS = ("loops", "retries", "specialists", "overlays", "resampling")
FIRST_PHANTOMS, NO_MARKER = "5 phantoms, then patients", "line of text"
MOST = 0.01
ALPHA, THIEVES, PATIENCE, POOL = 1e-3, 2, 1500, 1000  # thieves of each share and draw
SHARES = (1.0, 0.1)
BEFORE = Path(__file__).with_name("ordinary_before.json")
"""What this found at the commit named in it, before the monitors were changed."""
CODE = (Path(__file__).read_bytes(), *(sources_of(package) for package in (guard, stealing, ordinary)))


def measure() -> Iterator[Claim]:
    """One claim over all subjects; `details` have every row."""
    subjects = {subject: together([kept(subject, number) for number in range(DRAWS)]) for subject in SUBJECTS}
    held = {
        (subject, name): row
        for subject, found in subjects.items()
        for name, row in found["behaviours"].items()
        if (row["group"] in GROUPS and name != NO_MARKER) or name == FIRST_PHANTOMS
    }
    worst = max(held, key=lambda each: held[each]["withheld"] / held[each]["n"])
    share = held[worst]["withheld"] / held[worst]["n"]
    yield Claim(
        claim=CLAIMS[0],
        value=share,
        interval=clopper_pearson(held[worst]["withheld"], held[worst]["n"]),
        target="<= 0.01 of the accounts ever withheld, for every behaviour of "
        f"{', '.join(GROUPS)} but a {NO_MARKER}, and for phantoms first, on every set",
        met=share <= MOST,
        n=held[worst]["n"],
        seed=0,
        details={
            "worst": " on ".join(reversed(worst)),
            "beyond_target": sorted(
                f"{subject}: {name}" for (subject, name), row in held.items() if row["withheld"] > MOST * row["n"]
            ),
            "unopened": UNOPENED,
            "subjects": subjects,
            "remedies": {each.name: each.remedy for each in BEHAVIOURS if not each.forgiven},
            "draws": DRAWS,
            "accounts_per_draw": SETTINGS.accounts,
            "queries": SETTINGS.queries,
            "rounds": SETTINGS.rounds,
            "alarms": {rung.action: rung.false_alarm for rung in POLICY.monitor.ladder},
            "thieves_flagged_at": ALPHA,
            "before": json.loads(BEFORE.read_text()) if BEFORE.exists() else None,
            "not_counted": "the index of near-duplicates, which only flags at the default policy",
            "interval_assumes": "independent accounts; those of a draw share calibration rows and traffic",
        },
    )


def kept(subject: str, number: int) -> dict[str, Any]:
    """One draw of a subject, done once."""
    settings = named(repr((POLICY, SETTINGS, ALPHA, THIEVES, PATIENCE, POOL, BLOOD_ROWS)), *CODE)
    return finished(f"ordinary-{subject}-{number}", settings, lambda: draw(subject, number))


def draw(subject: str, number: int) -> dict[str, Any]:
    """Of one draw how many accounts of each behaviour were acted upon, and when thieves were noticed."""
    model, profile, traffic = calibrated(subject, number)
    pool = pool_for(model.spec, traffic.inputs, POOL, 10_000 + number)
    costs = measure_ordinary(model, POLICY, profile, traffic, seed=number, settings=SETTINGS, pool=pool)
    rows = {
        cost.behaviour: {
            "group": cost.group,
            "forgiven": cost.forgiven,
            "coarsened": round(cost.acted.value * cost.acted.n),
            "withheld": round(cost.withheld.value * cost.withheld.n),
            "n": cost.acted.n,
            "screened": round(cost.screened.value * cost.screened.n),
            "rows": cost.screened.n,
            "parts": cost.parts,
        }
        for cost in costs
    }
    watch = WatchedGuard.of(model, POLICY, profile)
    seen, _ = watch.see(np.concatenate([traffic.inputs, pool]))
    rng = np.random.default_rng(20_000 + number)
    thieves = {
        f"{share:g}": [flagged(watch, seen, len(traffic), share, rng) for _ in range(THIEVES)] for share in SHARES
    }
    return {"behaviours": rows, "thieves": thieves, "reference": len(profile.reference), "traffic": len(traffic)}


def calibrated(subject: str, number: int) -> tuple[Model, Profile, Split]:
    """The victim of `subject`, its profile after draw `number`, and traffic."""
    risk = POLICY.monitor.calibration_risk
    if subject == "blood":
        return blood.calibrated(BLOOD_ROWS, number, risk)
    return (table_subjects if subject in table_subjects.TABLES else watched).calibrated(subject, number, risk)


def flagged(
    watch: WatchedGuard, seen: dict[str, Any], benign: int, share: float, rng: np.random.Generator
) -> int | None:
    """Queries until a thief is at `ALPHA`, of which a `share` is of the pool and the others are benign; None for never.

    No two of its queries are the same to the memory of exact repeats, so benign rows hide it as well as they can.
    """
    columns = {name: np.asarray(column) for name, column in seen.items()}
    state: Any = None
    for query in range(1, PATIENCE + 1):
        row = benign + int(rng.integers(POOL)) if rng.random() < share else int(rng.integers(benign))
        one = {name: [column[row]] for name, column in columns.items()}
        state, (_, verdict, _) = watch.monitors.watch([str(query)], one, state)
        if verdict.evidence["peak"] >= -math.log(ALPHA):
            return query
    return None


def together(draws: list[dict[str, Any]]) -> dict[str, Any]:
    """All draws of one subject: counts, and the parts' shares as means over accounts that were acted upon."""
    behaviours: dict[str, dict[str, Any]] = {}
    for each in draws:
        for name, row in each["behaviours"].items():
            into = behaviours.setdefault(
                name,
                {"group": row["group"], "forgiven": row["forgiven"]}
                | dict.fromkeys(("coarsened", "withheld", "n", "screened", "rows"), 0)
                | {"parts": defaultdict(float)},
            )
            for key in ("coarsened", "withheld", "n", "screened", "rows"):
                into[key] += row[key]
            for part, value in row["parts"].items():
                into["parts"][part] += value * row["coarsened"]
    for row in behaviours.values():
        row["parts"] = {part: round(value / row["coarsened"], 3) for part, value in row["parts"].items()}
        row["interval"] = clopper_pearson(row["coarsened"], row["n"])
    counts = {
        share: [math.inf if count is None else count for each in draws for count in each["thieves"][share]]
        for share in draws[0]["thieves"]
    }
    return {
        "reference": draws[0]["reference"],
        "traffic": draws[0]["traffic"],
        "behaviours": behaviours,
        "thieves_flagged_after": {share: summary(each) for share, each in counts.items()},
    }


def summary(counts: list[float]) -> dict[str, Any]:
    """Of queries: median, 90th percentile and how many never; None for never."""
    median, late = (
        float(each) if np.isfinite(each) else None for each in np.quantile(counts, (0.5, 0.9), method="higher")
    )
    return {"n": len(counts), "median": median, "p90": late, "never": int(np.isinf(counts).sum())}
