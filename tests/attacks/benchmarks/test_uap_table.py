"""The universal-perturbation table: what is counted, that nothing finished is lost, and mistakes said plainly."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.experiments.uap import cells as uap_cells
from medward.attacks.experiments.uap import run as uap_table
from medward.attacks.experiments.uap.cells import (
    CellMeasurement,
    Effort,
    Judged,
    harden_network,
    measure_cell,
    radius_of_zeta,
)
from medward.attacks.experiments.uap.run import Plan, plan_table, run_table
from medward.attacks.experiments.uap.tables import Cell, aggregate_cells, markdown_tables, summary_over_seeds
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden import Training

EFFORT = Effort(epochs=3, restarts=1, rows=40)
QUIET = Console(quiet=True)


def rows(n, seed, channels=3):
    """Class 1 is brighter; values from 0.3 to 0.7, one pixel of the last channel brighter still."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.uniform(0.3, 0.6, (n, channels, 16, 16)).astype(np.float32) + 0.1 * labels[:, None, None, None]
    images[:, -1, 0, 0] = 0.9
    return Split(images.astype(np.float32), labels)


@pytest.fixture
def task():
    splits = {name: rows(64, i) for i, name in enumerate(("train", "selection", "calibration", "test"))}
    return BenchmarkTask(
        name="light",
        modality="image",
        shape=(3, 16, 16),
        low=0.0,
        high=1.0,
        classes=("dark", "bright"),
        splits=splits,
        source="",
    )


class Brightness(nn.Module):
    """Logits from the mean brightness, cut at `cut`."""

    def __init__(self, cut):
        super().__init__()
        self.cut = nn.Parameter(torch.tensor(cut))

    def forward(self, x):
        excess = 50 * (x.mean((1, 2, 3)) - self.cut)
        return torch.stack([-excess, excess], dim=1)


@dataclass
class Counts:
    trained: int = 0
    measured: int = 0


@pytest.fixture
def small(task, monkeypatch):
    """A table of one task whose training takes no time; says what ran."""
    counts = Counts()

    def train(task, *, architecture, epochs, seed, device):
        counts.trained += 1
        torch.manual_seed(seed)
        return uap_table.build_network(architecture, task.shape, 2)

    def counted(*arguments, **settings):
        counts.measured += 1
        return measure_cell(*arguments, **settings)

    monkeypatch.setattr(uap_table, "BENCHMARK_TASKS", {"light": None, "lost": None})
    monkeypatch.setattr(uap_table, "load_task", lambda name, *, seed, size: found(name, task))
    monkeypatch.setattr(uap_table, "train_victim", train)
    monkeypatch.setattr(uap_table, "measure_cell", counted)
    return counts


def found(name, task):
    if name == "lost":
        raise MedwardError("lost.npz is missing: download it")
    return task


PLAN = Plan(
    tasks=("light",),
    architectures=("cnn",),
    effort=EFFORT,
    defenses=("undefended",),
    zetas=(1.0, 4.0),
    seeds=(0, 1, 2),
)


def test_the_radius_is_a_share_of_the_mean_largest_value_over_all_channels(task):
    assert radius_of_zeta(task, 4.0) == pytest.approx(0.04 * 0.9)
    assert radius_of_zeta(replace(task, low=-1.0), 4.0) == pytest.approx(0.04 * 1.9)


def test_a_perturbation_large_enough_wins_every_row_and_a_small_one_none(task):
    network = Brightness(0.5)
    large = measure_cell(network, task, attack="targeted", zeta=20.0, effort=EFFORT, seed=0)
    assert [(each.won, each.rows) for each in large.judged] == [(32, 32), (32, 32)]
    assert [each.fooled for each in large.judged] == [32, 32]
    assert [each.noise for each in large.judged] == [0, 0]
    assert (large.clean, large.under_noise) == (1.0, 1.0)
    assert [each.balanced for each in large.judged] == [0.5, 0.5]
    small = measure_cell(network, task, attack="nontargeted", zeta=0.1, effort=EFFORT, seed=0)
    assert [(each.goal, each.won, each.rows) for each in small.judged] == [(None, 0, 64)]


