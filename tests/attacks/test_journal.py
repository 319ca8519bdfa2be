import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support.processes import kill_validation, runs_begun, start_validation
from validation_fakes import SPLITS, WEIGHTS, Scripted, deployment

from medward.attacks.base import AttackResult
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.journal import (
    Journal,
    code_version,
    data_digest,
    network_digest,
    pack_result,
    run_name,
    settings_of,
    unpack_result,
)
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.waiving import today_utc
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.waiver_policy import Waiver


def test_a_finished_run_is_recalled_and_not_run_again(tmp_path):
    runs = []
    journal = Journal(tmp_path)
    for expected in (False, True):
        outcome, recalled = journal.once({"seed": 1}, lambda: runs.append(1) or {"rate": 0.5})
        assert (outcome, recalled) == ({"rate": 0.5}, expected)
    assert len(runs) == 1
    _, recalled = Journal(tmp_path, resume=False).once({"seed": 1}, lambda: runs.append(1) or {"rate": 0.5})
    assert not recalled
    assert len(runs) == 2


def test_any_other_setting_is_another_run(tmp_path):
    journal = Journal(tmp_path)
    for seed in range(5):
        assert not journal.once({"seed": seed, "attack": {"epsilon": 0.1}}, lambda: 0)[1]
    assert not journal.once({"seed": 0, "attack": {"epsilon": 0.2}}, lambda: 0)[1]
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("damage", [lambda raw: raw[:-10], lambda raw: b"", lambda raw: raw.replace(b"0.25", b"0.75")])
def test_a_torn_or_altered_file_is_run_again(tmp_path, damage):
    journal = Journal(tmp_path)
    journal.once({"a": 1}, lambda: {"rate": 0.25})
    file = tmp_path / f"{run_name({'a': 1})}.json"
    file.write_bytes(damage(file.read_bytes()))
    outcome, recalled = journal.once({"a": 1}, lambda: {"rate": 0.5})
    assert not recalled
    assert outcome == {"rate": 0.5}
    assert journal.once({"a": 1}, lambda: None)[1], "the good file has replaced the bad one"


def test_no_flipped_bit_of_a_kept_run_is_believed(tmp_path):
    settings, outcome = {"seed": 3}, {"outcome": [1, 2, 3], "name": "x"}
    journal, key = Journal(tmp_path), run_name(settings)
    journal.keep(key, settings, outcome)
    file = tmp_path / f"{key}.json"
    raw = file.read_bytes()
    assert journal.recall(key) == outcome
    for position in range(len(raw)):
        flipped = raw[position] ^ 1 << position % 8
        file.write_bytes(raw[:position] + bytes([flipped]) + raw[position + 1 :])
        assert journal.recall(key) is None


def test_a_file_under_another_name_is_not_believed(tmp_path):
    journal = Journal(tmp_path)
    journal.once({"a": 1}, lambda: 1)
    (tmp_path / f"{run_name({'a': 1})}.json").rename(tmp_path / f"{run_name({'a': 2})}.json")
    assert journal.recall(run_name({"a": 2})) is None


def test_results_survive_the_disk_unchanged():
    result = AttackResult(
        outcome=np.array([True, False]),
        baseline=np.array([0.1, np.nan]),
        truth=np.array([True, False]),
        queries=7,
        gradients=9,
        flags=("odd",),
        curves={"roc": ([0.0, 1.0], [0.0, 1.0])},
        images={"perturbation": np.arange(6, dtype=np.float32).reshape(1, 2, 3)},
    )
    back = unpack_result(json.loads(json.dumps(pack_result(result))))
    np.testing.assert_array_equal(back.baseline, result.baseline)
    np.testing.assert_array_equal(back.images["perturbation"], result.images["perturbation"])
    assert back.outcome.dtype == bool
    assert (back.queries, back.gradients, back.flags) == (7, 9, ("odd",))
    assert dict(back.curves) == dict(result.curves)


def test_the_settings_of_an_attack_name_its_class_and_every_field():
    @dataclass(frozen=True)
    class Some:
        epsilon: float = 0.1

    assert settings_of(Some())["settings"] == {"epsilon": 0.1}
    assert "Some" in settings_of(Some())["class"]
    assert settings_of(Some(0.2)) != settings_of(Some())
    assert code_version() == code_version()


class Net(torch.nn.Module):
    """The model as a network; `scale` is a plain attribute, `shift` a buffer that is not saved."""

    def __init__(self, scale=1.0, shift=0.0, weights=WEIGHTS):
        super().__init__()
        self.scale = scale
        self.weights = torch.nn.Parameter(torch.as_tensor(weights))
        self.register_buffer("shift", torch.tensor(shift), persistent=False)

    def forward(self, x):
        return x @ self.weights * self.scale + self.shift


SETTINGS = {"policy": Policy(on_error="withhold"), "splits": SPLITS, "attack": Scripted(), "network": None, "seed": 0}
HOLDOUT = SPLITS["holdout"]


def with_holdout(**change):
    return {"splits": {**SPLITS, "holdout": replace(HOLDOUT, **change)}}


def renamed():
    """The calibration rows of one run are the holdout rows of another."""
    return {"splits": {("calibration" if name == "holdout" else name): split for name, split in SPLITS.items()}}


