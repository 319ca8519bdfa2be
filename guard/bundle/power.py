"""What a bundle can notice, measured on its own calibration: how soon thieves and a changed scanner show.

Of every kind of inputs that no patient has (`invented_inputs`) some are made from the calibration rows and asked of the
model; how strange they look is bet on as it is deployed, by accounts that ask nothing else or hide them as a tenth of
ordinary queries, whose scores are drawn from the calibration rows. Only the monitor *strange* bets here: with the
others an account is noticed no later, as its part of the capital is the same. Nothing here is a bound. A thief who
invents inputs better is noticed later, one with patients' inputs never: for these there is the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, ConfigDict

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.models.base import Model
from medward.guard.monitors.strangeness import RankBet
from medward.guard.policy import Policy
from medward.guard.profile import Profile, judged_batches
from medward.guard.screens.joint import normal_rows, shuffled_rows
from medward.guard.spec import ModelSpec
from medward.guard.statistics.rank_accounts import RankAccounts
from medward.guard.statistics.rank_eprocess import rank_limits
from medward.guard.types import Array, Ints

ALPHA = 0.001
"""The false-alarm rate at which an account counts as noticed."""
STOLEN_SHARES = (1.0, 0.1)
MADE_ROWS = 120  # inputs made of each kind
ACCOUNTS, QUERIES = 15, 600
_TAIL = 0.005  # how often ordinary inputs are taken to be in the smallest tail


class Noticed(BaseModel):
    """After how many `queries` accounts of a `kind` are noticed that make up a `share` of all; None for never.

    It is the median of `ACCOUNTS` accounts, and never means not within `QUERIES`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: str
    share: float
    queries: int | None