def test_rows_that_are_in_the_class_or_taken_for_it_count_for_no_targeted_success(task):
    always_bright = measure_cell(Brightness(0.0), task, attack="targeted", zeta=0.1, effort=EFFORT, seed=0)
    dark, bright = always_bright.judged
    assert (dark.rows, dark.won) == (32, 0)  # the bright ones; the dark ones are of that class
    assert (bright.rows, bright.won) == (0, 0)  # every row was taken for bright already


def test_a_finished_table_says_everything_and_is_not_run_again(small, tmp_path):
    entries = run_table(PLAN, tmp_path, console=QUIET, shown=False)
    assert (small.trained, small.measured) == (3, 12)
    assert [(entry.attack, entry.zeta, len(entry.seeds)) for entry in entries] == [
        ("nontargeted", 1.0, 3),
        ("targeted", 1.0, 3),
        ("nontargeted", 4.0, 3),
        ("targeted", 4.0, 3),
    ]
    assert entries[-1].epsilon_255 == pytest.approx(255 * 0.036)
    first = (tmp_path / "table.json").read_bytes()
    record = json.loads(first)
    assert len(record["entries"]) == 4
    assert set(record["entries"][1]["seeds"][0]["perturbations"][0]) == {"goal", "rate", "random", "fooled", "balanced"}
    assert "Rs 4%" in (tmp_path / "table.md").read_text()
    assert list((tmp_path / "networks").iterdir()) == []
    run_table(PLAN, tmp_path, console=QUIET, shown=False)
    assert (small.trained, small.measured) == (3, 12)
    assert (tmp_path / "table.json").read_bytes() == first


def test_a_killed_run_goes_on_where_it_stopped_without_training_again(small, tmp_path, monkeypatch):
    survived = uap_table.measure_cell

    def killed(*arguments, **settings):
        if small.measured == 6:
            raise KeyboardInterrupt
        return survived(*arguments, **settings)

    monkeypatch.setattr(uap_table, "measure_cell", killed)
    with pytest.raises(KeyboardInterrupt):
        run_table(PLAN, tmp_path, console=QUIET, shown=False)
    assert small.trained == 2
    monkeypatch.setattr(uap_table, "measure_cell", survived)
    resumed = run_table(PLAN, tmp_path, console=QUIET, shown=False)
    assert (small.trained, small.measured) == (3, 12)
    assert resumed == run_table(PLAN, tmp_path / "at once", console=QUIET, shown=False)


def test_another_effort_or_radius_is_another_cell(small, tmp_path):
    run_table(PLAN, tmp_path, console=QUIET, shown=False)
    run_table(replace(PLAN, effort=replace(EFFORT, epochs=4)), tmp_path, console=QUIET, shown=False)
    assert small.measured == 24
    run_table(replace(PLAN, zetas=(1.0, 2.0, 4.0)), tmp_path, console=QUIET, shown=False)
    assert small.measured == 30


def test_a_task_without_data_is_left_out_and_said_to_be(small, tmp_path):
    run_table(replace(PLAN, tasks=("lost", "light"), seeds=(0,)), tmp_path, console=QUIET, shown=False)
    assert "Left out: lost: lost.npz is missing" in (tmp_path / "table.md").read_text()
    assert json.loads((tmp_path / "table.json").read_text())["left_out"]["lost"].startswith("lost.npz")
    with pytest.raises(MedwardError, match=r"no task could be loaded: lost\.npz"):
        run_table(replace(PLAN, tasks=("lost",)), tmp_path, console=QUIET, shown=False)


