"""Every crafted update against its paper, at a scale where its formula can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.poisoning.a_little_is_enough import ALittleIsEnough, largest_shift
from medward.attacks.poisoning.inner_product_manipulation import InnerProductManipulation
from medward.attacks.poisoning.mimic import Mimic
from medward.attacks.poisoning.min_max import MinMax
from medward.attacks.poisoning.scaled_replacement import ScaledReplacement
from medward.attacks.poisoning.sign_flip import SignFlip
from medward.guard.errors import MedwardError

HONEST = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 6.0]])  # mean (2, 2), deviation (1, sqrt 12)
ROOT, ROOT_58 = 12**0.5, 58**0.5
CRAFTED = {
    "sign-flip": (SignFlip(), [-2, -2]),
    "sign-flip, longer": (SignFlip(scale=3), [-6, -6]),
    "inner-product-manipulation": (InnerProductManipulation(factor=0.5), [-1, -1]),
    "a-little-is-enough": (ALittleIsEnough(deviations=1.5), [2 - 1.5, 2 - 1.5 * ROOT]),
    "mimic": (Mimic(), [2, 6]),  # second numbers vary most, and the third client is furthest out there
    "mimic, the first": (Mimic(victim=0), [1, 0]),
    "mimic, another": (Mimic(victim=2), [2, 6]),
    # widest squared distance 37; along (-1, -1) from (2, 2) it is (2, 6) that binds: g^2 + (4 + g)^2 = 37
    "min-max": (MinMax(direction="unit"), [2 - (ROOT_58 - 4) / 2] * 2),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_each_is_its_published_formula(name):
    attack, expected = CRAFTED[name]
    sent = attack.craft(HONEST, clients=5, malicious=2)
    assert sent.shape == (2,)
    assert attack.name == name.partition(",")[0]
    assert sent == pytest.approx(expected)


@pytest.mark.parametrize("attack", [each for each, _ in CRAFTED.values()])
def test_none_changes_what_it_was_given_and_each_refuses_what_is_no_matrix(attack):
    kept = HONEST.copy()
    sent = attack.craft(HONEST, clients=5, malicious=2)
    sent += 1
    assert np.array_equal(HONEST, kept)
    for broken in (HONEST[0], HONEST[:0]):
        with pytest.raises(MedwardError, match="honest updates or more as rows"):
            attack.craft(broken, clients=5, malicious=2)


def test_min_max_by_hand():
    line = np.array([[1.0, 0.0], [3.0, 0.0]])  # mean (2, 0), widest 2: along (-1, 0) the update (3, 0) binds at (1, 0)
    assert MinMax(direction="unit").craft(line, clients=3, malicious=1) == pytest.approx([1, 0])
    assert MinMax(direction="sign").craft(line, clients=3, malicious=1) == pytest.approx([1, 0])
    assert MinMax(direction="deviation").craft(line, clients=3, malicious=1) == pytest.approx([1, 0])


@given(st.integers(2, 8), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from(["deviation", "sign", "unit"]))
def test_min_max_touches_its_bound_and_stays_inside(rows, width, seed, direction):
    honest = np.random.default_rng(seed).normal(size=(rows, width)) + 0.3
    sent = MinMax(direction=direction).craft(honest, clients=rows + 1, malicious=1)
    widest = max(np.linalg.norm(a - b) for a in honest for b in honest)
    furthest = np.linalg.norm(honest - sent, axis=1).max()
    assert furthest == pytest.approx(widest)
    away = sent - honest.mean(axis=0)
    further = np.linalg.norm(honest - (sent + 0.01 * away), axis=1).max()  # the control: a longer step is outside
    assert further > widest


def test_min_max_among_equal_updates_is_their_mean():
    same = np.ones((3, 2))
    assert MinMax().craft(same, clients=4, malicious=1) == pytest.approx([1, 1])


def test_a_little_is_enough_takes_the_deviations_of_the_paper():
    assert largest_shift(50, 24) == pytest.approx(1.43, abs=0.005)  # its Section 3.3: s = 2, z = 1.43 at 24 of 50
    assert largest_shift(20, 5) == pytest.approx(0.253, abs=0.001)
    assert largest_shift(4, 1) < 0
    sent = ALittleIsEnough().craft(HONEST, clients=50, malicious=24)
    assert sent == pytest.approx(HONEST.mean(axis=0) - largest_shift(50, 24) * HONEST.std(axis=0, ddof=1))


@pytest.mark.parametrize(("clients", "malicious"), [(4, 1), (10, 2)])
def test_a_little_is_enough_says_where_it_would_do_nothing(clients, malicious):
    with pytest.raises(MedwardError, match=r"win no majority.*give deviations"):
        ALittleIsEnough().craft(HONEST, clients=clients, malicious=malicious)
    assert ALittleIsEnough(deviations=1.0).craft(HONEST, clients=clients, malicious=malicious)[0] == pytest.approx(1)


@given(st.integers(1, 4), st.integers(5, 12), st.integers(0, 10**6))
def test_scaled_replacement_becomes_the_mean_where_the_others_stand_still(malicious, clients, seed):
    learned = np.random.default_rng(seed).normal(size=3)
    sent = ScaledReplacement().scaled(learned, clients=clients, malicious=malicious)
    everyone = np.vstack([np.tile(sent, (malicious, 1)), np.zeros((clients - malicious, 3))])
    assert everyone.mean(axis=0) == pytest.approx(learned)
    plain = np.vstack([np.tile(learned, (malicious, 1)), np.zeros((clients - malicious, 3))])
    assert plain.mean(axis=0) == pytest.approx(learned * malicious / clients)  # the control: not scaled
    assert ScaledReplacement(factor=2).scaled(learned, clients=clients, malicious=malicious) == pytest.approx(
        2 * learned
    )


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_inner_product_manipulation_and_sign_flip_go_against_the_mean(rows, seed):
    honest = np.random.default_rng(seed).normal(size=(rows, 4))
    mean = honest.mean(axis=0)
    for attack in (InnerProductManipulation(), SignFlip()):
        assert attack.craft(honest, clients=rows + 1, malicious=1) @ mean < 0
    assert Mimic().craft(honest, clients=rows + 1, malicious=1) in honest
