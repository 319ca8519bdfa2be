"""Real processes over the network's loopback: a poisoned federation finishes, and a server that was killed goes on."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr", reason="needs Flower, which has an environment of its own: make test-flower")

from support.flower_processes import FlowerProcesses, wait_until

from medward.guard.audit.log import read_log, verify_log

APP = Path(__file__).resolve().parents[1] / "support" / "flower_app.py"
NAMES = [f"hospital-{place}" for place in range(4)]
ROUNDS = 5


def rounds(folder):
    return [record for record in read_log(folder / "audit.jsonl")] if (folder / "audit.jsonl").exists() else []


@pytest.mark.slow
def test_an_attacker_loses_its_weight_and_a_killed_server_ends_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    config = {"keys": tmp_path, "out": whole, "rounds": ROUNDS}
    with FlowerProcesses(tmp_path, APP, NAMES, config) as flower:
        flower.submit("whole.log", out=whole)
        wait_until((whole / "result.npz").exists, 180, "the run does not end", tmp_path / "whole.log")
        flower.submit("killed.log", out=killed)
        wait_until(lambda: len(rounds(killed)) == 2, 120, "the second round does not end", tmp_path / "killed.log")
        os.kill(int((killed / "server.pid").read_text()), signal.SIGKILL)
        assert not (killed / "result.npz").exists()
        flower.submit("resumed.log", out=killed)
        wait_until((killed / "result.npz").exists, 180, "the resumed run does not end", tmp_path / "resumed.log")
    shares = [record["weights"].get("hospital-3") for record in rounds(whole)]
    assert shares[0] > 0.1
    assert shares[-1] in (0.0, None)
    assert {each["node"] for record in rounds(whole) for each in record["suspects"]} == {"hospital-3"}
    verify_log(killed / "audit.jsonl")
    with np.load(whole / "result.npz") as one, np.load(killed / "result.npz") as other:
        assert all((one[name] == other[name]).all() for name in one.files)
        assert one["count"] == other["count"] == 5 + ROUNDS
