"""The section [federated] of a policy, and the aggregator that it asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.audit.log import read_log
from medward.guard.errors import MedwardError
from medward.guard.federated.client_history import federation_history
from medward.guard.federated.configured import configured_aggregator
from medward.guard.federated.policy import FederatedPolicy, RuleName
from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.guard.federated.rules import (
    RULES,
    Bucketing,
    Bulyan,
    CentredClipping,
    Krum,
    NormClippedMean,
    TrimmedMean,
)
from medward.guard.federated.sanitise import UpdateBounds
from medward.guard.policy import Policy

ROOT = Path(__file__).parents[2]
NAMES = get_args(RuleName)


def probe(start, updates, number):
    return {update.node: {} for update in updates}


def read(text):
    return Policy.from_toml(f'on_error = "flag"\n[federated]\n{text}').federated


def test_the_names_are_those_of_the_rules():
    assert set(NAMES) == set(RULES) - {Bucketing.name}, "bucketing is asked for by a bucket"


def test_the_defaults_are_those_of_the_aggregator():
    aggregator = configured_aggregator(FederatedPolicy(), probe)
    assert aggregator.rule == NormClippedMean()
    assert aggregator.detector == RobustFedDetect()
    assert aggregator.bounds == UpdateBounds()


@given(
    rule=st.sampled_from(NAMES),
    warm_up=st.integers(1, 10_000),
    threshold=st.floats(1e-3, 1e6),
    decay=st.floats(1e-6, 0.999),
    floor=st.floats(0, 0.999),
    most_suspects=st.floats(1e-6, 0.499),
    most_examples=st.floats(1, 1e15),
    most_share=st.floats(1e-6, 1),
)
def test_any_valid_section_round_trips_and_configures(rule, **settings):
    policy = Policy(on_error="flag", federated={"rule": rule, **settings})
    assert Policy.from_toml(policy.to_toml()) == policy
    aggregator = configured_aggregator(policy.federated, probe)
    assert aggregator.rule.name == rule
    for name, value in settings.items():
        held = aggregator.bounds if name.startswith("most_") and name != "most_suspects" else aggregator.detector
        assert getattr(held, name) == value


def test_a_policy_that_would_judge_nobody_is_told_when_the_server_starts(caplog):
    assert configured_aggregator(FederatedPolicy()).detector is None
    assert "detect = true, and there is no probe: no client is judged" in caplog.text
    caplog.clear()
    configured_aggregator(FederatedPolicy(detect=False))
    configured_aggregator(FederatedPolicy(), probe)
    assert not caplog.text


def test_a_whole_policy_is_not_its_section():
    with pytest.raises(MedwardError, match=r"must be its section \[federated\], Policy.load\(path\).federated"):
        configured_aggregator(Policy(on_error="flag"), probe)


def test_yes_is_no_truth_value():
    with pytest.raises(MedwardError, match=r"federated\.detect"):
        read('detect = "yes"')


def test_the_page_s_server_bounds_a_client_of_a_thousandfold(tmp_path, monkeypatch):
    """The block under "In plain Python" runs as it stands, and does what the page says."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "federated.md").read_text().partition("## In plain Python")[2]
    names = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    assert abs(names["parameters"][0] - 5).max() < 0.5, "about one step a round"
    history = federation_history(read_log("audit.jsonl"), "audit.jsonl")
    assert history.clients["hospital-d"].longest > 900
    assert history.clients["hospital-a"].longest <= 1


def test_a_rule_gets_its_settings():
    assert configured_aggregator(read('rule = "trimmed-mean"\nmalicious_share = 0.3')).rule == TrimmedMean(
        malicious_share=0.3
    )
    assert configured_aggregator(read("clip = 2.0")).rule == NormClippedMean(clip=2.0)
    assert configured_aggregator(read('rule = "centred-clipping"\nclip = 2.0')).rule == CentredClipping(clip=2.0)
    assert configured_aggregator(read('rule = "bulyan"')).rule == Bulyan(malicious_share=0.2)


def test_behind_a_bucket_a_rule_bears_whole_spoiled_groups():
    rule = configured_aggregator(read('rule = "krum"\nmalicious_share = 0.1\nbucket = 3')).rule
    assert isinstance(rule, Bucketing)
    assert rule.size == 3
    assert isinstance(rule.rule, Krum)
    assert rule.rule.malicious_share == pytest.approx(0.3)


@pytest.mark.parametrize(("text", "given_probe"), [("detect = false", probe), ("detect = true", None)])
def test_without_detector_or_probe_nobody_is_judged(text, given_probe):
    aggregator = configured_aggregator(read(text), given_probe)
    assert aggregator.detector is None
    assert aggregator.probe is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('rule = "median"', ["federated.rule", "'median'", "'coordinate-median'"]),
        ('rule = "bucketing"', ["federated.rule", "'bucketing'"]),
        ("malicious = 0.1", ["federated.malicious = 0.1 is not a known key", "malicious_share"]),
        ('rule = "krum"\nmalicious_share = 0.5', ["federated.malicious_share = 0.5", "0.5"]),
        ('rule = "bulyan"\nmalicious_share = 0.25', ["0.25 is more than bulyan can bear"]),
        ('rule = "krum"\nmalicious_share = 0.25\nbucket = 2', ["0.5 is more than krum can bear"]),
        ('rule = "fltrust"\nbucket = 2', ["bucket = 2", "fltrust"]),
        ('rule = "krum"\nclip = 2.0', ["clip = 2 does nothing under the rule krum", "norm-clipped-mean"]),
        ("malicious_share = 0.3", ["malicious_share = 0.3 does nothing", "trimmed-mean"]),
        ("clip = 0.0", ["federated.clip = 0.0", "greater than 0"]),
        ("bucket = 0", ["federated.bucket = 0", "1"]),
        ("warm_up = 0", ["federated.warm_up = 0", "1"]),
        ("threshold = 0.0", ["federated.threshold", "greater than 0"]),
        ("threshold = nan", ["federated.threshold"]),
        ("decay = 1.0", ["federated.decay", "less than 1"]),
        ("floor = 1.0", ["federated.floor", "less than 1"]),
        ("most_suspects = 0.5", ["federated.most_suspects", "less than 0.5"]),
        ("probation = 0", ["federated.probation = 0"]),
        ("most_examples = inf", ["federated.most_examples"]),
        ("most_share = 0.0", ["federated.most_share", "greater than 0"]),
    ],
)
def test_each_mistake_is_one_sentence(text, says):
    with pytest.raises(MedwardError) as caught:
        read(text)
    assert all(part in str(caught.value) for part in says), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_policy_without_the_section_keeps_its_fingerprint():
    bare = Policy(on_error="withhold")
    assert bare.fingerprint == "ee0b9ed355d0", "as audit logs of earlier versions name it"
    assert Policy(on_error="withhold", federated=FederatedPolicy()).fingerprint == bare.fingerprint
    assert Policy(on_error="withhold", federated=FederatedPolicy(clip=2.0)).fingerprint != bare.fingerprint


def test_reading_a_policy_loads_no_learning_library():
    code = "import sys, medward.guard.policy; print({'torch', 'sklearn', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
