"""A kill at any moment: training goes on, with the steps that were accounted and no other noise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.private_training import bright_images, class_losses, columns_of, small_cnn, with_settings

from medward.guard.errors import MedwardError
from medward.guard.harden.private.class_balance import counted_digest, recorded_shares
from medward.guard.harden.private.ledger import Ledger, LedgerEntry
from medward.guard.harden.private.training import train_privately

TESTS = Path(__file__).parents[3]
KILLED = """
import sys, time
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from support.private_training import bright_images, class_losses, columns_of, small_cnn, with_settings
from medward.guard.harden.private.training import train_privately
def slowly(module, rows):
    time.sleep(0.05)
    return class_losses(module, rows)
train_privately(small_cnn(), columns_of(bright_images(200, 0)), None, slowly,
    with_settings(checkpoint=Path({path!r}), save_every=3, noise_seed=None))
"""


def steps_of(path):
    return torch.load(path, weights_only=True)["step"] if path.exists() else -1


def state_of(module):
    return torch.cat([each.detach().reshape(-1) for each in module.parameters()])


def run(path, **changes):
    module = small_cnn()
    settings = with_settings(checkpoint=path, save_every=3, **changes)
    return train_privately(module, columns_of(bright_images(200, 0)), None, class_losses, settings)


def test_a_killed_training_goes_on_with_the_same_steps_epsilon_and_weights(tmp_path):
    path = tmp_path / "checkpoint"
    code = KILLED.format(tests=str(TESTS), root=str(TESTS.parent), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while steps_of(path) < 6 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    killed_at = steps_of(path)
    assert 6 <= killed_at < 24
    assert path.stat().st_mode & 0o777 == 0o600
    key = torch.load(path, weights_only=True)["key"]
    copied = tmp_path / "copied"
    copied.write_bytes(path.read_bytes())
    went_on, again = run(path, noise_seed=None), run(copied, noise_seed=None)
    whole = run(None)  # the plan of an uninterrupted one
    assert went_on.plan.mechanism == whole.plan.mechanism
    assert went_on.epsilon == whole.epsilon
    assert went_on.plan.mechanism.steps == steps_of(path) == 24
    assert torch.equal(state_of(went_on.module), state_of(again.module))  # the same noise, not another
    assert not torch.equal(state_of(went_on.module), state_of(whole.module))
    assert key.encode() not in path.read_bytes()


def test_going_on_gives_the_weights_of_a_training_that_was_never_stopped(tmp_path):
    path = tmp_path / "checkpoint"

    class StopError(Exception):
        pass

    def stop(done, total, epsilon):
        if done == 8:
            raise StopError

    settings = with_settings(checkpoint=path, save_every=3)
    with pytest.raises(StopError):
        train_privately(small_cnn(), columns_of(bright_images(200, 0)), None, class_losses, settings, progress=stop)
    assert steps_of(path) == 6
    told = []
    resumed = train_privately(
        small_cnn(),
        columns_of(bright_images(200, 0)),
        None,
        class_losses,
        settings,
        progress=lambda *each: told.append(each),
    )
    assert [each[0] for each in told] == [8, 12, 16, 20, 24]
    assert told[-1][2] == resumed.epsilon <= 8
    assert [each[2] for each in told] == sorted(each[2] for each in told)
    assert torch.equal(state_of(resumed.module), state_of(run(None).module))
    assert torch.equal(state_of(run(path).module), state_of(resumed.module))  # over: nothing runs again


@pytest.mark.parametrize("changes", [{"rate": 0.5}, {"clip": 2.0}, {"epochs": 7}, {"target_epsilon": 4.0}])
def test_a_checkpoint_of_another_training_is_refused(tmp_path, changes):
    run(tmp_path / "checkpoint")
    with pytest.raises(MedwardError, match="another training"):
        run(tmp_path / "checkpoint", **changes)


def test_other_rows_units_or_weights_are_another_training(tmp_path):
    path = tmp_path / "checkpoint"
    run(path)
    settings = with_settings(checkpoint=path, save_every=3)
    torch.manual_seed(5)
    other = small_cnn()
    with torch.no_grad():
        other[0].bias += 1
    rows = columns_of(bright_images(200, 0))
    for module, some, units in (
        (small_cnn(), columns_of(bright_images(200, 1)), None),
        (small_cnn(), rows, torch.arange(200) // 2),
        (other, rows, None),
    ):
        with pytest.raises(MedwardError, match="another training"):
            train_privately(module, some, units, class_losses, settings)


def test_a_file_that_is_no_ledger_is_refused_and_an_entry_is_read_back(tmp_path):
    path = tmp_path / "checkpoint"
    ledger = Ledger(path=path, plan={"steps": 3})
    assert ledger.read() is None
    ledger.write(LedgerEntry(step=2, key=b"\x01\xff", state={"w": torch.ones(2)}))
    read = ledger.read()
    assert (read.step, read.key) == (2, b"\x01\xff")
    assert torch.equal(read.state["w"], torch.ones(2))
    path.write_bytes(b"no file of torch")
    with pytest.raises(MedwardError, match="no checkpoint"):
        ledger.read()


def test_a_count_is_taken_up_again_only_for_the_same_units_labels_and_noise(tmp_path):
    path, y, owners = tmp_path / "shares", torch.tensor([0, 1, 1]), np.array([0, 0, 1])
    counted = counted_digest(y, owners, None)
    first = recorded_shares(path, counted, lambda: np.array([0.3, 0.7]))
    assert np.array_equal(first, recorded_shares(path, counted, lambda: np.array([0.5, 0.5])))  # counted once
    others = (y, np.arange(3), None), (y, owners, 1), (1 - y, owners, None)
    for other in others:  # of rows a patient of many rows is hidden by no noise for one, of a seed nobody is
        with pytest.raises(MedwardError, match="other rows, units or noise"):
            recorded_shares(path, counted_digest(*other), lambda: first)
