"""A number told as a cell alone is not a number: an attack must not climb away from an invented one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.evasion.asking import clean_rows, without_gradients
from medward.attacks.extraction.judge import CloneJudge
from medward.attacks.target import Response
from medward.attacks.validate import validate
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.number_change import NumberChange
from medward.attacks.whitebox.search import Search
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy, ReleasePolicy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.regression import Regression
from medward.guard.threat_policy import ThreatPolicy

RNG = np.random.default_rng(0)
TASK = Regression(tolerance=1.0, cut_points=(50.0,))
FAR = ThreatPolicy(table=1.0)  # so far that a search without gradients wins rows, too
SPEC = ModelSpec(name="m", modality="tabular", shape=(6,), task=TASK)


def sums(bias):
    net = nn.Linear(6, 1)
    nn.init.ones_(net.weight)
    nn.init.constant_(net.bias, bias)
    return net.eval()


def test_a_hidden_number_is_the_models_own_where_that_is_known_and_else_untold():
    told = Response(np.array([1, 1, 0]), np.array([[80.0], [np.nan], [np.nan]]), "values")
    y, untold = clean_rows(told, NumberChange(TASK), "cpu")
    assert y[0] == 80
    assert untold.tolist() == [False, True, True]
    y, untold = clean_rows(told, NumberChange(TASK), "cpu", np.array([[81.0], [70.0], [3.0]]))
    assert y.tolist() == [80.0, 70.0, 3.0]
    assert not untold.any()


def test_a_row_that_did_not_move_is_no_win_however_it_was_told():
    criterion, y = NumberChange(TASK), torch.tensor([80.0, 80.0, 3.0])
    scores = torch.tensor([[80.0], [torch.nan], [torch.nan]])
    assert not criterion.answered(scores, torch.tensor([1, 1, 0]), y).any()
    assert criterion.answered(scores, torch.tensor([1, 0, 1]), y).tolist() == [False, True, True]


@pytest.mark.parametrize(
    "level", ["label", *(pytest.param(level, marks=pytest.mark.slow) for level in ("rounded", "full"))]
)
def test_behind_cells_alone_an_attack_fools_no_fewer_rows_than_noise(level, tmp_path):
    x = (RNG.normal(size=(900, 6)) + np.where(RNG.random((900, 1)) < 0.5, 0.6, -0.6)).astype(np.float32)
    net = sums(50.0)
    truth = x.sum(axis=1) + 50.0
    policy = Policy(on_error="withhold", release=ReleasePolicy(level=level), threat=FAR)
    made = protect(
        net, Split(x[:600], truth[:600]), policy, tmp_path / "b", task="regression", tolerance=3.0, cut_points=(50.0,)
    )
    splits = {"train": Split(x[600:750], truth[600:750]), "test": Split(x[750:], truth[750:])}
    finding = validate(made, splits, tmp_path / "r", names=["pgd"], progress=False).findings[0]
    assert finding.undefended.value > 0.9
    assert finding.guarded.value > finding.baseline.value
    assert finding.guarded.value > 0.5  # whatever is shown, the cut is near


@pytest.mark.parametrize("bias", [100.0, -100.0])
def test_a_search_without_gradients_reads_numbers_of_either_sign(bias):
    net, x = sums(bias), torch.as_tensor(RNG.normal(size=(8, 6)), dtype=torch.float32)
    search = Search(
        network=net, criterion=NumberChange(TASK), ball=Ball.of(SPEC, x.numpy(), 0.5), generator=torch.Generator()
    )
    scores, labels = without_gradients(search).ask(x)
    assert (labels == (1 if bias > 0 else 0)).all()
    assert torch.isfinite(scores).all()


def test_who_stole_nothing_answers_the_number_that_most_are_the_same_as():
    task = Regression(tolerance=1.0, cut_points=(10.0, 20.0))
    values = np.concatenate([np.linspace(0, 9, 40), np.full(50, 25.0), np.linspace(11, 19, 40)])[:, None]
    spec = ModelSpec(name="m", modality="tabular", shape=(1,), task=task)
    rows = Split(np.zeros((len(values), 1), np.float32))
    judge = CloneJudge(AttackData(craft=rows, test=rows, reference=task.decide(values), outputs=values), spec)
    judge.note(1, None, None)
    assert judge.baseline.mean() == pytest.approx(50 / len(values))


def test_an_opaque_model_is_attacked_with_the_gradients_of_its_file(tmp_path):
    """What its user's function says of a mask changes far more often than by noise, white-box and not by transfer."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 8)).eval()
    x = np.random.default_rng(0).normal(size=(800, 6)).astype(np.float32)
    policy = Policy(on_error="withhold", threat=FAR)
    made = protect(net, Split(x[:600]), policy, tmp_path / "b", task="opaque")

    def positive(outputs):
        return (outputs[:, 0] > 0).astype(np.int64)

    splits = {"train": Split(x[600:650]), "test": Split(x[650:770])}
    report = validate(made, splits, tmp_path / "r", names=["pgd"], decide=positive, progress=False)
    finding = report.findings[0]
    assert finding.threat.knowledge.startswith("white-box")
    assert finding.undefended.value > finding.baseline.value + 0.2
