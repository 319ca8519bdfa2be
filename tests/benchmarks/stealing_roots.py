"""Thousands of accounts of one organisation with few queries each: what its own alarm does about it, and to whom.

In the wild 24,000 accounts asked about 670 times each (MITRE ATLAS, AML.CS0056). Alarms of an organisation see the
queries of all its accounts as one stream, whoever asks, so a stream of the first queries is all that it takes; accounts
are alike, so some of them stand for all. Both go query by query through `AccountMonitors.watch`, alpha being split over
organisation and account as on the deployed path; what the screen refuses counts as refused.

Measured twice. Of an organisation of thieves: how many of their stolen rows are answered, under each `monitor.parents`.
Of one with a single stolen key among innocent ones: how many queries of theirs are coarsened or withheld until somebody
acts, if the thief goes on when it is withheld (who wants to silence a clinic does), and if it stops then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from claim import Claim
from stealing.asked import NATURAL, finished, named, recorded, sources_of
from stealing.scene import Draw, scene
from stealing_detection import mixture, stream

from medward.guard import monitors, screens, statistics
from medward.guard.accounts import monitors as accounts_monitors
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.monitors.strangeness import STRANGENESS
from medward.guard.policy import Policy
from medward.guard.types import Action, Array

CLAIMS = ("stealing_roots",)
POLICY = Policy(on_error="withhold")
SHARES = (1.0, 0.1)
THIEVES = (10, 100, 1000, 24_000)  # accounts of an organisation of thieves
CLINICS = (10, 100, 1000)  # accounts of an organisation in which one key is a thief's
QUERIES, PATIENCE = 670, 10_000  # of one account; of an organisation
DRAWS, EACH = 6, 4  # calibration draws; accounts that are tried in each
DEPTH = 2  # organisation and account share alpha
DAILY, DAYS = 20, (1, 3, 7)  # queries of an account a day; days until somebody acts
CODE = (
    *(Path(str(each)).read_bytes() for each in (__file__, accounts_monitors.__file__)),
    *map(sources_of, (monitors, screens, statistics)),
)
LEFT = ("fine", "answered")
UNSCREENED = ", monitors alone"
RUNGS = {"coarsened": Action.COARSEN, "withheld": Action.WITHHOLD}


def measure() -> Iterator[Claim]:
    """Every draw, then the one table."""
    cells = [
        finished(f"roots-{number}", named(repr(_settings()), *CODE), partial(_tried, number)) for number in range(DRAWS)
    ]
    yield rooted(cells)


def _tried(number: int) -> dict[str, Any]:
    """What came of one calibration draw."""
    draw = scene(number)
    mixed, digests = mixture(draw, recorded(NATURAL, number))
    passes = np.asarray(mixed[STRANGENESS]) <= draw.profile.screen_cut(POLICY.screen.rate)
    benign = len(draw.traffic)
    found: dict[str, Any] = {}
    for place, share in enumerate(SHARES):
        rng = np.random.default_rng((number, place))
        ask = partial(stream, NATURAL, benign, len(digests) - benign)
        runs = [_run(draw, mixed, digests, ask(share, rng, QUERIES), DEPTH) for _ in range(EACH)]
        found[f"{share:g}"] = {
            "accounts": [_stolen(run, passes, benign) for run in runs],
            "organisation": _stolen(_run(draw, mixed, digests, ask(share, rng, PATIENCE), DEPTH), passes, benign),
            "clinics": {
                str(many): {
                    ends: _clinic(draw, mixed, digests, share, many, rng, stops=ends == "stops")
                    for ends in ("goes on", "stops")
                }
                for many in CLINICS
            },
        }
    return found


Run = tuple[Array, dict[str, int]]
"""The rows that were asked, and the number of queries, from 1, with which each rung was reached; none that was not."""


def _run(draw: Draw, columns: Mapping[str, Array], digests: Sequence[str], rows: Array, depth: int) -> Run:
    """Ask `rows` of one stream until it is withheld."""
    watched, state, first = AccountMonitors.of(POLICY, draw.profile, depth), None, dict[str, int]()
    for place, row in enumerate(rows):
        sight = {part: column[row : row + 1] for part, column in columns.items()}
        state, (_, verdict, _) = watched.watch([digests[row] or f"benign {place}"], sight, state)
        first |= {name: place + 1 for name, rung in RUNGS.items() if verdict.action >= rung and name not in first}
        if "withheld" in first:
            break
    return rows, first


def _stolen(run: Run, passes: Array, benign: int) -> dict[str, Any]:
    """When each rung was reached, and how many stolen rows were answered before: finely, and at all."""
    rows, first = run
    stolen, found = rows >= benign, dict[str, int]()
    for screened, counted in (("", stolen & passes[rows]), (UNSCREENED, stolen)):
        for name, rung in zip(LEFT, RUNGS, strict=True):
            found[name + screened] = int(counted[: first.get(rung, len(rows) + 1) - 1].sum())
    return {**first, **found, "asked": int(stolen.sum())}


def _clinic(
    draw: Draw,
    columns: Mapping[str, Array],
    digests: Sequence[str],
    share: float,
    accounts: int,
    rng: np.random.Generator,
    *,
    stops: bool,
) -> dict[str, int]:
    """When an organisation's rungs are reached of whose `accounts`, taking turns, the first is a thief's."""
    benign = len(draw.traffic)
    turns = -(-PATIENCE // accounts)
    own = stream(NATURAL, benign, len(digests) - benign, share, rng, turns)
    _, reached = _run(draw, columns, digests, own, DEPTH)
    asked = own[: reached.get("withheld", len(own))] if stops else own
    rows = rng.integers(benign, size=(len(own), accounts))
    rows[: len(asked), 0] = asked
    keep = np.ones(rows.shape, bool)
    keep[len(asked) :, 0] = False
    return _run(draw, columns, digests, rows[keep][:PATIENCE], DEPTH)[1]


def rooted(cells: Sequence[Mapping[str, Any]]) -> Claim:
    """The table; its headline is what a single stolen key costs the innocent ones of a small clinic under withhold."""
    details: dict[str, Any] = {"thieves": {}, "clinics": {}}
    for share in map("{:g}".format, SHARES):
        accounts = [each for cell in cells for each in cell[share]["accounts"]]
        roots = [cell[share]["organisation"] for cell in cells]
        details["thieves"][share] = {
            "account": _times(accounts),
            "organisation": _times(roots),
            **{
                f"answered{screened}": {str(many): _answered(accounts, roots, many, screened) for many in THIEVES}
                for screened in ("", UNSCREENED)
            },
        }
        details["clinics"][share] = {
            str(many): {
                ends: {
                    "reached": _times([cell[share]["clinics"][str(many)][ends] for cell in cells]),
                    "innocent queries": _cost([cell[share]["clinics"][str(many)][ends] for cell in cells], many),
                }
                for ends in ("goes on", "stops")
            }
            for many in CLINICS
        }
    headline = details["clinics"]["1"][str(CLINICS[0])]["goes on"]["innocent queries"][str(DAYS[0])]["withheld"]
    return Claim(
        claim=CLAIMS[0],
        value=headline,
        target=f"reported: share of innocent queries withheld in {DAYS[0]} day, {CLINICS[0]} accounts, one of them a "
        'pure thief\'s, monitor.parents = "withhold"; what it takes from thieves beside it',
        met=True,
        n=len(cells),
        seed=0,
        details={**details, **_settings()},
    )


def _times(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of queries until each rung: the median, None where that is never, and how many never reached it."""
    said = {}
    for name in RUNGS:
        counts = np.array([each.get(name, np.inf) for each in found])
        median = float(np.quantile(counts, 0.5, method="higher"))
        said[name] = {
            "median": median if np.isfinite(median) else None,
            "never": int(np.isinf(counts).sum()),
            "n": len(counts),
        }
    return said


