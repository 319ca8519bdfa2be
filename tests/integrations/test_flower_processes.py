"""Real processes over loopback: a poisoned federation finishes, and a server that was killed goes on."""

import pytest

pytest.importorskip("flwr", reason="needs Flower, which has an environment of its own: make test-flower")

from support.flower_journey import ATTACKER, killed_and_resumed


@pytest.mark.slow
def test_an_attacker_loses_its_weight_and_a_killed_server_ends_with_the_same_weights(tmp_path):
    found = killed_and_resumed(tmp_path)
    shares = found["weights_of_the_attacker"]
    assert shares[0] > 0.1
    assert shares[-1] == 0.0
    assert found["suspects"] == [ATTACKER]
    assert not found["finished_before_the_kill"]
    assert found["resumed_in_round"] == 3
    assert found["steps"] == len(shares) == 5
    assert found["same_weights"]
