"""Calls of tritonclient and kserve to a live ``medward serve``: which are answered, or refused, as they should be.

They need an environment of their own, whose Python is named in MEDWARD_CLIENTS. Among the calls are such as must be
refused, and all of them are made once more with every answer withheld, when none that reads one may succeed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from claim import Claim
from support.journeys import CLASSES, OPEN, ROWS, from_torch
from support.processes import serving

from medward.guard.audit.log import read_log, verify_log
from medward.guard.bundle import folder as bundles
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.integrations.serving.keys import KeyStore

CLAIMS = ("foreign_clients",)
MISSING = (
    "foreign_clients: make an environment with `python3 -m venv DIR && DIR/bin/pip "
    "install 'tritonclient[http]==2.73.0' kserve==0.21.0 requests` and set MEDWARD_CLIENTS to DIR/bin/python"
)
SCRIPT = Path(__file__).parents[1] / "support" / "foreign_calls.py"
SCREENED = Policy.model_validate({**OPEN.model_dump(), "screen": {"rate": 0.1, "action": "withhold"}})
STARVED = Policy.model_validate({**OPEN.model_dump(), "release": {"level": "label"}})
STRANGE = [60.0, -60.0, 60.0, -60.0]
ANSWERED = 6


def measure() -> Iterator[Claim]:
    """Calls that answered as they should, of all; no call may leave another number of audit records than it asked."""
    python = os.environ.get("MEDWARD_CLIENTS")
    if not python or not Path(python).exists():
        raise MedwardError(MISSING)
    found, records = run_clients(python, SCREENED)
    calls, asking = found["calls"], found["asking"]
    wrong = {name: said for name, said in calls.items() if said}
    control = run_clients(python, STARVED)[0]["calls"]
    reading = [name for name in asking if "infer" in name or "predict" in name]
    fooled = [name for name in reading if not control[name] and name not in found["any_level"]]
    yield Claim(
        claim="foreign_clients",
        value=len(calls) - len(wrong),
        target=f"{len(calls)} of {len(calls)} calls, one audit record for each that asks, no success without scores",
        met=not wrong and records == found["asked"] and not fooled,
        n=len(calls),
        details={
            "wrong": wrong,
            "refused_as_they_should": sum("refused" in name for name in calls),
            "asking": len(asking),
            "asked": found["asked"],
            "audit_records": records,
            "read_an_answer_that_did_not_leave": fooled,
            "clients": found["clients"],
            "calls": [*calls],
        },
    )


def run_clients(python: str, policy: Policy) -> tuple[Mapping[str, Any], int]:
    """What each call came to against a server with `policy`, and how many answers its log holds, in a whole chain."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        exported = from_torch(folder)
        network = str(exported.bundle / "model.onnx")
        bundle = protect(network, Split(ROWS), policy, folder / "bundle", classes=CLASSES, output="logits").path
        loaded = bundles.load_bundle(bundle)
        keys = KeyStore(folder / "state" / "keys.json")
        ordinary = np.linalg.norm(ROWS, axis=1).argsort()[:ANSWERED]
        setting = {
            "model": loaded.model.spec.name,
            "version": loaded.digest[:12],
            "token": keys.add(("hospital-a", "key-1")),
            "watcher": keys.add(("operations",), scope="metrics"),
            "rows": ROWS[ordinary].tolist(),
            "own": exported.own[ordinary].tolist(),
            "strange": STRANGE,
        }
        with serving(bundle, folder, "--allow-origin", "https://viewer.example") as server:
            (folder / "setting.json").write_text(json.dumps(setting | {"url": server.url}))
            done = subprocess.run(
                [python, str(SCRIPT), str(folder / "setting.json")], capture_output=True, text=True, timeout=400
            )
        if done.returncode:
            raise MedwardError(f"foreign_clients: the calls failed: {done.stderr.strip().splitlines()[-1]}")
        log = folder / "state" / "audit.jsonl"
        verify_log(log)
        return json.loads(done.stdout), sum("query" in record for record in read_log(log))
