"""How many queries until a thief is flagged, by what it asks, how much it hides and over how many accounts.

Every strategy of `attacks.extraction` steals the undefended victim once per seed, and what it asks is kept in order.
The queries are then mixed into held-out benign traffic, each query being theft with the same probability, and go
through the product's own `Monitors.watch`: to one account, or in turn to several and to their parent. Alpha is that of
a whole path. A thief whose recording ends has finished: an account is flagged before that, or never.

A thief does not change what it asks because of the guard here; that, and what its clone is worth by then, is for other
claims. Benign rows are a finite pool, in a new order whenever it is used up, and none counts as a repeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import stealing
from claim import Claim
from eprocess import median_interval
from stealing.asked import (
    BUDGET,
    EPOCHS,
    INSIDE,
    NATURAL,
    ORDERLESS,
    POINTS,
    POOL,
    SEEDS,
    THIEVES,
    finished,
    named,
    recorded,
    sources_of,
)
from stealing.scene import ALPHA, POLICY, Columns, Draw, scene

from medward import guard
from medward.attacks import extraction
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.profile import Profile
from medward.guard.types import Action, Array

TARGETS = {"pure": (1.0, 5), "10": (0.1, 60), "5": (0.05, 150)}
CLAIMS = (
    *(f"stealing_detection_{name}" for name in TARGETS),
    "stealing_sybil_parent",
    "stealing_detection_table",
)
SHARES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
ACCOUNTS = (1, 10, 100)
PATIENCE, BLOCK = 5000, 50  # queries
DRAWS, FEWER = 40, 15  # calibration draws; those in which many accounts, and thieves not expected to show, are tried
SLOWER = 2.0  # what many accounts may cost the guard
CODE = (Path(__file__).read_bytes(), *(sources_of(package) for package in (extraction, guard, stealing)))
"""As it was when it was loaded."""


def measure() -> Iterator[Claim]:
    """The natural-image thief by dilution, spread over accounts, then the table of all."""
    cells = table((NATURAL,), (1,))
    for name, (share, most) in TARGETS.items():
        yield noticed(name, cells[NATURAL, share, 1], most)
    cells = table()
    yield sybil(cells)
    yield whole(cells)


def table(
    thieves: Sequence[str] = tuple(THIEVES), accounts: Sequence[int] = ACCOUNTS
) -> dict[tuple[str, float, int], list[dict[str, int | None]]]:
    """Per thief, share and number of accounts what came of every draw that tried it."""
    cells: dict[tuple[str, float, int], list[dict[str, int | None]]] = {}
    for number in range(DRAWS):
        for thief in thieves:
            for many in accounts:
                if number < FEWER or (many < max(ACCOUNTS) and thief not in INSIDE):
                    for line in _tried(number, thief, many):
                        cells.setdefault((thief, line["share"], many), []).append(line["found"])
    return cells


def _tried(number: int, thief: str, accounts: int) -> list[dict[str, Any]]:
    """What came of `thief` over so many accounts in draw `number`, by share."""
    settings = (POLICY, THIEVES, SEEDS, BUDGET, POINTS, EPOCHS, POOL, SHARES, PATIENCE)
    name = f"cells-{number}-{thief}-{accounts}"
    found: list[dict[str, Any]] = finished(
        name, named(repr(settings), *CODE), lambda: list(_try(_scene(number), thief, accounts))
    )
    return found


@lru_cache(1)
def _scene(number: int) -> Draw:
    return scene(number)


def _try(draw: Draw, thief: str, accounts: int) -> Iterator[dict[str, Any]]:
    asked = recorded(thief, draw.number)
    mixed, digests = mixture(draw, asked)
    for shown, share in enumerate(SHARES):
        rng = np.random.default_rng((draw.number, list(THIEVES).index(thief), shown, accounts))
        rows = stream(thief, len(draw.traffic), len(asked), share, rng)
        yield {"share": share, "found": flagged(draw.profile, mixed, digests, rows, accounts)}


def mixture(draw: Draw, asked: Array) -> tuple[Columns, list[str]]:
    """What the parts see of the traffic and then of `asked`, and the digests of these; "" for benign rows."""
    theft = draw.see(asked)
    columns = {part: np.concatenate([column, theft[part]]) for part, column in draw.benign.items()}
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in np.ascontiguousarray(asked)]
    return columns, [""] * len(draw.traffic) + digests


def stream(
    thief: str, benign: int, asked: int, share: float, rng: np.random.Generator, patience: int = PATIENCE
) -> Array:
    """Which rows of a `mixture` are asked, until the theft is over or `patience` is."""
    stolen = rng.random(patience) < share
    over = np.flatnonzero(stolen)[asked : asked + 1]
    stolen = stolen[: over[0] if len(over) else patience]
    start = int(rng.integers(asked)) if thief in ORDERLESS else 0
    order = (start + np.cumsum(stolen) - 1) % asked
    own = cycled(benign, len(stolen), rng)[np.cumsum(~stolen) - 1]
    return np.where(stolen, benign + order, own)


def cycled(n: int, size: int, rng: np.random.Generator) -> Array:
    """`size` of n rows, each once in random order before any comes again."""
    return np.concatenate([rng.permutation(n) for _ in range(-(-size // n))])[:size]


def flagged(
    profile: Profile, columns: Columns, digests: list[str], rows: Array, accounts: int, block: int = BLOCK
) -> dict[str, int | None]:
    """Queries until the parent of all `accounts` was flagged, and until one of them was; None for never.

    The parent of one account is that account. Blocks only save time: one that alarms is gone through query by query.
    """
    monitors = AccountMonitors.of(POLICY, profile, 1 if accounts == 1 else 2)
    first: dict[str, int | None] = {"parent": None, "account": None}
    states: dict[int, Any] = {}

    def ask(start: int, stop: int, before: dict[int, Any]) -> tuple[dict[int, Any], set[str]]:
        after, alarms = dict(before), set()
        places = np.arange(start, stop)
        own = [(turn, places[places % accounts == turn]) for turn in range(accounts)] if accounts > 1 else []
        for key, some in [(-1, places), *own]:
            if len(some):
                names = [digests[rows[place]] or f"benign {place}" for place in some]
                sight = {part: column[rows[some]] for part, column in columns.items()}
                after[key], (_, verdict, _) = monitors.watch(names, sight, before.get(key))
                if verdict.action > Action.ALLOW:
                    alarms.add("parent" if key == -1 else "account")
        return after, {name for name in alarms if first[name] is None}

    for start in range(0, len(rows), block):
        stop = min(start + block, len(rows))
        after, news = ask(start, stop, states)
        if news:
            after = states
            for place in range(start, stop):
                after, news = ask(place, place + 1, after)
                first.update(dict.fromkeys(news, place + 1))
                if first["parent"] is not None:
                    return first
        states = after
    return first


def either(found: Mapping[str, int | None]) -> float:
    """Queries until somebody was flagged; infinite for never."""
    return min((each for each in found.values() if each is not None), default=np.inf)


def parent(found: Mapping[str, int | None]) -> float:
    """Queries until the parent was flagged."""
    return np.inf if found["parent"] is None else found["parent"]


def summary(counts: list[float]) -> dict[str, Any]:
    """Of queries to flag: median, its interval and 90th percentile, None where that is never."""
    ordered = np.array(counts, np.float64)
    median, p90 = (np.quantile(ordered, q, method="higher") for q in (0.5, 0.9))
    interval = [_finite(each) for each in median_interval(ordered)]
    return {
        "n": len(counts),
        "median": _finite(median),
        "interval": interval,
        "p90": _finite(p90),
        "never": int(np.isinf(ordered).sum()),
    }


def noticed(name: str, found: list[dict[str, int | None]], most: int) -> Claim:
    """The natural-image thief in one account."""
    said = summary([either(each) for each in found])
    return Claim(
        claim=f"stealing_detection_{name}",
        value="never" if said["median"] is None else said["median"],
        interval=None if None in said["interval"] else tuple(said["interval"]),
        target=f"median <= {most} queries at alpha {ALPHA:g}",
        met=said["median"] is not None and said["median"] <= most,
        n=len(found),
        seed=0,
        details={**said, **_frame()},
    )


def sybil(cells: Mapping[tuple[str, float, int], list[dict[str, int | None]]]) -> Claim:
    """The natural-image thief over most accounts: what its parent needs, over what one account alone needs."""
    most = max(ACCOUNTS)
    one = summary([parent(each) for each in cells[NATURAL, 0.1, 1]])
    many = summary([parent(each) for each in cells[NATURAL, 0.1, most]])
    known = one["median"] is not None and many["median"] is not None
    ratio = many["median"] / one["median"] if known else None
    return Claim(
        claim="stealing_sybil_parent",
        value="never" if ratio is None else ratio,
        target=f"<= {SLOWER:g}: parent's median over {most} accounts at 10 %, to that of one account without a parent",
        met=ratio is not None and ratio <= SLOWER,
        n=many["n"],
        seed=0,
        details={"one_account": one, "parent": many, **_frame()},
    )


def whole(cells: Mapping[tuple[str, float, int], list[dict[str, int | None]]]) -> Claim:
    """Every cell; the value is the share of cells whose median thief is flagged."""
    lines: dict[str, Any] = {}
    for (thief, share, accounts), found in cells.items():
        line = {
            **summary([either(each) for each in found]),
            "parent_median": summary([parent(each) for each in found])["median"],
        }
        lines.setdefault(thief, {}).setdefault(f"{share:g}", {})[str(accounts)] = line
    medians = [line["median"] for shares in lines.values() for line_of in shares.values() for line in line_of.values()]
    return Claim(
        claim="stealing_detection_table",
        value=sum(median is not None for median in medians) / len(medians),
        target="reported: share of cells whose median thief is flagged before it is done or out of patience",
        met=True,
        n=sum(len(found) for found in cells.values()),
        seed=0,
        details={"thieves": lines, "in_distribution": INSIDE, **_frame()},
    )


def _frame() -> dict[str, Any]:
    return {
        "alpha": ALPHA,
        "calibration_risk": POLICY.monitor.calibration_risk,
        "contamination": POLICY.monitor.contamination,
        "patience": PATIENCE,
        "recorded_queries": BUDGET,
        "recordings_per_thief": SEEDS,
        "calibration_draws": DRAWS,
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
