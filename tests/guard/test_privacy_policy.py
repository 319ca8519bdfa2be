"""The section [privacy] of a policy: what it may say, and that it changes nothing where it is not set."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.privacy_policy import ALL_KINDS, BurnedInAction, LanguageName, PrivacyPolicy
from medward.guard.release.conversation import REMEMBERED_CHARACTERS
from medward.guard.release.text import IdentifierKind
from medward.guard.release.text.language import language_names


def read(text):
    return Policy.from_toml(f'on_error = "flag"\n[privacy]\n{text}').privacy


def test_the_names_are_those_of_the_filters():
    assert tuple(map(str, IdentifierKind)) == ALL_KINDS
    assert list(get_args(LanguageName)) == language_names()
    assert PrivacyPolicy().remembered == REMEMBERED_CHARACTERS


@given(
    language=st.sampled_from(get_args(LanguageName)),
    kinds=st.lists(st.sampled_from(ALL_KINDS), min_size=1),
    memory=st.booleans(),
    remembered=st.integers(0, 100_000),
    burned_in_text=st.sampled_from(get_args(BurnedInAction)),
)
def test_any_valid_section_round_trips_whatever_the_order_of_kinds(kinds, **settings):
    policy, turned = (
        Policy(on_error="flag", privacy={"kinds": given_kinds, **settings}) for given_kinds in (kinds, kinds[::-1])
    )
    again = Policy.from_toml(policy.to_toml())
    assert again == policy == turned
    assert again.fingerprint == policy.fingerprint == turned.fingerprint
    assert set(again.privacy.kinds) == set(kinds)


@pytest.mark.parametrize("memory", [True, False])
def test_identifiers_switched_off_round_trip(memory):
    policy = Policy(on_error="flag", privacy={"identifiers": False, "memory": memory})
    assert Policy.from_toml(policy.to_toml()) == policy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('identifiers = "yes"', ["privacy.identifiers = 'yes'"]),
        ('memory = "bloom"', ["privacy.memory = 'bloom'"]),
        ('language = "de"', ["privacy.language = 'de'", "'en' or 'es'"]),
        ("kinds = []", ["privacy.kinds = []", "no kind would be looked for", "identifiers = false"]),
        ('kinds = ["nmae"]', ["privacy.kinds.0 = 'nmae'", "'name'"]),
        ("remembered = -1", ["privacy.remembered = -1", "0"]),
        ("remembered = 1.5", ["privacy.remembered = 1.5"]),
        ("remembered = 100001", ["privacy.remembered = 100001", "100000"]),
        ('burned_in_text = "coarsen"', ["privacy.burned_in_text = 'coarsen'", "'allow', 'flag' or 'withhold'"]),
        ('identifiers = false\nkinds = ["name"]', ["kinds does nothing where identifiers = false"]),
        ('identifiers = false\nlanguage = "es"', ["language does nothing"]),
        ("identifiers = false\nremembered = 9", ["remembered does nothing"]),
        ("identifier = false", ["privacy.identifier = False is not a known key", "there are identifiers, language"]),
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
    assert Policy.from_toml(bare.to_toml()).fingerprint == bare.fingerprint, "every key spelled out"
    changed = ({"burned_in_text": "flag"}, {"memory": True}, {"identifiers": False}, {"kinds": ["name"]})
    assert len({Policy(on_error="withhold", privacy=each).fingerprint for each in changed} | {bare.fingerprint}) == 5


def test_reading_a_policy_needs_neither_a_text_filter_nor_a_reader():
    code = "import sys, medward.guard.policy; print({'re2', 'rapidocr', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
