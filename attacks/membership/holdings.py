"""Whose membership is asked about, and which rows an attacker has besides: by splits alone, or by a coin flip."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medward.attacks.membership.pool import joined_rows
from medward.attacks.validation.family import NotTested
from medward.attacks.validation.splits import FEWEST_ROWS, SharedRows, divide_rows, halve_rows, row_patients, some_rows
from medward.guard.data.coin_flip import MembershipManifest
from medward.guard.data.overlap import measure_overlap
from medward.guard.data.split import Split

CANDIDATES, WRITTEN = 1000, 200  # of each kind, and where every answer is a text that has to be written
NO_COIN = (
    'No coin of ours was flipped before training: that the model was trained on "train", and that "holdout" was drawn '
    "alike and never seen, is taken on trust."
)

Holdings = tuple[Split, Split, Split, tuple[str, ...], tuple[str, ...]]
"""Members, non-members, shadow rows, flags and notes."""


def split_holdings(shared: SharedRows, most: int = CANDIDATES) -> Holdings | NotTested:
    """Members, non-members, shadow rows, flags and notes where only splits say who was trained on.

    At most `most` of each of the first two.
    """
    splits = shared.splits
    if reason := lacking_rows(splits):
        return NotTested(reason=reason)
    rng = np.random.default_rng(shared.seed)
    divide_rows(splits, rng)  # candidates are drawn after these
    first, second = halve_rows(splits["holdout"], rng)
    nonmembers = splits["holdout"].take(np.sort(first[:most]))
    members = some_rows(splits["train"], len(nonmembers), rng)
    notes = (NO_COIN, *_left_out(len(splits["train"]), len(first), most))
    return members, nonmembers, splits["holdout"].take(np.sort(second)), shared.copied, notes


def coin_holdings(manifest: MembershipManifest, shared: SharedRows, most: int = CANDIDATES) -> Holdings | NotTested:
    """The same where a coin flip said it before training.

    Rows with equals on both sides are no candidates, and a note counts them. Shadow rows are those of "holdout" that
    the coin was not flipped for, or else half of those held out.
    """
    splits = list(shared.splits.values())
    rows = joined_rows([split for split in splits if manifest.names(split.inputs).any()] or splits)
    inside, outside = manifest.sides(rows.inputs)
    mine, theirs = rows.take(np.flatnonzero(inside)), rows.take(np.flatnonzero(outside))
    shadow = _never_named(manifest, shared.splits.get("holdout"))
    rng = np.random.default_rng(shared.seed)
    if shadow is None and len(theirs):
        first, second = halve_rows(theirs, rng)
        theirs, shadow = theirs.take(np.sort(first)), theirs.take(np.sort(second))
    for what, some in (("trained on", mine), ("held out", theirs)):
        if len(some) < 2 * FEWEST_ROWS or some.labels is None:
            return NotTested(
                reason=f"not tested: of the rows that the membership manifest says were {what}, {len(some)} are in the "
                f"data, at least {2 * FEWEST_ROWS} with labels are needed; give the data that training was given."
            )
    assert shadow is not None  # rows held out were halved
    doubled = int((manifest.names(rows.inputs) & ~inside & ~outside).sum())
    note = f"{doubled} rows have exact copies on both sides of the coin flip, and were left out" if doubled else ""
    flags = (
        measure_overlap(mine, theirs).sentence("the candidates trained on", "those held out"),
        measure_overlap(mine, shadow).sentence("the candidates trained on", "the attacker's own rows"),
    )
    count = min(len(mine), len(theirs), most)
    given = some_rows(mine, count, rng), some_rows(theirs, count, rng), shadow
    notes = tuple(filter(None, (note, *_left_out(len(mine), len(theirs), most))))
    return *given, tuple(filter(None, flags)), notes


def _left_out(members: int, others: int, most: int) -> tuple[str, ...]:
    """A note where more candidates are there than are asked about."""
    if min(members, others) <= most:
        return ()
    return (
        f"Of {members} rows that were trained on and {others} that were not, {most} each were asked about, drawn at "
        "random: the interval is as wide as these make it.",
    )


def _never_named(manifest: MembershipManifest, holdout: Split | None) -> Split | None:
    """The rows of "holdout" that no coin was flipped for; None where they are too few."""
    if holdout is None:
        return None
    free = np.flatnonzero(~manifest.names(holdout.inputs))
    return holdout.take(free) if len(free) >= 2 * FEWEST_ROWS else None


def lacking_rows(splits: Mapping[str, Split]) -> str:
    """Why these splits do not let membership be tested; empty when they do."""
    for name, what in (
        ("train", "rows the model was trained on"),
        ("holdout", "rows from the same draw it never saw"),
    ):
        split = splits.get(name)
        if split is None:
            return (
                f'not tested: membership needs {what}; the data has no split "{name}" (or give --manifest '
                "membership.json of a training with a coin flip)."
            )
        if split.labels is None:
            return f'not tested: membership needs labels, the split "{name}" has none.'
        if (few := len(np.unique(row_patients(split)))) < 2 * FEWEST_ROWS:
            rows = "rows" if split.patients is None else "patients"
            return f'not tested: membership needs at least {2 * FEWEST_ROWS} {rows} in "{name}", got {few}.'
    return ""
