"""The demo's bundle and a universal perturbation of natural images: seen at its largest radius, missed at smaller ones.

The first release judged the largest radius alone and said HELD.
"""

import pytest

from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import train_victim
from medward.attacks.evasion import UniversalPerturbation
from medward.attacks.evasion.cell import EvasionCell
from medward.attacks.evasion.class_shares import by_class
from medward.attacks.evasion.family import Evasion
from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.intervals import clopper_pearson
from medward.attacks.target import Target, guarded_oracle
from medward.attacks.validation.gate import judge_cell
from medward.attacks.validation.splits import share_rows
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.accounts.stores import MemoryStore
from medward.guard.bundle.make import protect
from medward.guard.policy import Policy

POLICY = Policy(on_error="withhold")
ATTACK = UniversalPerturbation(epsilon=0.8, craft_on="pool").adaptive(POLICY)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Judge the attacker who knows the guard, all else being as it must be to hold."""
    task, folder = load_task("wdbc"), tmp_path_factory.mktemp("demo")
    bundle = protect(
        train_victim(task),
        task.splits["calibration"],
        POLICY,
        folder / "bundle",
        name=task.name,
        classes=task.classes,
        seed=0,
    )
    network, reason = white_box(
        folder / "bundle/model.onnx", bundle.model.predict, task.splits["calibration"].inputs[:32]
    )
    assert network is not None, reason
    data = share_rows(bundle.model, task.splits, seed=0).data

    def judge_adaptive():
        oracle = guarded_oracle(bundle.guard(store=MemoryStore(), ephemeral=True), fresh=True)
        target = Target(bundle.model.spec, oracle, ATTACK.threat, network=network, profile=bundle.profile)
        result = ATTACK.run(target, data, seed=0)
        adaptive = Evasion().achieved(result, 0)
        measured = EvasionCell(
            undefended=clopper_pearson(90, 100),
            baseline=clopper_pearson(1, 100),
            guarded=clopper_pearson(0, 100),
            adaptive=adaptive,
            classes={"adaptive": by_class(result.attempts, bundle.model.spec.task)},
            false_refusal=clopper_pearson(0, 400),
        )
        return adaptive, judge_cell(measured, POLICY.gate.evasion_success, POLICY.gate)[0].value

    return judge_adaptive


@pytest.mark.slow
def test_a_smaller_radius_inside_the_ball_passes_the_guard_that_sees_the_largest(judged, monkeypatch):
    monkeypatch.setattr(EvasionSetup, "flags", lambda *_, **__: ())
    adaptive, status = judged()
    assert status == "BROKEN"
    assert adaptive.value > 0.35
    monkeypatch.setattr("medward.attacks.evasion.setup.FACTORS", (1.0,))
    adaptive, status = judged()
    assert status == "HELD", "the control: the largest radius alone flatters"
    assert adaptive.high < 0.2
