"""What CONTRIBUTING.md says of adding something is all there is to it: a toy is added to a copy and works there."""

from __future__ import annotations

import json

import pytest
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
guard = bundle.guard(audit=AuditLog(folder / "log"), ephemeral=True)
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
    assert "2 passed" in held.stdout


RANDOM_CORNERS = '''"""Random corners: a toy attack that keeps, of many random changes, the one nearest to success."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medward.attacks.evasion.per_image import WhiteBox, noisy_rows
from medward.attacks.evasion.tallies import Tally
from medward.attacks.whitebox.ascent import Ascent, loss_and_gradient
from medward.attacks.whitebox.search import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCorners(WhiteBox):
    """Random corners: of `tries` random changes of the full radius, each row keeps the one nearest to success."""

    tries: int = 30

    @property
    def technique(self) -> str:
        """``random-corners``."""
        return "random-corners"

    @property
    def effort(self) -> int:
        """Changes that are tried."""
        return self.tries

    def search(self, search: Search, x: Tensor, y: Tensor) -> Ascent:
        """The best of the tries; no gradient is used."""
        tally, loss = Tally(x, stop=search.stop), search.criterion.losses["margin"]
        for _ in range(0 if search.ball.empty else self.tries):
            rows = tally.standing
            if not len(rows):
                break
            noise = search.ball.surface(tuple(x[rows].shape), search.generator)
            point = noisy_rows(search.ball, x[rows], noise)
            seen = loss_and_gradient(search, point, y[rows], loss=loss, climb=False)
            tally.add(rows, Ascent(point, seen.win, seen.value, history=[float(seen.win.float().mean())]))
        return tally.best
'''

FAMILY = '''
"""Tracing as a family: whether a model tells which hospital an image is from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from medward.attacks.base import Attack, AttackData, AttackResult
from medward.attacks.intervals import Interval, rate_interval
from medward.attacks.target import Target
from medward.attacks.threat import ThreatModel
from medward.attacks.validation.deployment import Deployment, queried_target
from medward.attacks.validation.family import CurvePlot, Runs
from medward.attacks.validation.finding import Arm, Controls, Finding
from medward.attacks.validation.gate import NO_ROW, JudgedCell
from medward.attacks.validation.record import Provenance
from medward.attacks.validation.splits import SharedRows
from medward.guard.policy import GatePolicy

TRACED = 0.5
"""What the lower end must exceed on the undefended model before a cell counts."""


@dataclass(frozen=True, kw_only=True)
class TracingCell(JudgedCell):
    """A tracing cell holds shares of rows whose hospital was told."""

    def words(self, value: float) -> str:
        """A share of rows."""
        return f"{value:.1%} of rows traced"

    def too_weak(self) -> tuple[str, ...]:
        """It must trace half of the rows."""
        if self.undefended is None:
            return (NO_ROW,)
        return () if self.undefended.low > TRACED else (f"It traces {self.undefended.low:.1%} of rows at least.",)


@dataclass(frozen=True, slots=True)
class Tracing:
    """Tracing is judged by the share of rows whose hospital was told."""

    name: ClassVar[str] = "tracing"
    measure: ClassVar[str] = "share of rows traced"
    judged_as: ClassVar[str] = "share of rows traced"
    gate_keys: ClassVar[tuple[str, ...]] = ("evasion_success",)
    share: ClassVar[bool] = True
    claim: ClassVar[str] = ""
    untested: ClassVar[str] = "Which hospital an image is from."
    reading: ClassVar[tuple[str, str]] = ("Traced", "the attacker said which hospital a row is from.")
    controls: ClassVar[Controls] = {"MITRE ATLAS": ("AML.T0024",)}

    def bound(self, gate: GatePolicy) -> float:
        """As for rows fooled."""
        return gate.evasion_success

    def holdings(self, deployment: Deployment, shared: SharedRows) -> AttackData:
        """What most attackers hold."""
        return replace(shared.data, flags=(*shared.copied, *shared.tested))

    def target(self, deployment: Deployment, arm: Arm, attack: Attack, data: AttackData) -> Target:
        """The deployed model, or its guard."""
        return queried_target(deployment, arm, attack)

    def achieved(self, result: AttackResult, seed: int) -> Interval | None:
        """The share of rows traced."""
        return rate_interval(result.outcome) if len(result.outcome) else None

    def judge(self, runs: Runs) -> TracingCell:
        """The share traced on each arm."""
        arms = {arm: self.achieved(result, runs.seed) for arm, result in runs.results.items()}
        return TracingCell(
            undefended=arms["undefended"], guarded=arms.get("guarded"), adaptive=arms.get("adaptive")
        )

    def without_network(self, threat: ThreatModel, why: str) -> tuple[ThreatModel, Controls]:
        """As declared: nobody here needs the network."""
        return threat, self.controls

    def show(self, finding: Finding, facts: Provenance) -> CurvePlot:
        """Rows traced over what was asked."""
        return CurvePlot(
            title=f"{finding.attack}: rows traced", caption="Higher is worse.", x="rows asked", y="rows traced"
        )

    def absent(self, findings: Sequence[Finding], facts: Provenance) -> list[str]:
        """None."""
        return []
'''
ATTACK = '''
"""Tracing by the answer alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.target import Target
from medward.guard.policy import Policy


@dataclass(frozen=True, kw_only=True)
class AnswerTracing:
    """Says of every answered row that it is from here."""

    name: str = "tracing-answers"
    family: ClassVar[str] = "tracing"

    @property
    def threat(self) -> ThreatModel:
        """Labels, from one account."""
        return ThreatModel(access=Access.LABELS, knowledge="nothing")

    def adaptive(self, policy: Policy) -> AnswerTracing:
        """The same attacker: it has nothing to adapt."""
        return self

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Ask once about every row."""
        told = target.query(data.test.inputs).labels >= 0
        return AttackResult(outcome=told, queries=target.queries, curves={"attack": ([1.0, 2.0], [0.0, 1.0])})
'''
VALIDATED = """
import json, sys
from pathlib import Path
from medward.attacks.families import FAMILIES
from medward.attacks.validate import validate
from medward.guard.bundle.folder import load_bundle
sys.path.insert(0, sys.argv[1])
from golden import make
from medward.guard.data.split import Split
splits = {name: Split(*make.rows(n, seed)) for seed, (name, n) in enumerate((("train", 120), ("test", 80)))}
bundle, out = load_bundle(Path(sys.argv[1]) / "golden/bundle"), Path(sys.argv[2])
report = validate(bundle, splits, out, names=sys.argv[3:], progress=False)
finding = report.findings[0]
page = (out / "report.html").read_text()
print(json.dumps([finding.family, finding.measure, finding.status.value, "rows traced" in page, len(FAMILIES)]))
"""


