"""Which shadow learns which rows, and that it is trained once, as the model was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medward.attacks.membership import ShadowAttack
from medward.attacks.membership import shadow_attack as module
from medward.attacks.membership.pool import apart_from, joined_rows
from medward.attacks.membership.shadow_attack import gather_evidence, shadow_recipe
from medward.attacks.membership.shadows import draw_parts, train_shadows
from medward.guard.data.coin_flip import flip_coins
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError

RNG = np.random.default_rng(0)
CANDIDATES = Split(RNG.normal(size=(60, 64)).astype(np.float32), RNG.integers(0, 10, 60), np.arange(60) // 4)
OWN = Split(RNG.normal(size=(50, 64)).astype(np.float32), RNG.integers(0, 10, 50))
ONLINE = ShadowAttack(score="bavaria-online", shadows=6)


def parts_of(attack, spec=None, rows=CANDIDATES, own=OWN):
    return draw_parts(shadow_recipe(rows, own, spec, attack, 0))


def test_offline_shadows_learn_shares_of_the_attackers_rows_alone():
    parts = parts_of(ShadowAttack(shadows=5, share=0.8))
    assert [len(np.unique(part)) for part in parts] == [40] * 5
    assert max(part.max() for part in parts) < 50
    assert len({tuple(sorted(part)) for part in parts}) == 5


def test_online_every_candidate_is_in_half_of_the_shadows_with_all_rows_of_its_patient():
    parts = parts_of(ONLINE)
    mask = np.array([np.isin(np.arange(110), part) for part in parts])
    assert (mask[:, :60].sum(axis=0) == 3).all()
    patients = mask[:, :60].reshape(6, 15, 4)
    assert (patients.all(axis=2) == patients.any(axis=2)).all()
    assert {len(part) for part in parts} == {len(parts[0])}
    assert len({tuple(row) for row in mask[:, :60]}) == 6
    assert (mask[:, 60:].sum(axis=1) > 0).all()


@pytest.mark.parametrize("flip", ["ours", "a user's"])
def test_who_is_in_a_shadow_does_not_follow_the_coin_that_was_flipped_with_the_same_seed(flip):
    """Else one shadow has learned what the model has, and tells members without it."""
    patients, likeness = np.arange(150) // 3, []
    for seed in range(40):
        rows = Split(np.random.default_rng(seed + 99).normal(size=(150, 64)).astype(np.float32), None, patients)
        included = flip_coins(rows, seed=seed).included
        if flip == "a user's":
            included = np.isin(patients, np.random.default_rng(seed).permutation(50)[:25])
        order = np.argsort(~included, kind="stable")
        candidates = Split(rows.inputs[order], np.zeros(150, int), patients[order])
        mask = np.isin(np.arange(150), draw_parts(shadow_recipe(candidates, OWN, None, ONLINE, seed))[0])
        likeness.append(np.corrcoef(mask, included[order])[0, 1])
    assert abs(np.mean(likeness)) < 0.1


def test_shadows_learn_as_many_rows_as_the_model_did():
    """LeakPro's issue 269: shadows of fewer rows memorise differently."""
    assert {len(part) for part in parts_of(ShadowAttack(shadows=4, rows=33))} == {33}
    for part in parts_of(replace(ONLINE, rows=70)):
        assert len(np.unique(part)) == 70


@pytest.mark.parametrize("attack", [ShadowAttack(rows=51), replace(ONLINE, rows=20), replace(ONLINE, rows=100)])
def test_rows_that_cannot_be_had_are_refused(attack):
    with pytest.raises(MedwardError, match="ask for"):
        parts_of(attack)


def test_copies_of_candidates_are_no_shadow_rows_and_that_is_said():
    copied = joined_rows([OWN, CANDIDATES.take(slice(7))])
    own, flags = apart_from(CANDIDATES, copied, "rmia")
    np.testing.assert_array_equal(own.inputs, OWN.inputs)
    assert flags == ("7 of 57 shadow rows are copies of candidates, and were left out",)
    assert apart_from(CANDIDATES, OWN, "rmia") == (OWN, ())
    with pytest.raises(MedwardError, match="all 60 are"):
        apart_from(CANDIDATES, CANDIDATES, "rmia")


def test_rows_without_patients_are_patients_of_their_own():
    for splits in ([CANDIDATES, OWN], [OWN, CANDIDATES]):
        assert len(np.unique(joined_rows(splits).patients)) == 15 + 50
    assert joined_rows([OWN, OWN]).patients is None


def test_the_same_rows_of_other_patients_have_shadows_of_their_own():
    others = replace(CANDIDATES, patients=np.arange(60))
    first, second = (shadow_recipe(rows, OWN, None, ONLINE, 0) for rows in (CANDIDATES, others))
    assert first != second