class Power(BaseModel):
    """What a calibration can notice at `ALPHA`.

    `reference` are the calibration rows that are compared with, in each stratum, `smallest_tail` what they bound of
    ordinary inputs, `limit` the queries that no bet on that tail does without against a thief of a tenth of all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    reference: tuple[int, ...]
    smallest_tail: float
    limit: int | None
    noticed: tuple[Noticed, ...]


def measure_power(model: Model, profile: Profile, policy: Policy, inputs: Array, *, seed: int = 0) -> Power:
    """What `profile`, calibrated on rows of which `inputs` are some, can notice under `policy`."""
    rng = np.random.default_rng(seed)
    inputs = np.asarray(inputs)
    monitors = AccountMonitors.of(policy, profile, 1)
    bet = next(each for each in monitors.bets if isinstance(each, RankBet))
    weight = monitors.combined.weights[monitors.bets.index(bet)]
    some = inputs[rng.integers(len(inputs), size=MADE_ROWS)]
    ordinary = benign_cells(profile, bet)
    noticed = []
    for kind, make in invented_inputs(model.spec).items():
        made = within_range(make(some, rng), model.spec)
        outputs, _ = judged_batches(model, made)
        strange = profile.strangeness(made, outputs)
        strata = np.zeros(len(made), np.int64) if profile.strata is None else profile.strata.of(outputs)
        cells = np.array(bet.values(None, strange.tolist(), [""] * len(made), strata.tolist())[1], np.int64)
        for share in STOLEN_SHARES:
            queries = median_queries(bet, weight, ordinary, (cells, strata), share, rng)
            noticed.append(Noticed(kind=kind, share=share, queries=queries))
    sizes, risk = bet.part.sizes, bet.part.risk
    tail = rank_limits(sizes[0], risk * sizes[0] / sum(sizes))[0] if sizes[0] else 1.0
    limit = dilution_limit(tail, STOLEN_SHARES[-1])
    return Power(
        reference=sizes,
        smallest_tail=tail,
        limit=math.ceil(limit) if math.isfinite(limit) else None,
        noticed=tuple(noticed),
    )


def invented_inputs(spec: ModelSpec) -> dict[str, Callable[[Array, np.random.Generator], Array]]:
    """By kind how inputs that no patient has are made of ordinary ones, for a model of `spec`."""
    if spec.modality == "image":
        return {"noise": noise_like, "images without anatomy": scrambled_phases, "another scanner": other_scanner}
    return {
        "rows drawn from normals": lambda rows, rng: normal_rows(rows, len(rows), rng),
        "rows of shuffled columns": lambda rows, rng: shuffled_rows(rows, len(rows), rng),
        "another unit in one column": unit_changed,
    }


def noise_like(images: Array, rng: np.random.Generator) -> Array:
    """Uniform noise between the least and the largest value of ``images (n, C, H, W)``."""
    return rng.uniform(images.min(), images.max(), size=images.shape)


def scrambled_phases(images: Array, rng: np.random.Generator) -> Array:
    """The images with the phases of noise: their grain and smoothness without what they show."""
    spectrum = np.fft.fft2(images)
    phases = np.angle(np.fft.fft2(rng.normal(size=images.shape)))
    mean = images.mean(axis=(2, 3), keepdims=True)
    scrambled = np.fft.ifft2(np.abs(spectrum) * np.exp(1j * phases)).real
    return np.asarray(scrambled - scrambled.mean(axis=(2, 3), keepdims=True) + mean)


def other_scanner(images: Array, rng: np.random.Generator) -> Array:  # noqa: ARG001 (as every kind)
    """The images at half the contrast and a fifth of their range brighter: more than drift forgives."""
    low, high = images.min(), images.max()
    return np.asarray(low + 0.2 * (high - low) + 0.5 * (images - low))


def unit_changed(rows: Array, rng: np.random.Generator) -> Array:
    """The rows ``(n, d)`` with one column, another one in each, ten times as large."""
    changed = np.array(rows, np.float64)
    changed[np.arange(len(rows)), rng.integers(rows.shape[1], size=len(rows))] *= 10
    return changed


def within_range(made: Array, spec: ModelSpec) -> Array:
    """`made`, within the range that `spec` admits."""
    if spec.low is None and spec.high is None:
        return np.asarray(made, np.float32)
    return np.asarray(np.clip(made, spec.low, spec.high), np.float32)


def benign_cells(profile: Profile, bet: RankBet) -> tuple[Ints, Ints]:
    """The cells and strata ``(n,)`` of the calibration rows themselves."""
    reference = profile.screening
    strata = np.zeros(len(reference.scores), np.int64) if reference.strata is None else reference.strata
    strata = strata if len(bet.cuts) > 1 else np.zeros_like(strata)
    cells = bet.values(None, reference.scores.tolist(), [""] * len(strata), strata.tolist())[1]
    return np.array(cells, np.int64), np.asarray(strata, np.int64)


def median_queries(
    bet: RankBet,
    weight: float,
    ordinary: tuple[Ints, Ints],
    made: tuple[Ints, Ints],
    share: float,
    rng: np.random.Generator,
) -> int | None:
    """The median query at which accounts are noticed of whose queries a `share` is of `made`, else of `ordinary`.

    `weight` is the bet's part of the capital.
    """
    theirs = rng.random((ACCOUNTS, QUERIES)) < share
    new, old = (rng.integers(len(each[0]), size=theirs.shape) for each in (made, ordinary))
    cells, strata = (np.where(theirs, own[new], usual[old]) for own, usual in zip(made, ordinary, strict=True))
    needed = 1 / (ALPHA * weight)
    noticed, accounts = np.zeros(ACCOUNTS, bool), RankAccounts(bet.part, ACCOUNTS)
    for query in range(QUERIES):
        noticed |= accounts.step(cells[:, query], strata[:, query]) >= needed
        if 2 * noticed.sum() > ACCOUNTS:
            return query + 1
    return None


def dilution_limit(tail: float, share: float, alpha: float = ALPHA) -> float:
    """Queries that a bet on the smallest `tail` calibration bounds needs against a thief of a `share` of all queries.

    ln(1 / alpha) / KL(h || tail) with h how often the account is in that tail: the thief always, ordinary inputs as
    often as `_TAIL`. Infinite where that is no more often than calibration allows.
    """
    hit = share + (1 - share) * _TAIL
    if tail >= hit:
        return math.inf
    return math.log(1 / alpha) / (hit * math.log(hit / tail) + (1 - hit) * math.log((1 - hit) / (1 - tail)))


def power_words(power: Power) -> tuple[str, ...]:
    """What is noticed and when, a sentence for each kind of inputs."""
    return tuple(
        f"{kind}: noticed after {_queries(found[STOLEN_SHARES[0]])}; as a tenth of an account's after "
        f"{_queries(found[STOLEN_SHARES[1]])}"
        for kind, found in _by_kind(power).items()
    )


def power_cautions(power: Power | None) -> tuple[str, ...]:
    """What a calibration cannot notice, a sentence each, and what helps."""
    if power is None:
        return ("what this calibration can notice was never measured; protect the model again",)
    found = _by_kind(power)
    never = [kind for kind, queries in found.items() if queries[STOLEN_SHARES[0]] is None]
    hidden = [kind for kind, queries in found.items() if queries[STOLEN_SHARES[1]] is None and kind not in never]
    told = []
    if never:
        told.append(
            f"{' and '.join(never)} are not noticed within {QUERIES} queries even alone; "
            "what limits such thieves is [budget]"
        )
    if hidden:
        told.append(
            f"{' and '.join(hidden)} are not noticed within {QUERIES} queries as a tenth of an account's; "
            f"there are {sum(power.reference)} rows for comparison, and more would help"
        )
    return tuple(told)


def _by_kind(power: Power) -> dict[str, dict[float, int | None]]:
    kinds: dict[str, dict[float, int | None]] = {}
    for each in power.noticed:
        kinds.setdefault(each.kind, {})[each.share] = each.queries
    return kinds


def _queries(count: int | None) -> str:
    return f"more than {QUERIES} queries, if ever" if count is None else f"{count} queries"
