"""A fourth family of attacks touches its own folder, the table of families, and the suite."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from support.arrows import ROOT, copy

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
CHANGES = {
    "attacks/families.py": [
        ("(Evasion(), Extraction(), Membership())", "(Evasion(), Extraction(), Membership(), Tracing())"),
        (
            "from medward.attacks.validation.family import",
            "from medward.attacks.tracing.family import Tracing\nfrom medward.attacks.validation.family import",
        ),
    ],
    "attacks/suite.py": [
        ("        LossThreshold(),\n", "        LossThreshold(),\n        AnswerTracing(),\n"),
        (
            "from medward.attacks.whitebox.ball",
            "from medward.attacks.tracing.answers import AnswerTracing\nfrom medward.attacks.whitebox.ball",
        ),
    ],
}
NEW = {"attacks/tracing/family.py": FAMILY, "attacks/tracing/answers.py": ATTACK}
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
report = validate(bundle, splits, out, names=("tracing-answers",), progress=False)
finding = report.findings[0]
page = (out / "report.html").read_text()
print(json.dumps([finding.family, finding.measure, finding.status.value, "rows traced" in page, len(FAMILIES)]))
"""


def test_a_fourth_family_is_a_folder_and_two_rows(tmp_path):
    """Two new files and two rows: validated, judged and in the report; without the table's row it is refused."""
    copy(tmp_path)
    for file, text in NEW.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text.lstrip())
    plain = {file: (tmp_path / file).read_text() for file in CHANGES}
    for file, swaps in CHANGES.items():
        text = plain[file]
        for old, new in swaps:
            assert text.count(old) == 1, (file, old)
            text = text.replace(old, new)
        (tmp_path / file).write_text(text)
    assert len(NEW) + len(CHANGES) <= 4

    def validated(out):
        command = [sys.executable, "-c", VALIDATED, str(ROOT / "tests"), str(tmp_path / out)]
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)

    done = validated("out")
    assert done.returncode == 0, done.stderr
    family, measure, status, drawn, count = json.loads(done.stdout.splitlines()[-1])
    assert (family, measure, drawn, count) == ("tracing", "share of rows traced", True, 4)
    assert status == "BROKEN", "the golden guard answers most rows"
    (tmp_path / "attacks/families.py").write_text(plain["attacks/families.py"])
    refused = validated("no")
    assert refused.returncode != 0
    assert "family: there is no 'tracing'" in refused.stderr
