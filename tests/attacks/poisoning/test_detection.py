"""Detection figures of federations that can be counted by hand."""

import pytest

from medward.attacks.poisoning.metrics.detection import (
    detection_rates,
    effective_clients,
    malicious_weight,
    rounds_to_suppress,
)

NODES = ("a", "b", "c", "d")


def test_rates_count_each_side_by_itself():
    found = detection_rates(["a", "c"], NODES, ["a", "b"])
    assert (found.true_positive, found.false_positive) == (0.5, 0.5)


def test_rates_of_a_side_that_is_empty_are_unknown():
    assert detection_rates(["a"], NODES, []) == detection_rates(["a"], NODES, ["stranger"])
    assert detection_rates(["a"], NODES, []).true_positive is None
    assert detection_rates([], NODES, NODES).false_positive is None


def test_malicious_weight_is_a_share():
    assert malicious_weight({"a": 1.0, "b": 3.0}, ["b"]) == 0.75
    assert malicious_weight({"a": 1.0}, ["b"]) == 0
    assert malicious_weight({}, ["b"]) == 0


def test_effective_clients_are_all_of_equal_ones_and_one_of_a_lonely_one():
    assert effective_clients(dict.fromkeys(NODES, 7.0)) == pytest.approx(4)
    assert effective_clients({"a": 1.0, "b": 0.0}) == 1
    assert effective_clients({"a": 3.0, "b": 1.0}) == pytest.approx(1 / (0.75**2 + 0.25**2))
    assert effective_clients({}) == effective_clients({"a": 0.0}) == 0


@pytest.mark.parametrize(
    ("shares", "begin", "rounds"),
    [
        ([0.25, 0.1, 0.01, 0.0], 1, 2),
        ([0.25, 0.1, 0.01, 0.0], 2, 1),
        ([0.0, 0.0], 1, 0),
        ([0.0, 0.25, 0.0, 0.25, 0.0], 1, 4),  # it came back
        ([0.25, 0.25], 1, None),
        ([0.0, 0.25], 1, None),
        ([0.25], 2, None),
    ],
)
def test_rounds_to_suppress_are_those_until_it_stays_low(shares, begin, rounds):
    weights = [{"bad": share, "good": 1 - share} for share in shares]
    assert rounds_to_suppress(weights, ["bad"], begin=begin) == rounds
