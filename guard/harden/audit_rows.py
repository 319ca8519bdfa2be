"""What is arranged before private training so that it can be audited afterwards: canaries, and candidates held out.

Both are drawn by coins, so that afterwards chance is all that an auditor has to rule out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from medward.guard.data.canaries import make_canaries
from medward.guard.data.coin_flip import flip_coins
from medward.guard.data.split import Split, log
from medward.guard.errors import MedwardError
from medward.guard.harden.private.method import PrivateTraining

CANARIES, MANIFEST = "canaries.npz", "membership.json"
"""The canaries with the truth of their coins, and who was held out of training: files to be kept private."""
_CANARY_SEED, _COIN_SEED = 303, 404  # added to the user's seed: they draw apart from all else


def arrange_audit(
    method: PrivateTraining, train: Split, selection: Split, *, canaries: int, candidates: int | None, seed: int
) -> tuple[PrivateTraining, Split]:
    """`method` with so many new `canaries`, and `train` less half of about `candidates` rows (None: all stay).

    Patients are held out whole, and the method keeps the manifest. Canaries are trained on and the extremes of train
    are somebody's, so they reach as far as `selection` does. Raises `MedwardError` for too few of either.
    """
    if canaries < 0 or (candidates is not None and candidates < 1):
        raise MedwardError(
            f"canaries and candidates: must be at least 0 and 1, got {canaries} and {candidates}; leave out what is "
            "not wanted"
        )
    if candidates is not None:
        flip = flip_coins(train, candidates=candidates, seed=seed + _COIN_SEED)
        log.info("coin flip: %d of %d rows are held out of training, for an audit", len(flip.held_out), len(train))
        if candidates > len(train):
            log.warning("candidates: %d were asked for and there are %d rows; all are taken", candidates, len(train))
        method, train = replace(method, manifest=flip.manifest), train.take(flip.training)
    if canaries:
        made = make_canaries(selection, canaries, np.random.default_rng(seed + _CANARY_SEED))
        log.info("canaries: %d of %d made-up rows are trained on, for an audit", int(made.included.sum()), canaries)
        method = replace(method, canaries=made)
    return method, train


def write_audit(method: PrivateTraining, folder: Path) -> tuple[str, ...]:
    """Write what audits of `method` need into `folder`; the names of the files."""
    written = []
    if method.canaries is not None:
        method.canaries.save(folder / CANARIES)
        written.append(CANARIES)
    if method.manifest is not None:
        (folder / MANIFEST).write_text(method.manifest + "\n", encoding="utf-8")
        written.append(MANIFEST)
    return tuple(written)
