"""NVFlare's own simulator with our aggregator and without: one client sends x1000, another lies about its steps.

Needs NVFlare in an environment of its own, whose Python is named in MEDWARD_NVFLARE; Medward is found by PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from claim import Claim

from medward.guard.audit.log import read_log, verify_log
from medward.guard.errors import MedwardError
from medward.guard.federated.client_history import federation_history

CLAIMS = ("nvflare_simulator",)
MISSING = (
    "nvflare: make an environment with `python3 -m venv DIR && DIR/bin/pip install nvflare==2.9.0 pydantic` and set "
    "MEDWARD_NVFLARE to DIR/bin/python"
)
ROUNDS, SIZE, SEED = 6, 20, 0
CLIENT = """
import json, sys
from pathlib import Path
import numpy as np
import nvflare.client as flare
from nvflare.apis.fl_constant import FLMetaKey

out, attacked = Path(sys.argv[1]), sys.argv[2] == "attacked"
flare.init()
site = flare.get_site_name()
LIES = [float("nan"), float("inf"), -5, None, 1e12, "many"]
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    weights, number = model.params["numpy_key"], model.current_round
    if site == "site-1":
        np.save(out / f"{number}.npy", weights)
    chance = np.random.default_rng([int(site[-1]), number]).normal(size=weights.shape)
    step = (0.1 * (np.arange(len(weights)) / 10 - np.clip(weights, -9, 9)) + 0.01 * chance).astype(np.float32)
    steps = 10
    if attacked and site == "site-3":
        step = -1000 * step
    if attacked and site == "site-4":
        steps, step = LIES[number % len(LIES)], -3 * step
    elif site == "site-2":
        (out / f"{number}.json").write_text(json.dumps(float(np.linalg.norm(step))))
    meta = {} if steps is None else {FLMetaKey.NUM_STEPS_CURRENT_ROUND: steps}
    flare.send(flare.FLModel(params={"numpy_key": weights + step}, params_type="FULL", meta=meta))
"""
JOB = """
import sys
import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe import SimEnv

folder, who, rounds, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
guard = None
if who == "guarded":
    from medward.integrations.nvflare import GuardedModelAggregator
    guard = GuardedModelAggregator(folder=folder + "/log")
recipe = NumpyFedAvgRecipe(
    name="federation", model=np.zeros(size, np.float32), min_clients=4, num_rounds=rounds, aggregator=guard,
    train_script=folder + "/client.py", train_args=folder + (" honest" if who == "honest" else " attacked"),
)
recipe.execute(SimEnv(num_clients=4, workspace_root=folder + "/workspace"))
"""


def measure() -> Iterator[Claim]:
    """One claim: with our aggregator no round moves the model further than an honest client's own update."""
    python = os.environ.get("MEDWARD_NVFLARE")
    if not python or not Path(python).exists():
        raise MedwardError(MISSING)
    found = {who: run_simulator(python, who) for who in ("honest", "plain", "guarded")}
    guarded, refused = found["guarded"], found["guarded"]["refused"]
    every = guarded["rounds"] == ROUNDS and refused == {"site-4": ROUNDS}
    yield Claim(
        claim="nvflare_simulator",
        value=guarded["longest"],
        target=f"longest round at most 1 honest update; a step count that lies is refused in all {ROUNDS} rounds",
        met=guarded["longest"] <= 1 and every,
        n=ROUNDS,
        seed=SEED,
        details={**found, "clients": 4, "sends_1000_times": "site-3", "lies_about_steps": "site-4", "nvflare": "2.9.0"},
    )


def run_simulator(python: str, who: str) -> dict[str, Any]:
    """The longest round, in lengths of an honest update, of a federation in the simulator, and whom it refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "client.py").write_text(CLIENT)
        (folder / "job.py").write_text(JOB)
        root = str(Path(__file__).parents[2])
        done = subprocess.run(
            [python, "job.py", name, who, str(ROUNDS), str(SIZE)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            timeout=400,
        )
        if done.returncode:
            raise MedwardError(f"nvflare: the simulator failed: {done.stderr.strip().splitlines()[-1]}")
        models = [np.load(folder / f"{number}.npy") for number in range(ROUNDS)]
        honest = [json.loads((folder / f"{number}.json").read_text()) for number in range(ROUNDS)]
        moved = [float(np.linalg.norm(b - a)) for a, b in pairwise(models)]
        said: dict[str, Any] = {"longest": round(max(m / h for m, h in zip(moved, honest, strict=False)), 4)}
        said["error"] = round(float(np.linalg.norm(models[-1] - np.arange(SIZE) / 10)), 4)
        if who == "guarded":
            log = folder / "log" / "audit.jsonl"
            history = federation_history(read_log(log), str(log))
            said["rounds"] = verify_log(log).records
            said["refused"] = {n: len(each.refused) for n, each in history.clients.items() if each.refused}
        return said