def _answered(
    accounts: Sequence[Mapping[str, Any]], roots: Sequence[Mapping[str, Any]], many: int, screened: str
) -> dict[str, dict[str, float]]:
    """Of `many` thieves the stolen rows that are answered under each `monitor.parents`, finely and at all.

    Under flag each account is stopped by its own alarm alone. Under coarsen the organisation's alarm takes the scores
    of all, and under withhold then the answers of all; accounts take turns, so each has asked next to nothing by then.
    The screen refuses most photographs one by one; with `screened` it only flags, and the monitors are alone.
    """
    each = {name: many * float(np.mean([found[name + screened] for found in accounts])) for name in LEFT}
    most = {name: float(np.mean([found[name + screened] for found in roots])) for name in LEFT}
    fine = min(each["fine"], most["fine"])
    return {
        "flag": each,
        "coarsen": {"fine": fine, "answered": each["answered"]},
        "withhold": {"fine": fine, "answered": min(each["answered"], most["answered"])},
    }


def _cost(found: Sequence[Mapping[str, int]], accounts: int) -> dict[str, dict[str, float]]:
    """The share of innocent queries at each rung until somebody acts, by days; the mean over draws.

    Beyond `PATIENCE` nothing was asked, so what is only reached there counts as never.
    """
    asked = {days: DAILY * days * accounts for days in DAYS}
    return {
        str(days): {
            name: float(np.mean([max(0.0, 1 - each[name] / most) if name in each else 0.0 for each in found]))
            for name in RUNGS
        }
        for days, most in asked.items()
    }


def _settings() -> dict[str, Any]:
    return {
        "ladder": [(rung.false_alarm, rung.action) for rung in POLICY.monitor.ladder],
        "queries_of_an_account": QUERIES,
        "patience_of_an_organisation": PATIENCE,
        "accounts_tried": EACH,
        "draws": DRAWS,
        "queries_a_day": DAILY,
        "days": list(DAYS),
    }
