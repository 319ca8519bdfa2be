"""What CONTRIBUTING.md says of adding something is all there is to it: a toy is added to a copy and works there."""

from __future__ import annotations

import json

from support.arrows import ROOT
from support.extending import Checkout, code_block

MONITOR = '''"""Level: a toy monitor of how far the mean of an input lies from that of benign ones."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medward.guard.monitors.base import BenignRows, BetSettings, Monitor, Observations, PlainBet
from medward.guard.monitors.score_reference import ScoreReference
from medward.guard.policy import Policy
from medward.guard.types import Array, Outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelReference:
    """How far the means of benign rows lie from zero."""

    reference: ScoreReference

    @classmethod
    def fit(cls, rows: BenignRows) -> "LevelReference":
        return cls(reference=ScoreReference.fit(_levels(rows.reference[0]), rows.strata))

    def see(self, inputs: Array, outputs: Outputs) -> Array:
        return _levels(inputs)

    def at_risk(self, risk: float, strata: int) -> "LevelReference":
        return replace(self, reference=self.reference.at_risk(risk, strata))

    def arrays(self) -> dict[str, Any]:
        return dict(self.reference.named("scores", "strata"))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "LevelReference | None":
        return cls(reference=ScoreReference.read(arrays, "scores", "strata")) if arrays else None


def _levels(inputs: Array) -> Array:
    return np.round(np.abs(inputs.reshape(len(inputs), -1).mean(axis=1, dtype=np.float64)), 4)


def _observed(fitted: LevelReference, seen: Array, policy: Policy) -> Observations:
    return {LEVEL.name: fitted.reference.p_values(seen)}


def _bet(fitted: LevelReference, settings: BetSettings) -> PlainBet:
    return fitted.reference.bet(LEVEL.name, settings)


LEVEL = Monitor(
    name="level",
    share=0.05,
    source="level",
    prefix="level.",
    fit=LevelReference.fit,
    read=LevelReference.from_arrays,
    observe=_observed,
    bet=_bet,
)
'''
JOURNEY = """
import json, sys
import numpy as np
from pathlib import Path
from sklearn.linear_model import LogisticRegression
from medward.guard.audit.log import AuditLog, read_log
from medward.guard.audit.replay import replay_log
from medward.guard.bundle.folder import load_bundle
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.types import Query
import medward.guard.monitors.table as table

rng, folder = np.random.default_rng(0), Path(sys.argv[1])
benign = rng.normal(size=(600, 4)).astype(np.float32)
model = LogisticRegression().fit(benign, benign[:, 0] > 0)
protect(model, Split(benign), Policy(on_error="withhold"), folder / "bundle", classes=["no", "yes"])
bundle = load_bundle(folder / "bundle")
guard = bundle.guard(audit=AuditLog(folder / "log"))
for i in range(12):
    guard.answer(Query(principal=("clinic", "doctor"), inputs=rng.normal(size=(1, 4))))
    guard.answer(Query(principal=("clinic", "thief"), inputs=rng.normal(size=(1, 4)) + 2.5))
records = list(read_log(folder / "log"))
replayed = replay_log(records, [bundle.policy], bundle.profile)
bets = {}
for record in records:
    bets.setdefault(record["principal"], []).extend(record["bets"][record["principal"]].get("level", ()))
shares = records[-1]["verdicts"][-1]["evidence"]
print(json.dumps({"file": table.__file__, "bets": bets, "share": shares.get("share:level"),
                  "verdicts": replayed.verdicts, "restarts": dict(replayed.restarts)}))
"""


def asked(checkout, folder):
    """What the journey prints; its last line is JSON."""
    folder.mkdir()
    done = checkout.run("-c", JOURNEY, str(folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_monitor_contract_is_what_contributing_shows():
    assert code_block("Adding a monitor") in (ROOT / "guard/monitors/base.py").read_text()


def test_a_toy_monitor_needs_three_files_and_then_bets_is_recorded_and_replays(tmp_path):
    (tmp_path / "checkout").mkdir()
    checkout = Checkout.of(tmp_path / "checkout")
    before = asked(checkout, tmp_path / "before")  # the control: nobody knows of it
    assert not any(before["bets"].values())
    assert before["share"] is None
    assert checkout.changed() == []

    checkout.add("guard/monitors/level.py", MONITOR)
    checkout.edit(
        "guard/monitors/table.py",
        {
            "from medward.guard.monitors.noise_residuals": (
                "from medward.guard.monitors.level import LEVEL\nfrom medward.guard.monitors.noise_residuals"
            ),
            "    PROBING,\n)": "    PROBING,\n    LEVEL,\n)",
        },
    )
    contract = "tests/contracts/test_monitor_contract.py"
    checkout.edit(contract, {"NOTICED = {\n": 'NOTICED = {\n    "level": RNG.normal(size=(400, 3)) + 3,\n'})
    assert checkout.changed() == ["guard/monitors/level.py", "guard/monitors/table.py", contract]

    found = asked(checkout, tmp_path / "after")
    assert found["file"].startswith(str(tmp_path))
    assert len(found["bets"]["clinic/doctor"]) == len(found["bets"]["clinic/thief"]) == 12
    assert min(found["bets"]["clinic/thief"]) < 1
    assert 0 < found["share"] < 1
    assert (found["verdicts"], found["restarts"]) == (48, {})

    held = checkout.run("-m", "pytest", "-q", "-p", "no:cacheprovider", contract, "-k", "level or every_monitor")
    assert held.returncode == 0, held.stdout + held.stderr
    assert "8 passed" in held.stdout
