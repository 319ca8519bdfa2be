"""Decisions kept by every release level; flipped bytes, hostile requests and kill -9 survived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from claim import Claim
from schemathesis import GenerationMode
from starlette.testclient import TestClient
from support.fuzz import KINDS, PREDICTS, Endpoint, statuses
from support.journeys import ROWS, Protected, from_boosting, from_callable, from_torch, importable
from support.processes import (
    kill_under_load,
    kill_validation,
    lost_records,
    runs_begun,
    serving,
    start_validation,
)
from support.release import ReleaseLevels
from support.tamper import unnoticed_in_bundle, unnoticed_in_log

from medward.guard.release.quantise import Prototypes
from medward.guard.release.scores import largest_classes
from medward.guard.types import Array, Level
from medward.integrations.serving import load_app

CLAIMS = ("argmax_preserved", "tamper", "fuzz", "kill")

SEED = 0
CLASSES, DECIMALS = (2, 3, 10), range(1, 7)
TOP, CODES = 2, 8
ROWS_EACH = 4000  # per number of classes, kind of score and spread
FLIPS = 3000  # per file, where it is longer
EXAMPLES = 150  # per operation and mode
KILL_SERVING = (20, 60, 120)  # answers after which the server is killed
KILL_VALIDATION = (2, 4, 7)  # runs of nine begun when the validation is killed
RUNS = 9


def measure() -> Iterator[Claim]:
    """Argmax, tampering, fuzzing, kill -9."""
    yield argmax_preserved()
    yield tamper()
    yield fuzz()
    yield kill()


def argmax_preserved() -> Claim:
    """Random scores with ties and near-ties through every level at every number of decimals."""
    rng = np.random.default_rng(SEED)
    changed: Counter[str] = Counter()
    plain = n = 0
    for classes, spread in product(CLASSES, (0.01, 1.0, 30.0)):
        logits = tied(rng.normal(size=(ROWS_EACH, classes)) * spread, rng)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        likely = powers / powers.sum(axis=1, keepdims=True)
        for decimals in DECIMALS:
            plain += int((largest_classes(np.round(likely, decimals)) != largest_classes(likely)).any(axis=1).sum())
        codebook = Prototypes.fit(likely, CODES)
        for output, scores in (("logits", logits), ("probabilities", likely)):
            for decimals, level in product(DECIMALS, Level):
                filter_ = ReleaseLevels(output=output, decimals=decimals, top=TOP, codebook=codebook)
                n += len(scores)
                changed[level.label] += int(violations(filter_, scores, level).sum())
    total = sum(changed.values())
    return Claim(
        claim="argmax_preserved",
        value=total,
        target="0 sets of winning classes changed, at any level",
        met=total == 0,
        n=n,
        seed=SEED,
        details={
            "changed_per_level": dict(changed),
            "changed_by_plain_rounding": plain,
            "decimals": list(DECIMALS),
            "classes": CLASSES,
        },
    )


def tied(scores: Array, rng: np.random.Generator) -> Array:
    """A third of the rows gets two equal largest classes, a third two that differ in the last bit."""
    order = np.argsort(scores, axis=1)
    rows = np.arange(len(scores))
    best, other = order[:, -1], order[:, -2]
    kind = rng.integers(0, 3, len(scores))
    top = scores[rows, best]
    scores[rows, other] = np.choose(kind, [scores[rows, other], top, np.nextafter(top, -np.inf)])
    return scores


def violations(filter_: ReleaseLevels, scores: Array, level: Level) -> np.ndarray:
    """Per row: other winners or, at levels without scores, another label or any score at all?

    Codes may leave a row without scores: its classes tie, or there is no code for its class.
    """
    released = filter_.release(scores, level)
    if level < Level.LABEL:
        moved = (largest_classes(np.nan_to_num(released, nan=-np.inf)) != largest_classes(scores)).any(axis=1)
        return moved & ~np.isnan(released).all(axis=1) if level is Level.CODES else moved
    return ~np.isnan(released).all(axis=1) | ~largest_classes(scores)[np.arange(len(scores)), filter_.labels(scores)]


def tamper() -> Claim:
    """One byte flipped in every file of an ONNX, a skops and a callable bundle, and of an audit log."""
    rng = np.random.default_rng(SEED)
    found: dict[str, tuple[int, int]] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        makers = {"torch": from_torch, "skops": from_boosting, "callable": from_callable}
        protected: dict[str, Protected] = {kind: make(folder) for kind, make in makers.items()}
        for kind, each in protected.items():
            with importable(folder):
                flips = unnoticed_in_bundle(each.bundle, FLIPS, rng)
            found |= {f"{kind}: {file}": counts for file, counts in flips.items()}
        app = load_app(protected["torch"].bundle, state=folder / "state", anonymous=True)
        with TestClient(app) as client:
            for row in ROWS[:10]:
                client.post("/v1/predict", json={"inputs": [row.tolist()]}).raise_for_status()
        found["audit log"] = unnoticed_in_log(folder / "state/audit.jsonl", FLIPS, rng)
    missed = sum(each[1] for each in found.values())
    return Claim(
        claim="tamper",
        value=missed,
        target="0 flipped bytes not refused with the file or record named",
        met=missed == 0,
        n=sum(each[0] for each in found.values()),
        seed=SEED,
        details={"flips_and_missed": found},
    )


def fuzz() -> Claim:
    """Requests made from the endpoint's own schema, allowed and forbidden, to a table and an image model."""
    seen: Counter[int] = Counter()
    operations = set()
    with TemporaryDirectory() as name:
        for kind in KINDS:
            endpoint = Endpoint(kind, Path(name))
            for path, operation in endpoint.operations().items():
                operations.add(path)
                modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if path in PREDICTS else [])]
                for mode in modes:
                    seen += statuses(operation, endpoint.token(path), mode, examples=EXAMPLES)
    errors = sum(count for status, count in seen.items() if status >= 500)
    return Claim(
        claim="fuzz",
        value=errors,
        target="0 answers of status 5xx",
        met=errors == 0 and seen[200] > 0 and seen[422] > 0,
        n=seen.total(),
        seed=SEED,
        details={"statuses": dict(sorted(seen.items())), "operations": sorted(operations)},
    )


def kill() -> Claim:
    """kill -9 of a server under load and of a validation half way, each several times."""
    served, validated = [], []
    with TemporaryDirectory() as name:
        bundle = from_torch(Path(name)).bundle
        for after in KILL_SERVING:
            folder = Path(name) / f"served-{after}"
            folder.mkdir()
            with serving(bundle, folder) as server:
                acknowledged = kill_under_load(server, ROWS[:3], after=after)
            served.append({"acknowledged": len(acknowledged), "lost": lost_records(server.state, acknowledged)})
        for after in KILL_VALIDATION:
            out = Path(name) / f"validated-{after}"
            killed = kill_validation(out, after=after)
            code = start_validation(out).wait(120)
            again = runs_begun(out) - killed.begun - (RUNS - killed.finished)
            validated.append({"finished": killed.finished, "run_again": again, "exit_code_after": code})
    lost = sum(each["lost"] for each in served) + sum(each["run_again"] for each in validated)
    whole = all(each["exit_code_after"] == 0 for each in validated)
    return Claim(
        claim="kill",
        value=lost,
        target="0 acknowledged audit records lost and 0 finished cells run again",
        met=lost == 0 and whole,
        n=len(served) + len(validated),
        details={"serving": served, "validation": validated},
    )
