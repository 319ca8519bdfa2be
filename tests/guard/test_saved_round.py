"""A round on disk is the one that was saved, whole, whatever happened to its writer."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.federated.aggregator import FederationState
from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.guard.federated.saved_round import load_round, save_round

NUMBERS = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.bool_])
MODELS = st.lists(
    NUMBERS.flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_dims=3))), max_size=4
)


def judged(rounds=3, seed=0):
    records = {}
    for _ in range(rounds):
        drawn = np.random.default_rng(seed).normal(size=(4, 5)) / 3
        seen = {f"client {place}": {"change": row} for place, row in enumerate(drawn)}
        records, _ = RobustFedDetect().judge(records, seen)
    return FederationState(round=rounds, records=records)


def same(one, other):
    return len(one) == len(other) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(one, other, strict=True)
    )


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"a round cannot be saved here: .*; give a folder"):
        save_round(tmp_path / "file", judged(), [np.arange(6.0)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(model=MODELS, change=st.none() | MODELS.filter(bool), rounds=st.integers(1, 4), seed=st.integers(0, 99))
def test_what_is_loaded_is_what_saving_returned_and_the_arrays_are_those_given(tmp_path, model, change, rounds, seed):
    summed = {} if change is None else {"client 1": change, "client 0": model}
    summed = {name: each for name, each in summed.items() if each}
    state = replace(judged(rounds, seed), previous=change, sums=summed)
    saved = save_round(tmp_path, state, model)
    loaded = load_round(tmp_path)
    assert same(loaded.parameters, model)
    assert same(loaded.state.previous or [], change or [])
    assert list(loaded.state.sums) == list(summed)
    assert all(same(loaded.state.sums[name], each) for name, each in summed.items())
    assert loaded.state.to_json() == saved.state.to_json()
    assert loaded.state.round == rounds
    again = save_round(tmp_path, loaded.state, loaded.parameters)
    assert again.state.to_json() == loaded.state.to_json()


def test_where_nothing_was_saved_there_is_nothing(tmp_path):
    assert load_round(tmp_path) is None
    assert load_round(tmp_path / "none") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_no_byte_changes_unnoticed(tmp_path, place, flip):
    save_round(tmp_path, judged(), [np.arange(6.0)])
    path = tmp_path / "round.bin"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= flip
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"round\.bin: its bytes are not those that were saved"):
        load_round(tmp_path)


def test_a_file_cut_short_is_refused(tmp_path):
    save_round(tmp_path, judged(), [np.arange(6.0)])
    path = tmp_path / "round.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        load_round(tmp_path)


def test_objects_are_refused_and_the_round_before_stays(tmp_path):
    save_round(tmp_path, judged(1), [np.zeros(2)])
    with pytest.raises(MedwardError, match="model/0: is an array of objects"):
        save_round(tmp_path, judged(2), [np.array([object()])])
    assert load_round(tmp_path).state.round == 1


WRITER = """
import sys
import numpy as np
from medward.guard.federated.aggregator import FederationState
from medward.guard.federated.saved_round import save_round
for number in range(1, 100_000):
    save_round(sys.argv[1], FederationState(round=number), [np.full(50_000, float(number))])
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_round_no_older_than_it_acknowledged(tmp_path):
    root = Path(__file__).resolve().parents[2]
    for pause in (0.0, 0.003, 0.011):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
        )
        first = int(writer.stdout.readline())
        time.sleep(pause)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = [first, *map(int, writer.stdout.read().split())]
        writer.stdout.close()
        writer.wait()
        kept = load_round(tmp_path)
        assert kept.state.round in (acknowledged[-1], acknowledged[-1] + 1)
        assert (kept.parameters[0] == kept.state.round).all()
