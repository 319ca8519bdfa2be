"""Who is a candidate: by the manifest of a coin flip where there is one, else by splits, which a note says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medward.attacks.base import AttackData
from medward.attacks.membership.family import Membership
from medward.attacks.membership.holdings import NO_COIN
from medward.attacks.membership.pool import joined_rows
from medward.attacks.validation.family import NotTested
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.guard.data.coin_flip import flip_coins, read_manifest
from medward.guard.data.split import Split
from medward.integrations.contracts import family as contract


def held_by(splits, manifest=None):
    shared = share_rows(contract.SignedLine(), conform_splits(splits, contract.SPEC), seed=0)
    return Membership().holdings(replace(contract.line_deployment(), manifest=manifest), shared)


@pytest.fixture(scope="module")
def flipped():
    splits = contract.line_splits()
    flip = flip_coins(splits["train"], seed=0)
    return splits, flip, read_manifest(flip.manifest)


def named(split):
    return {row.tobytes() for row in split.inputs}


def test_splits_alone_are_taken_on_trust():
    held = held_by(contract.line_splits())
    assert held.notes == (NO_COIN,)
    assert [each.name for each in held.examinations] == ["memorised canaries", "an untrained network"]
    assert not named(held.members) & named(held.nonmembers)
    assert not named(held.shadow) & (named(held.members) | named(held.nonmembers))


def test_candidates_that_are_not_asked_about_are_said(flipped, monkeypatch):
    monkeypatch.setattr("medward.attacks.membership.family.CANDIDATES", 30)
    splits, _, manifest = flipped
    for held in (held_by(contract.line_splits()), held_by(splits, manifest)):
        assert len(held.members) == len(held.nonmembers) == 30
        (said,) = [each for each in held.notes if each != NO_COIN]
        assert "30 each were asked about, drawn at random" in said
    everyone = len(contract.line_splits()["holdout"]) // 2
    monkeypatch.setattr("medward.attacks.membership.family.CANDIDATES", everyone)
    assert held_by(contract.line_splits()).notes == (NO_COIN,), "none of the fewer kind was left out"


def test_the_manifest_says_who_was_trained_on(flipped):
    splits, flip, manifest = flipped
    held = held_by(splits, manifest)
    assert held.notes == held.flags == ()
    assert named(held.members) <= named(splits["train"].take(flip.training))
    assert named(held.nonmembers) <= named(splits["train"].take(flip.held_out))
    assert named(held.shadow) == named(splits["holdout"])


def test_without_other_rows_those_held_out_are_shared_with_the_shadows(flipped):
    splits, flip, manifest = flipped
    held = held_by({name: splits[name] for name in ("train", "test")}, manifest)
    assert named(held.nonmembers) | named(held.shadow) == named(splits["train"].take(flip.held_out))
    assert not named(held.nonmembers) & named(held.shadow)


def test_a_manifest_of_other_rows_tests_nothing(flipped):
    splits, _, manifest = flipped
    other = {**splits, "train": contract.line_rows(100, 77)}
    found = held_by(other, manifest)
    assert isinstance(found, NotTested)
    assert found.reason.startswith("not tested: of the rows that the membership manifest says were trained on, 0 are")


def test_a_patient_on_both_sides_is_named():
    rng = np.random.default_rng(0)
    rows = contract.line_rows(300, 5)
    alone = Split(rows.inputs, rows.labels, np.arange(300))
    manifest = read_manifest(flip_coins(alone, seed=0).manifest)
    shared = Split(rows.inputs, rows.labels, rng.integers(0, 40, 300))
    held = held_by({**contract.line_splits(), "train": shared}, manifest)
    assert isinstance(held, AttackData)
    assert "of patients who are also in" in held.flags[0]
    assert held_by({**contract.line_splits(), "train": alone}, manifest).flags == ()


def test_rows_with_copies_on_both_sides_are_neither_candidates_nor_shadow_rows_and_are_counted():
    rows = contract.line_rows(300, 5)
    flip = flip_coins(Split(rows.inputs, rows.labels), seed=0)
    held_out, included = flip.held_out[0], np.flatnonzero(flip.included)[0]
    inputs = rows.inputs.copy()
    inputs[held_out] = inputs[included]
    train = Split(inputs, rows.labels)
    manifest = read_manifest(flip_coins(train, seed=0).manifest)
    splits = contract.line_splits()
    copy = train.take(np.array([included]))
    splits |= {"train": train, "holdout": joined_rows([splits["holdout"], copy])}
    held = held_by(splits, manifest)
    twice = named(copy)
    assert not twice & (named(held.members) | named(held.nonmembers) | named(held.shadow))
    assert held.notes == ("3 rows have exact copies on both sides of the coin flip, and were left out",)
    free = held_by({**contract.line_splits(), "train": train}, manifest)
    assert named(free.shadow) == named(held.shadow)


def test_patients_of_splits_that_know_none_are_told_apart_on_both_sides():
    rows = contract.line_rows(300, 5)
    known, unknown = Split(rows.inputs[:150], rows.labels[:150], np.arange(150) // 3), rows.take(slice(150, 300))
    both = joined_rows([known, unknown])
    manifest = read_manifest(flip_coins(both, seed=0).manifest)
    held = held_by({**contract.line_splits(), "train": known, "selection": unknown}, manifest)
    assert not np.intersect1d(held.members.patients, held.nonmembers.patients).size
    assert held.flags == ()