OTHER = {
    "bundle digest": {"digest": "cd" * 32},
    "policy": {"policy": Policy(on_error="flag")},
    "data values": with_holdout(inputs=HOLDOUT.inputs * 1.01),
    "labels": with_holdout(labels=1 - HOLDOUT.labels),
    "no labels": with_holdout(labels=None),
    "patients": with_holdout(patients=np.arange(len(HOLDOUT))),
    "split name": renamed(),
    "a network": {"network": Net()},
    "code version": {"code_version": lambda: "0" * 16},
    "library versions": {"version": lambda name: "0.0"},
    "seed": {"seed": 1},
}


@pytest.fixture
def runs(tmp_path, monkeypatch, without_page):
    """Validate in one folder with some settings changed; gives the attack's runs and the kept runs so far."""
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 5)
    bundle = deployment()

    def validated(**change):
        used = {**SETTINGS, **{key: value for key, value in change.items() if key in SETTINGS}}
        attack = replace(used["attack"], counter=str(tmp_path / "count"))
        with monkeypatch.context() as patched:
            for name in {"code_version", "version"} & change.keys():
                patched.setattr(f"medward.attacks.validation.run.{name}", change[name])
            changed = replace(bundle, policy=used["policy"], digest=change.get("digest", bundle.digest))
            run_validation(
                Deployment(bundle=changed, network=used["network"]),
                used["splits"],
                tmp_path / "out",
                attacks=[attack],
                seed=used["seed"],
                progress=False,
            )
        return len((tmp_path / "count").read_text().splitlines()), len(list((tmp_path / "out/cells").iterdir()))

    return validated


@pytest.mark.parametrize("what", OTHER)
def test_no_run_is_recalled_once_anything_it_depends_on_has_changed(runs, what):
    assert runs() == (3, 5)
    assert runs() == (3, 5), "unchanged, every run is recalled"
    assert runs(**OTHER[what]) == (6, 10)
    assert runs() == (6, 10)


def test_what_a_site_lives_with_changes_no_run(runs):
    assert runs() == (3, 5)
    waiver = Waiver(attack="scripted", reason="reviewed by the board", by="Dr. Ada Example", until=today_utc())
    accepting = SETTINGS["policy"].model_copy(update={"accept": (waiver,)})
    assert runs(policy=accepting) == (3, 5)
    assert runs(policy=accepting.model_copy(update={"on_error": "flag"})) == (6, 10), "the control"


def test_other_settings_of_the_attack_leave_only_what_benign_users_pay(runs):
    assert runs() == (3, 5)
    assert runs(attack=Scripted(free=0.9)) == (6, 8)


OTHER_NETWORKS = {
    "weights": Net(weights=WEIGHTS * 1.0001),
    "plain attribute": Net(scale=2.0),
    "unsaved buffer": Net(shift=1e-6),
    "class": torch.nn.Sequential(Net()),
}


@pytest.mark.parametrize("what", OTHER_NETWORKS)
def test_another_network_is_another_run(runs, what):
    assert runs(network=Net()) == (3, 5)
    assert runs(network=Net()) == (3, 5), "an equal network is the same run"
    assert runs(network=OTHER_NETWORKS[what]) == (6, 10)


def test_a_network_without_parameters_has_a_name_and_no_network_has_none():
    rows = np.ones((2, 6), np.float32)
    assert network_digest(torch.nn.Flatten(), rows) != network_digest(torch.nn.Tanh(), rows)
    assert network_digest(None, rows) is None


def test_the_data_is_named_by_who_holds_which_rows():
    inputs, labels = np.ones((3, 2), np.float32), np.zeros(3, np.int64)
    first, second = Split(inputs, labels), Split(inputs * 0, labels)
    names = {
        data_digest({"calibration": first, "test": second}),
        data_digest({"holdout": first, "test": second}),
        data_digest({"holdout": second, "test": first}),
        data_digest({"holdout": Split(inputs, None, labels), "test": second}),
        data_digest({"holdout": Split(inputs, labels, labels), "test": second}),
    }
    assert len(names) == 5


def settled(report: Report) -> list:
    """The findings without the one thing that is a stopwatch reading."""
    return [finding.model_copy(update={"clean_cost": None}) for finding in report.findings]


def test_a_validation_killed_half_way_goes_on_and_ends_the_same(tmp_path):
    out, straight = tmp_path / "killed", tmp_path / "straight"
    killed = kill_validation(out, after=4)
    assert 3 <= killed.finished <= killed.begun < 9
    assert not (out / "report.json").exists()

    assert start_validation(out).wait(60) == 0
    assert runs_begun(out) == killed.begun + 9 - killed.finished, "only what was not finished is run"
    assert all((out / "cells" / name).read_bytes() == raw for name, raw in killed.cells.items())

    assert start_validation(straight).wait(60) == 0
    assert runs_begun(straight) == 9
    assert settled(Report.load(out / "report.json")) == settled(Report.load(straight / "report.json"))


def test_an_outcome_with_numbers_for_keys_is_recalled(tmp_path):
    """5 sorts before 10, and "10" before "5"."""
    journal, runs = Journal(tmp_path), []
    outcomes = [
        journal.once({"seed": 1}, lambda: runs.append(1) or {"rates": {5: 0.5, 10: 0.25}, "pair": (1, 2)})
        for _ in range(2)
    ]
    assert len(runs) == 1
    assert outcomes == [({"rates": {"5": 0.5, "10": 0.25}, "pair": [1, 2]}, recalled) for recalled in (False, True)]
