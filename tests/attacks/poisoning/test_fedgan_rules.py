"""The table of poisoned generators: a rule that cannot bear a federation is called refused, not measured."""

from __future__ import annotations

import pytest

from medward.attacks.experiments.fedgan.cells import FederationSetting
from medward.attacks.experiments.fedgan.run import measure_once, rule_fault
from medward.attacks.experiments.fedgan.servers import SERVERS
from medward.attacks.validation.journal import Journal


@pytest.mark.parametrize(
    ("malicious", "clients", "refused"),
    [(1, 4, {"bulyan", "bucketing"}), (2, 10, {"bulyan"}), (5, 20, {"bulyan", "bucketing"}), (1, 10, set())],
)
def test_rules_say_which_federations_they_cannot_bear(malicious, clients, refused):
    settings = [FederationSetting(task="any", clients=clients, malicious=malicious, server=name) for name in SERVERS]
    assert {each.server for each in settings if rule_fault(each)} == refused


def test_a_refused_federation_is_not_measured(tmp_path):
    """Its model would never learn, and draw no trigger: the best rate of all."""
    cell, recalled = measure_once(FederationSetting(task="no such task", server="bulyan"), Journal(tmp_path))
    assert "needs 7 clients to bear 1 malicious ones" in cell["refused"]
    assert not recalled
