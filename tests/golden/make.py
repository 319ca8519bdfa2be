"""Make the golden files anew: ``python tests/golden/make.py``, only for a change of behaviour that was meant.

A bundle as it lies on a hospital's disk, an audit log written through it, and what validating and serving it said. They
were made once and are read ever after: the bundle must load, the log must replay, findings and schemas stay the same.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient

HERE = Path(__file__).parent
ATTACKS = ("uap", "knockoff-hard", "membership-loss")
SALT = b"golden"


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A table with two correlated columns and labels with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    return x.astype(np.float32), (x[:, 0] + x[:, 2] + 0.7 * rng.normal(size=n) > 0).astype(np.int64)


def findings(bundle: Any) -> str:
    """What validating the bundle finds, without the pictures and what a clock measured."""
    from medward.attacks.validate import validate
    from medward.guard.data.split import Split

    splits = {
        name: Split(*rows(n, seed)) for seed, (name, n) in enumerate((("train", 120), ("holdout", 120), ("test", 80)))
    }
    with TemporaryDirectory() as folder:
        report = validate(bundle, splits, Path(folder), names=ATTACKS, seed=3, progress=False)
    unlike = {"images": True, "clean_cost": {"latency", "latency_ratio"}}
    found = [finding.model_dump(mode="json", exclude=unlike) for finding in report.findings]
    return json.dumps(_rounded(found), indent=1, sort_keys=True) + "\n"


def schemas(folder: Path) -> str:
    """What the endpoint says of itself, and its answers to one query of each protocol."""
    from medward.integrations.serving import load_app
    from medward.integrations.serving.keys import KeyStore

    with TemporaryDirectory() as state:
        token = KeyStore(Path(state) / "keys.json").add(("clinic", "key-1"))
        head = {"Authorization": f"Bearer {token}"}
        one = [[0.1, 0.2, 0.3, 0.4, 0.5]]
        tensor = {"name": "inputs", "shape": [1, 5], "datatype": "FP32", "data": one[0]}
        with TestClient(load_app(folder, state=Path(state)), headers=head) as client:
            said = {
                "openapi": client.get("/openapi.json").json(),
                "predict": _without_id(client.post("/v1/predict", json={"inputs": one}).json()),
                "infer": _without_id(client.post("/v2/models/golden/infer", json={"inputs": [tensor]}).json()),
                "model": client.get("/v2/models/golden").json(),
                "refused": _without_id(client.post("/v1/predict", json={"inputs": [[1, 2]]}).json()),
            }
    return json.dumps(_rounded(said), indent=1, sort_keys=True) + "\n"


def asked(bundle: Any, log: Path) -> str:
    """The answers of a guard that writes `log`: a clinic, and a thief who asks for noise until it is withheld."""
    from medward.guard.accounts.stores import MemoryStore
    from medward.guard.audit.log import AuditLog
    from medward.guard.types import Query

    guard = bundle.guard(store=MemoryStore(), audit=AuditLog(log, fsync=False), salt=SALT, clock=lambda: 1.79e9)
    noise = np.random.default_rng(9).uniform(-4, 4, size=(40, 5)).astype(np.float32)
    said = []
    for name, inputs in (("clinic", rows(40, 7)[0]), ("thief", noise)):
        for i, row in enumerate(inputs):
            answer = guard.answer(Query(principal=("hospital", name), inputs=row[None], id=f"{name}-{i}"))
            said.append(
                {"labels": answer.labels.tolist(), "level": answer.levels[0].label, "scores": _plain(answer.scores)}
            )
    return json.dumps(_rounded(said), indent=1) + "\n"


def _plain(scores: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(each) else float(each) for each in row] for row in scores]


def _without_id(value: Any) -> Any:
    """JSON without the identifiers that every answer has of its own."""
    if isinstance(value, dict):
        return {name: _without_id(each) for name, each in value.items() if name not in ("id", "answer", "instance")}
    return [_without_id(each) for each in value] if isinstance(value, list) else value


def _rounded(value: Any) -> Any:
    """Floats to 9 digits: enough to be the same number, and no more than other processors agree on."""
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    """Write every golden file."""
    from medward.guard.bundle.make import protect
    from medward.guard.data.split import Split
    from medward.guard.policy import Policy

    model = LogisticRegression().fit(*rows(120, 0))
    shutil.rmtree(HERE / "bundle", ignore_errors=True)
    benign = Split(*rows(400, 5))
    names = ["benign", "malignant"]
    bundle = protect(model, benign, Policy(on_error="withhold"), HERE / "bundle", classes=names, name="golden")
    (HERE / "findings.json").write_text(findings(bundle))
    (HERE / "schemas.json").write_text(schemas(HERE / "bundle"))
    (HERE / "audit.jsonl").unlink(missing_ok=True)
    (HERE / "answers.json").write_text(asked(bundle, HERE / "audit.jsonl"))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))  # before tests/, or tests/guard would pass for guard
    main()
