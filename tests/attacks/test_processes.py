"""Models trained side by side are those trained one after the other, and recipes nobody can find stay here."""

from __future__ import annotations

import multiprocessing
import os
import subprocess

import numpy as np
import pytest
import torch
from support.shadow_recipes import failing_apart, seeded_linear

from medward.attacks.learners.processes import train_all
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError

PARTS = [Split(np.full((3, 2), place, np.float32), np.zeros(3, np.int64)) for place in range(6)]
SEEDS = list(range(6))


def weights(networks):
    return [torch.cat([each.weight.flatten(), each.bias]).tolist() for each in networks]


@pytest.fixture
def no_process(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


def test_processes_make_the_same_models_in_the_same_order_on_one_thread_each():
    here = train_all(seeded_linear, PARTS, SEEDS, processes=1)
    apart = train_all(seeded_linear, PARTS, SEEDS, processes=2, worth=0.0)
    assert weights(apart) == weights(here)
    assert {each.threads for each in [*here, *apart]} == {1}
    assert {each.process for each in here} == {os.getpid()}
    assert apart[0].process == os.getpid()
    assert len({each.process for each in apart}) == 3


def test_what_a_process_died_of_is_said():
    with pytest.raises(MedwardError, match=r"last words: ValueError: seed \d is unlucky"):
        train_all(failing_apart, PARTS, SEEDS, processes=2, worth=0.0)


def test_what_fails_here_is_raised_as_it_is():
    with pytest.raises(ValueError, match="unlucky"):
        train_all(failing_apart, PARTS, SEEDS, processes=1)


@pytest.mark.usefixtures("no_process")
def test_quick_models_start_no_process():
    assert len(train_all(seeded_linear, PARTS, SEEDS, processes=2)) == 6


@pytest.mark.usefixtures("no_process")
def test_a_recipe_without_a_name_is_trained_here():
    assert len(train_all(lambda rows, seed: seeded_linear(rows, seed), PARTS, SEEDS, processes=2, worth=0.0)) == 6


@pytest.mark.usefixtures("no_process")
def test_a_recipe_of_the_running_script_is_trained_here(monkeypatch):
    monkeypatch.setattr(seeded_linear, "__module__", "__main__")
    monkeypatch.setattr("__main__.seeded_linear", seeded_linear, raising=False)
    assert len(train_all(seeded_linear, PARTS, SEEDS, processes=2, worth=0.0)) == 6


@pytest.mark.usefixtures("no_process")
def test_a_daemonic_process_starts_no_other(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert len(train_all(seeded_linear, PARTS, SEEDS, processes=2, worth=0.0)) == 6


def test_the_number_of_threads_is_as_before(monkeypatch):
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="unlucky"):
        train_all(failing_apart, PARTS, SEEDS, processes=1)
    assert torch.get_num_threads() == before
