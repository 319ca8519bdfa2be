"""What each thief asks of an undefended victim, in order; kept outside the repository, for some take a while."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from stealing.scene import TASK
from stealing.watched import victim

from medward.attacks import extraction
from medward.attacks.base import AttackData
from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.attacks.extraction import (
    DFME,
    ActiveThief,
    AdaptivePool,
    Alignment,
    CopyCat,
    Disagreement,
    Jacobian,
    RandomPool,
    SemiSupervised,
    Strategy,
    Theft,
)
from medward.attacks.target import Response, Target, open_oracle
from medward.guard.data.split import Split
from medward.guard.types import Array

NATURAL = "knockoff"
THIEVES: dict[str, Strategy] = {
    NATURAL: RandomPool(),
    "copycat": CopyCat(),
    "activethief": ActiveThief(),
    "adaptive-pool": AdaptivePool(),
    "alignment": Alignment(),
    "dfme": DFME(),
    "disagreement": Disagreement(),
    "jbda": Jacobian(),
    "semi-supervised": SemiSupervised(),
}
ORDERLESS = (
    NATURAL,
    "copycat",
    "semi-supervised",
)  # choose without a clone: any stretch is as good
INSIDE = ("semi-supervised",)  # asks rows of the same distribution: expected never to be flagged
SEEDS, BUDGET, POINTS, EPOCHS, POOL = 5, 1000, 5, 10, 2000

SCRATCH = Path(tempfile.gettempdir()) / "medward-stealing"
"""Recordings, and what came of finished draws; named by what they depend on, so that nothing stale is read."""


def recorded(thief: str, number: int) -> Array:
    """What `thief` asked the undefended victim, in order ``(<= BUDGET, *shape)``; one of `SEEDS` recordings."""
    seed = number % SEEDS
    return _recorded(thief, seed)


@cache
def _recorded(thief: str, seed: int) -> Array:
    model, task = victim(TASK)
    points, epochs = (1, 1) if thief in ORDERLESS else (POINTS, EPOCHS)
    theft = Theft(strategy=THIEVES[thief], queries=BUDGET, points=points, epochs=epochs)
    probe = model.predict(task.splits["test"].inputs[:32]).scores.tobytes()
    path = SCRATCH / f"asked-{thief}-{seed}-{named(repr(theft), probe, sources_of(extraction))}.npy"
    if not path.exists():
        asked: list[Array] = []
        oracle = open_oracle(model)

        def listen(inputs: Array) -> Response:
            asked.append(np.array(inputs))
            return oracle(inputs)

        theft.run(Target(model.spec, listen, theft.threat), holdings(thief, seed), seed=seed)
        keep(path, lambda file: np.save(file, np.concatenate(asked)))
    return np.asarray(np.load(path))


def holdings(thief: str, seed: int) -> AttackData:
    """Natural images, and for in-distribution rows a split that neither the victim, guard nor traffic has."""
    _, task = victim(TASK)
    own = Split(task.splits["selection"].inputs, None)
    pool = natural_images(POOL, task.shape, seed=1000 * (1 + list(THIEVES).index(thief)) + seed)
    return AttackData(craft=own, test=own.take(slice(0, 10)), pool=pool, reference=np.zeros(10, np.int64))


def named(*parts: str | bytes) -> str:
    """Twelve hex digits for `parts`."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode() if isinstance(part, str) else part)
    return sha.hexdigest()[:12]


def sources_of(package: Any) -> bytes:
    """The code of `package`."""
    return b"".join(path.read_bytes() for path in sorted(Path(next(iter(package.__path__))).rglob("*.py")))


def finished(name: str, key: str, make: Callable[[], Any]) -> Any:
    """What `make` makes, as JSON; from the scratch folder when it is there under this `name` and `key`."""
    path = SCRATCH / f"{name}-{key}.json"
    if not path.exists():
        made = make()
        keep(path, lambda file: file.write(json.dumps(made).encode()))
    return json.loads(path.read_text())


def keep(path: Path, write: Callable[[Any], Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        write(file)
    part.replace(path)
