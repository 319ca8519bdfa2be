"""Names that print alike."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.accounts.names import (
    MAX_NAME,
    by_folded,
    checked_principal,
    first_alike,
    folded_name,
    hides_character,
)
from medward.guard.errors import MedwardError


@given(name=st.text())
def test_folding_is_done_once_and_forgets_case_and_outer_space(name):
    once = folded_name(name)
    assert folded_name(once) == once
    assert folded_name(f"  {name} ") == once
    assert once == once.casefold()


def account(name):
    """The account of `name`, None where it is refused."""
    try:
        return checked_principal((name,))
    except MedwardError:
        return None


@given(name=st.text(min_size=1))
def test_a_name_is_one_account_in_every_form_of_unicode(name):
    """Some systems write "ü" as one character and some as two."""
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    assert len({account(form) for form in forms}) == 1


def test_a_long_name_of_accents_is_taken_in_both_forms_and_a_longer_one_in_neither():
    for letters in (MAX_NAME, MAX_NAME + 1):
        composed = "\u00fc" * letters
        split = unicodedata.normalize("NFD", composed)
        assert len(split) == 2 * letters
        assert account(composed) == account(split) == ((composed,) if letters == MAX_NAME else None)
    assert account("a" * 10**6) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller", "Mu\u0308ller"),
        ("ﬁbrosis", "fibrosis"),
        ("no  finding", "No finding "),
        ("STRASSE", "straße"),
        *((f"clinic{dash}a", "Clinic-A") for dash in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"),
    ],
)
def test_two_spellings_are_found_alike(one, other):
    assert first_alike(("effusion", one, other)) == (one, other)
    with pytest.raises(MedwardError, match="print alike"):
        by_folded({one: 1, other: 2}, "sites")


def test_no_character_needs_a_second_folding():
    """Alone, or before an accent or the one mark whose lower case is a letter (U+0345)."""
    for code in (*range(0xD800), *range(0xE000, sys.maxunicode + 1)):
        if not unicodedata.is_normalized("NFKC", (char := chr(code))) or char.casefold() != char:
            for name in (char, f"{char}\u0301", f"{char}\u0345", f"{char}\u0345\u0308", f"a{char}"):
                assert folded_name(folded_name(name)) == folded_name(name), ascii(name)


def test_letters_of_two_scripts_are_two_names_though_they_print_alike():
    assert first_alike(("clinic-a", "clinic-\u0430")) is None


def test_different_names_stay_different():
    names = ("benign", "malignant", "benign 2", "benign2", "bénign", "良性")
    assert first_alike(names) is None
    assert by_folded(dict.fromkeys(names, 1), "sites").keys() == set(names)
    assert first_alike(("a", "b", "a")) == ("a", "a")


@pytest.mark.parametrize(
    "name", ["a\u200bb", "a\u200d", "\ufeffa", "a\u034f", "a\u3164", "a\ufe0f", "a\tb", "a\x00", "a\u202eb"]
)
def test_what_cannot_be_seen_is_told(name):
    assert hides_character(name)
    assert not hides_character(folded_name("Ärzte 名前"))