def validated(checkout, out, names):
    """What validating the golden bundle in the checkout says; a finding a line of JSON."""
    return checkout.run("-c", VALIDATED, str(ROOT / "tests"), str(out), *names)


@pytest.mark.slow
def test_a_toy_attack_needs_three_files_and_is_then_held_to_the_contract_and_run_by_name(tmp_path):
    (tmp_path / "checkout").mkdir()
    checkout = Checkout.of(tmp_path / "checkout")
    unknown = validated(checkout, tmp_path / "none", ["random-corners"])  # the control: nobody knows of it
    assert unknown.returncode != 0
    assert "there is no 'random-corners'" in unknown.stderr

    checkout.add("attacks/evasion/random_corners.py", RANDOM_CORNERS)
    checkout.edit(
        "attacks/suite.py",
        {
            "from medward.attacks.extraction import (": (
                "from medward.attacks.evasion.random_corners import RandomCorners\n"
                "from medward.attacks.extraction import ("
            ),
            "        FGSM(epsilon=epsilon),\n": (
                "        FGSM(epsilon=epsilon),\n        RandomCorners(epsilon=epsilon),\n"
            ),
        },
    )
    contract = "tests/attacks/evasion/test_evasion_tasks.py"
    row = '    "random-corners": RandomCorners(epsilon=RADIUS, tries=600),\n'
    checkout.edit(
        contract,
        {
            "QUICK = {\n": f"QUICK = {{\n{row}",
            "from medward.attacks.evasion.setup": (
                "from medward.attacks.evasion.random_corners import RandomCorners\nfrom medward.attacks.evasion.setup"
            ),
        },
    )
    assert checkout.changed() == ["attacks/evasion/random_corners.py", "attacks/suite.py", contract]
    held = checkout.run("-m", "pytest", "-q", "-p", "no:cacheprovider", contract, "-k", "beats_noise and corners")
    assert held.returncode == 0, held.stdout + held.stderr
    assert "4 passed" in held.stdout
    done = validated(checkout, tmp_path / "out", ["random-corners"])
    assert done.returncode == 0, done.stderr
    family, measure, *_ = json.loads(done.stdout.splitlines()[-1])
    assert (family, measure) == ("evasion", "share of rows fooled, plain or balanced")


def test_a_toy_family_needs_four_files_and_is_then_validated_judged_and_shown(tmp_path):
    (tmp_path / "checkout").mkdir()
    checkout = Checkout.of(tmp_path / "checkout")
    checkout.add("attacks/tracing/family.py", FAMILY.lstrip())
    checkout.add("attacks/tracing/answers.py", ATTACK.lstrip())
    checkout.edit(
        "attacks/suite.py",
        {
            "        *default_membership(spec),\n": "        *default_membership(spec),\n        AnswerTracing(),\n",
            "from medward.attacks.whitebox.ball": (
                "from medward.attacks.tracing.answers import AnswerTracing\nfrom medward.attacks.whitebox.ball"
            ),
        },
    )
    refused = validated(checkout, tmp_path / "no", ["tracing-answers"])  # the control: not in the table
    assert refused.returncode != 0
    assert "family: there is no 'tracing'" in refused.stderr
    checkout.edit(
        "attacks/families.py",
        {
            "Audit(), Disclosure())": "Audit(), Disclosure(), Tracing())",
            "from medward.attacks.validation.family import": (
                "from medward.attacks.tracing.family import Tracing\nfrom medward.attacks.validation.family import"
            ),
        },
    )
    assert len(checkout.changed()) == 4
    done = validated(checkout, tmp_path / "out", ["tracing-answers"])
    assert done.returncode == 0, done.stderr
    family, measure, status, drawn, count = json.loads(done.stdout.splitlines()[-1])
    assert (family, measure, drawn, count) == ("tracing", "share of rows traced", True, 6)
    assert status == "BROKEN", "the golden guard answers most rows"


def test_the_family_contract_is_what_contributing_shows():
    shown = code_block("Adding a family")
    protocol = (ROOT / "attacks/validation/family.py").read_text()
    assert shown.strip()
    for line in filter(None, map(str.strip, shown.splitlines())):
        assert line.removesuffix(" ...") in protocol, line


def test_the_attack_contract_is_what_contributing_shows():
    for line in filter(None, map(str.strip, code_block("Adding an attack").splitlines())):
        assert line in (ROOT / "attacks/evasion/per_image.py").read_text(), line
