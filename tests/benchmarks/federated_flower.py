"""The guard around Flower's strategies, in real processes whose server is killed and in Flower's simulation engine.

Flower has an environment of its own (make test-flower). MEDWARD_FLOWER names its Python; for the simulation that also
needs ray: pip install -c constraints-flower.txt 'flwr[simulation]'.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from claim import Claim

from medward.guard.errors import MedwardError

CLAIMS = ("flower_processes", "flower_simulation")

ROOT = Path(__file__).resolve().parents[2]
LEAST = 0.01  # of the total weight is what malicious clients may keep


def measure() -> Iterator[Claim]:
    """Both journeys."""
    found = journey("processes")
    shares = found["weights_of_the_attacker"]
    yield Claim(
        claim="flower_processes",
        value=shares[-1],
        target="an attacker among 4 real processes ends with at most 1 % of the weight, only it is suspected, and a "
        "server that was killed ends with bitwise the same weights as one that was not",
        met=shares[-1] <= LEAST < shares[0] and found["suspects"] == ["hospital-3"] and found["same_weights"],
        n=len(shares),
        details=found,
    )
    found = journey("simulation")
    shares = found["weights_of_the_malicious"]
    yield Claim(
        claim="flower_simulation",
        value=shares[-1],
        target="10 malicious among 100 clients of the simulation engine end with at most 1 % of the weight, and no "
        "honest client is suspected",
        met=shares[-1] <= LEAST < shares[0] and found["clients"] == 100 and not found["honest_suspected"],
        n=found["clients"],
        details=found,
    )


def journey(name: str) -> dict[str, Any]:
    """What `support.flower_journey` finds in Flower's environment; raises `MedwardError` where there is none."""
    python = os.environ.get("MEDWARD_FLOWER", str(ROOT / ".venv-flower" / "bin" / "python"))
    if not Path(python).exists():
        raise MedwardError(
            f"{python}: there is no Python of Flower's; run make test-flower, or name one in MEDWARD_FLOWER"
        )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": path, "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [python, "-m", "support.flower_journey", name], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MedwardError(f"journey {name}: failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