@dataclass(frozen=True)
class Method:
    """Stands for a hardener: gives the network back and says how it was set."""

    epsilon: float = 0.1
    training: Training = field(default_factory=Training)

    def harden(self, network, train, selection, *, low, high, seed):
        network.settings = (self.epsilon, self.training.epochs, self.training.rate, low, high, seed)
        return self

    @property
    def network(self):
        return self


def test_a_defense_is_asked_for_the_radius_the_table_has_at_a_rate_the_network_bears(task, monkeypatch):
    monkeypatch.setitem(uap_cells.HARDENERS, "uat", Method())
    network = Brightness(0.5)
    harden_network(network, "uat", task, architecture="vit", epsilon=0.036, epochs=7, seed=5)
    assert network.settings == (0.036, 7, 1e-3, 0.0, 1.0, 5)
    assert harden_network(network, "undefended", task, architecture="vit", epsilon=0.036, epochs=7, seed=5) is network


def test_the_interval_over_seeds_is_students():
    over = summary_over_seeds([0.5, 0.6, 0.7])
    assert (over.mean, over.least, over.most) == pytest.approx((0.6, 0.5, 0.7))
    assert over.interval == pytest.approx((0.6 - 0.24841, 0.6 + 0.24841), abs=1e-4)
    assert summary_over_seeds([0.5]).interval is None
    assert summary_over_seeds([0.9, 1.0]).interval[1] == 1.0


def test_a_task_that_is_half_done_can_be_shown(small, tmp_path):
    entries = run_table(replace(PLAN, seeds=(0,)), tmp_path, console=QUIET, shown=False)
    assert "| cnn † |" in markdown_tables(entries, {})  # no training has taken place
    assert aggregate_cells([]) == []


def cell(defense, clean, seed=0, architecture="cnn", classes=("a", "b")):
    one = Judged(goal=None, rows=9, won=9, noise=0, fooled=9, total=9, balanced=0.5)
    measured = CellMeasurement(epsilon=0.04, clean=clean, under_noise=clean, judged=(one,))
    where = {"task": "light", "span": 1.0, "zeta": 4.0, "attack": "nontargeted", "classes": classes}
    return Cell(architecture=architecture, defense=defense, seed=seed, measured=measured, **where)


def test_a_network_at_chance_level_is_marked_whatever_its_defense_and_its_other_seeds():
    bad = [cell("undefended", 0.9), cell("undefended", 0.6, seed=1), cell("uat", 0.9)]
    good = [cell("undefended", 0.61, architecture="vit"), cell("uat", 0.5, architecture="vit")]
    entries = aggregate_cells(bad + good)
    assert [(entry.network, entry.chance) for entry in entries] == [
        ("cnn †", True),
        ("cnn †", True),
        ("vit", False),
        ("vit", False),
    ]
    assert "† The undefended network is at chance level" in markdown_tables(entries, {})
    assert "†" not in markdown_tables(aggregate_cells(good), {})
    assert [entry.chance for entry in aggregate_cells([cell("undefended", 0.6, classes="abc"), cell("pgd", 0.2)])] == [
        False
    ] * 2
    assert aggregate_cells([cell("uat", 0.5)])[0].chance is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tasks": ("mnist",)}, "task 'mnist' is not known; there are wdbc"),
        ({"architectures": ("alexnet",)}, "architecture 'alexnet' is not known"),
        ({"architectures": ()}, "architecture: name at least one"),
        ({"defenses": ("hope",)}, "defense 'hope' is not known; there are undefended, uat, pgd, trades, retraining"),
        ({"zetas": ("0",)}, "percentages above 0"),
        ({"zetas": ("nan",)}, "percentages above 0"),
        ({"zetas": ("few",)}, "percentages are needed, such as 1,2,4, got few"),
        ({"seeds": 0}, "seeds: at least 1"),
        ({"device": "abacus"}, "device 'abacus' cannot be used here"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_in_one_sentence(changed, said):
    with pytest.raises(MedwardError, match=said):
        plan_table("cpu", **changed)
