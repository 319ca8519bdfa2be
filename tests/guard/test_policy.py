from __future__ import annotations

import math
import re
import tomllib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.policy import Policy


def test_defaults_round_trip_through_toml():
    policy = Policy(on_error="withhold")
    assert Policy.from_toml(policy.to_toml()) == policy


@given(
    level=st.sampled_from(["full", "rounded", "top", "codes", "label"]),
    decimals=st.integers(1, 6),
    bits=st.floats(0, 1e12),
    parents=st.just(0.0) | st.floats(1, 1e6),
    temperature=st.floats(0.05, 20),
    rate=st.floats(1e-6, 0.49),
    alpha=st.floats(1e-9, 0.99),
    shared=st.booleans(),
)
def test_any_valid_policy_round_trips(level, decimals, bits, parents, temperature, rate, alpha, shared):
    policy = Policy.model_validate(
        {
            "on_error": "flag",
            "release": {"level": level, "decimals": decimals, "temperature": temperature},
            "budget": {"daily_bits": bits, "total_bits": bits / 3, "parents": parents, "label_share": 0.25},
            "screen": {"rate": rate},
            "monitor": {"ladder": [{"false_alarm": alpha, "action": "coarsen"}], "shared": shared},
        }
    )
    again = Policy.from_toml(policy.to_toml())
    assert again == policy
    assert again.fingerprint == policy.fingerprint


def test_on_error_must_be_chosen():
    with pytest.raises(MedwardError, match="on_error must be chosen"):
        Policy.from_toml("")


@pytest.mark.parametrize(
    ("toml", "names"),
    [
        ('on_error = "shrug"', ["on_error", "shrug", "withhold"]),
        ('on_error = "flag"\ncolour = 3', ["colour", "3", "not a known key"]),
        ('on_error = "flag"\n[release]\ndecimals = 9', ["release.decimals", "9", "6"]),
        ('on_error = "flag"\n[release]\nlevel = "all"', ["release.level", "all", "'codes'"]),
        ('on_error = "flag"\n[release]\ntemperature = 0.0', ["release.temperature", "0.0", "0.05"]),
        ('on_error = "flag"\n[budget]\ntotal_bits = -1', ["budget.total_bits", "-1", "0"]),
        ('on_error = "flag"\n[budget]\nparents = 0.5', ["budget.parents", "0.5", "at least 1"]),
        ('on_error = "flag"\n[budget]\nlabel_share = 1.0', ["budget.label_share", "1.0", "less than 1"]),
        ('on_error = "flag"\n[screen]\nrate = 0.0', ["screen.rate", "0.0", "greater than 0"]),
        ('on_error = "flag"\n[monitor]\nladdr = 1', ["monitor.laddr", "not a known key"]),
        ('on_error = "flag"\n[gate]\nevasion_success = 0.51', ["gate.evasion_success", "0.51", "0.5"]),
        ('on_error = "flag"\n[gate]\nextraction_gain = 0.9', ["gate.extraction_gain", "0.9", "0.5"]),
        ('on_error = "flag"\n[gate]\nextraction_days = 7', ["gate.extraction_days", "7", "30"]),
        ('on_error = "flag"\n[gate]\nmembership_auc = 0.76', ["gate.membership_auc", "0.76", "0.75"]),
        ('on_error = "flag"\n[gate]\nfalse_refusal = 0.3', ["gate.false_refusal", "0.3", "0.2"]),
        ("on_error = ", ["not valid TOML"]),
    ],
)
def test_a_mistake_is_named_with_key_value_and_bound(toml, names):
    with pytest.raises(MedwardError) as caught:
        Policy.from_toml(toml, source="site.toml")
    assert all(name in str(caught.value) for name in ["site.toml", *names])


def test_a_ladder_that_gets_milder_is_refused():
    toml = 'on_error = "flag"\n' + "".join(
        f'[[monitor.ladder]]\nfalse_alarm = {a}\naction = "{b}"\n' for a, b in [(0.01, "withhold"), (0.001, "flag")]
    )
    with pytest.raises(MedwardError, match=r"monitor\.ladder = .*\]: rungs must go from frequent and mild"):
        Policy.from_toml(toml)


def test_fingerprint_changes_with_any_choice():
    assert Policy(on_error="flag").fingerprint != Policy(on_error="withhold").fingerprint


def test_nothing_is_counted_unless_a_site_sets_a_limit():
    budget = {"default": {}, "daily": {"daily_bits": 5}, "total": {"total_bits": 5}}
    limited = {name: Policy.model_validate({"on_error": "flag", "budget": keys}) for name, keys in budget.items()}
    assert {name: policy.budget.limited for name, policy in limited.items()} == {
        "default": False,
        "daily": True,
        "total": True,
    }
    assert len({policy.fingerprint for policy in limited.values()}) == 3


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("[budget]\ndayly_bits = 0.0", "there are daily_bits, total_bits"),
        ("budgett = 1", "there are on_error, release"),
        ('[[monitor.ladder]]\nfalse_alarm = 0.01\naction = "flag"\nx = 1', "there are false_alarm, action"),
    ],
)
def test_an_unknown_key_is_answered_with_those_there_are(text, known):
    with pytest.raises(MedwardError, match=known):
        Policy.from_toml(f'on_error = "flag"\n{text}')


