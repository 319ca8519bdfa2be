"""The kinds of model that hospitals deploy: how many are served otherwise than they decide, or refused as a riddle."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from claim import Claim
from support.model_kinds import KINDS, attacked, tried

CLAIMS = ("model_kinds_wrong_or_bad", "model_kinds_white_box")


def measure() -> Iterator[Claim]:
    """Protect each kind and compare; then attack those that have gradients."""
    found = {name: _in_a_folder(tried, name) for name in KINDS}
    bad = {name: came for name, came in found.items() if came not in ("served", "refused")}
    yield Claim(
        claim="model_kinds_wrong_or_bad",
        value=len(bad),
        target="0 kinds accepted and served otherwise than they decide, or refused without naming kind and remedy",
        met=not bad,
        n=len(KINDS),
        details={"kinds": found},
    )
    known = {name: _in_a_folder(attacked, name) for name, kind in KINDS.items() if kind.white_box}
    by_transfer = {name: came for name, came in known.items() if not came.startswith("white-box")}
    yield Claim(
        claim="model_kinds_white_box",
        value=len(by_transfer),
        target="0 differentiable kinds attacked by transfer only",
        met=not by_transfer,
        n=len(known),
        details={"by transfer": by_transfer},
    )


def _in_a_folder(trial: object, name: str) -> str:
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(trial(KINDS[name], Path(folder)))  # type: ignore[operator]