def test_an_online_attacker_says_that_its_models_learn_candidates():
    assert "models of its own are trained on candidates, each on half of them" in ONLINE.threat.knowledge
    assert "trained on candidates" not in ShadowAttack().threat.knowledge


@pytest.fixture
def data(coin_flip):
    return replace(
        coin_flip,
        members=coin_flip.members.take(slice(40)),
        nonmembers=coin_flip.nonmembers.take(slice(40)),
        shadow=coin_flip.shadow.take(slice(100)),
    )


def flat(inputs):
    return np.tile(np.arange(10.0), (len(inputs), 1)) + inputs[:, :1]


class Linear:
    """A recipe that never learns, and remembers what it was given."""

    def __init__(self):
        self.rows = []

    def __call__(self, rows, seed):
        self.rows.append(rows)
        torch.manual_seed(seed)
        return nn.Linear(64, 10)


def test_the_models_own_recipe_trains_the_shadows_once_for_all_scores(data, target_of):
    recipe = Linear()
    for score in ("lira", "bavaria", "reference", "rmia"):
        ShadowAttack(score=score, shadows=4, train=recipe, rows=30).run(target_of(flat), data, seed=0)
    assert [len(rows) for rows in recipe.rows] == [30] * 4
    gather_evidence(target_of(flat), data, ShadowAttack(score="base-online", shadows=4, train=recipe), seed=0)
    candidates = np.concatenate([data.members.inputs, data.nonmembers.inputs])
    known = {row.tobytes() for row in candidates}
    learned = [sum(row.tobytes() in known for row in rows.inputs) for rows in recipe.rows]
    assert learned == [0] * 4 + [40] * 4


def test_shadows_less_sure_than_the_model_are_flagged(data, target_of):
    """ART trains its shadows for one epoch whatever the model: its attack is silently weak."""
    sure = target_of(lambda inputs: 30 * np.eye(10)[np.zeros(len(inputs), int)])
    labelled = replace(
        data,
        members=Split(data.members.inputs, np.zeros(40, int)),
        nonmembers=Split(data.nonmembers.inputs, np.zeros(40, int)),
    )
    _, flags = gather_evidence(sure, labelled, ShadowAttack(score="lira-online", shadows=4, train=Linear()), seed=0)
    assert flags == ("shadows are less sure of the candidates than the model is",)
    offline = gather_evidence(sure, labelled, ShadowAttack(score="lira", shadows=4, train=Linear()), seed=0)
    assert offline[1] == ()


def test_online_shadows_train_more_or_less_until_they_are_as_sure_as_the_model(data, target_of, monkeypatch):
    epochs = []

    def remember(recipe):
        epochs.append(recipe.epochs)
        return train_shadows(replace(recipe, epochs=1))

    monkeypatch.setattr(module, "train_shadows", remember)
    attack = ShadowAttack(score="lira-online", shadows=4, epochs=4)
    labels = np.concatenate([data.members.labels, data.nonmembers.labels])
    place = {
        row.tobytes(): label
        for row, label in zip(np.concatenate([data.members.inputs, data.nonmembers.inputs]), labels, strict=True)
    }
    right = lambda inputs: 9 * np.eye(10)[[place[row.tobytes()] for row in inputs]]  # noqa: E731
    gather_evidence(target_of(right), data, attack, seed=0)
    assert epochs == [4, 8, 16, 32]
    epochs.clear()
    gather_evidence(target_of(lambda inputs: -right(inputs)), data, attack, seed=0)
    assert epochs == [4, 2, 1]
    epochs.clear()
    gather_evidence(target_of(right), data, replace(attack, score="lira"), seed=0)
    assert epochs == [4]


def test_the_population_is_what_the_attacker_knows_to_be_no_member(data, target_of):
    target = target_of(flat)
    evidence, _ = gather_evidence(target, data, ShadowAttack(score="rmia", shadows=4, epochs=1), seed=0)
    others = evidence.population
    assert target.queries == 80 + 100
    assert 0 < len(others.phi) < 100
    assert not others.included.all(axis=0).any()
    assert not evidence.included.any()
    with pytest.raises(MedwardError, match="population"):
        ShadowAttack(score="rmia", shadows=4, epochs=1, share=1.0).run(target_of(flat), data, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "lirra"}, "there is no score 'lirra'; there are loss, reference"),
        ({"shadows": 1}, "shadows >= 2"),
        ({"rows": 0}, "rows >= 1"),
        ({"score": "lira-online", "shadows": 5}, "even number of at least 4"),
        ({"copies": 0}, "copies >= 1"),
    ],
)
def test_settings_that_make_no_attack_are_refused(settings, message):
    with pytest.raises(MedwardError, match=message):
        ShadowAttack(**settings)