TABLES = re.findall(r"^\[+([a-z.]+)\]+", Policy(on_error="flag").to_toml(), re.MULTILINE)


@pytest.mark.parametrize("table", [*dict.fromkeys(TABLES), ""])
def test_an_unknown_key_of_any_table_is_answered_with_the_keys_that_table_has(table):
    text = Policy(on_error="flag").to_toml()
    document = tomllib.loads(text)
    for name in filter(None, table.split(".")):
        document = document[name]
        document = document[0] if isinstance(document, list) else document
    at = re.search(rf"^\[+{re.escape(table)}\]+.*\n", text, re.MULTILINE).end() if table else 0
    with pytest.raises(MedwardError, match="not a known key") as caught:
        Policy.from_toml(f"{text[:at]}colour = 3\n{text[at:]}")
    listed = (
        set() if table else {"accept"}
    )  # empty by default, and TOML cannot say an empty list of tables below others
    assert set(str(caught.value).partition("there are ")[2].split(", ")) == {*document, *listed}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "on_error must be chosen"),
        ({"on_error": "flag", "release": {"level": "a"}}, "release.level = 'a'"),
        ({"on_error": "flag", "relase": {}}, "relase = {} is not a known key"),
    ],
)
def test_a_policy_made_in_python_names_its_first_mistake_in_one_sentence(settings, says):
    with pytest.raises(MedwardError, match=re.escape(f"policy: {says}")) as refused:
        Policy(**settings)
    assert "\n" not in str(refused.value)


def test_the_threat_is_in_grey_levels_of_the_range_and_in_spreads_of_columns():
    threat = Policy(on_error="flag").threat
    assert threat.radius("image", universal=False, low=0.0, high=1.0) == pytest.approx(4 / 255)
    assert threat.radius("image", universal=True, low=-1.0, high=1.0) == pytest.approx(20 / 255)
    assert threat.radius("tabular", universal=True) == 0.25
    assert math.isnan(threat.radius("image", universal=True, low=0.0))


def test_a_measurement_error_is_the_radius_of_its_column_and_round_trips():
    section = "[threat]\ntable = 0.5\n[threat.measurement_error]\n'crp, \"mg/l\"' = 2.0\n"
    policy = Policy.from_toml(f'on_error = "flag"\n{section}')
    assert policy.threat.spreads() == {'crp, "mg/l"': 4.0}
    assert Policy.from_toml(policy.to_toml()) == policy
    assert "crp" in policy.threat.sentence("tabular")
    assert policy.fingerprint != Policy(on_error="flag").fingerprint


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("image = 0.0", "threat.image = 0.0"),
        ("image_universal = 300.0", "threat.image_universal = 300.0"),
        ("table = -1.0", "threat.table = -1.0"),
        ("epsilon = 1.0", "threat.epsilon = 1.0 is not a known key"),
        ("measurement_error = {age = 0.0}", "the error of age must be a number above 0"),
        ("measurement_error = {age = inf}", "the error of age must be a number above 0"),
    ],
)
def test_a_threat_that_is_none_is_refused(section, words):
    with pytest.raises(MedwardError, match=re.escape(words)):
        Policy.from_toml(f'on_error = "flag"\n[threat]\n{section}\n')


def test_policies_can_be_told_apart_by_hash_whatever_their_threat_says():
    same = [Policy(on_error="flag", threat={"measurement_error": {"a": 1.0, "b": 2.0}}) for _ in range(2)]
    assert len({*same, Policy(on_error="flag")}) == 2


WAIVER = r"""[[accept]]
attack = "pgd"
reason = "the reading room is offline; \"stationary\" scanners only"
by = "Dr. Ada Example"
until = 2027-06-01
"""


def test_a_waiver_round_trips_and_makes_another_policy():
    policy = Policy.from_toml(f'on_error = "flag"\n{WAIVER}')
    assert (policy.accept[0].attack, policy.accept[0].until) == ("pgd", date(2027, 6, 1))
    assert Policy.from_toml(policy.to_toml()) == policy
    assert policy.fingerprint != Policy(on_error="flag").fingerprint


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('attack = "pgd"\n', "", "accept.0.attack is missing"),
        ('by = "Dr. Ada Example"\n', "", "accept.0.by is missing"),
        ("until = 2027-06-01\n", "", "accept.0.until is missing"),
        ("2027-06-01", '"soon"', "accept.0.until = 'soon'"),
        ("2027-06-01", '"2027-02-30"', "accept.0.until = '2027-02-30'"),
        ("Dr. Ada Example", "", "accept.0.by = ''"),
        ("Dr. Ada Example", "  ", "without spaces around it"),
        ('"pgd"', '"pgd\\n"', "one line"),
        ('attack = "pgd"', 'attack = "pgd"\nrows = 3', "accept.0.rows = 3 is not a known key; there are attack"),
    ],
)
def test_a_waiver_that_says_too_little_is_refused(old, new, words):
    assert old in WAIVER
    with pytest.raises(MedwardError, match=re.escape(words)):
        Policy.from_toml(f'on_error = "flag"\n{WAIVER.replace(old, new)}')
