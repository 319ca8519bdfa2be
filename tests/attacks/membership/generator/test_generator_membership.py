"""Membership against generators: one that memorises is told, one that learned other rows tells nothing."""

from dataclasses import replace

import numpy as np
import pytest
from support.federated_images import spotted_images

from medward.attacks.benchmarks.generators.gan import ConditionalGan
from medward.attacks.membership.generator.audit import audit_generator
from medward.attacks.membership.generator.monte_carlo import monte_carlo_score
from medward.attacks.membership.generator.nearest_image import calibrated_nearest_image_score, nearest_image_score
from medward.guard.errors import MedwardError


class Memoriser:
    """A generator whose parameters are the images that it learned; it makes them again, with some noise."""

    name = "memoriser"

    def __init__(self, noise):
        self.noise = noise

    def images(self, parameters, labels, seed):
        images, classes = parameters
        rng = np.random.default_rng(seed)
        chosen = [rng.choice(np.flatnonzero(classes == label)) for label in labels]
        return np.clip(images[chosen] + rng.normal(0, self.noise, images[chosen].shape), 0, 1)


ROWS = spotted_images(160, 0)
INCLUDED = np.random.default_rng(5).permutation(160) < 80
MEMBERS, OUTSIDERS = ROWS.take(np.flatnonzero(INCLUDED)), spotted_images(160, 77)
NEW = ("nearest-image", "monte-carlo", "nearest-image, calibrated")


def learned(rows):
    return [rows.inputs, rows.labels]


def audited(parameters, noise=0.02, **more):
    rows = audit_generator(
        Memoriser(noise), parameters, more.pop("candidates", ROWS), INCLUDED, images=300, seed=1, **more
    )
    return {row.attack: row.evaluation for row in rows}


@pytest.fixture(scope="module")
def memorised():
    return audited(learned(MEMBERS), reference=learned(OUTSIDERS))


def test_a_generator_that_memorises_is_told_by_every_score(memorised):
    found = memorised
    assert tuple(found) == NEW
    for name in NEW:
        assert found[name].auc.value > 0.9, name
        assert found[name].auc.low > 0.8
        assert found[name].gain.low > 0.2
        assert found[name].flags == ()


def test_a_generator_that_learned_none_of_the_candidates_tells_nothing():
    found = audited(learned(OUTSIDERS), reference=learned(spotted_images(160, 78)))
    for name in NEW:
        assert found[name].auc.low < 0.5 < found[name].auc.high, name
        assert abs(found[name].auc.value - 0.5) < 0.12


def test_blind_guessing_and_the_reference_alone_stand_beside(memorised):
    found = memorised["nearest-image"]
    assert found.blind.low < 0.5 < found.blind.high
    assert found.without_target.low < 0.5 < found.without_target.high


def test_candidates_that_can_be_told_blindly_are_flagged():
    bright = replace(ROWS, inputs=np.where(INCLUDED[:, None, None, None], ROWS.inputs + 0.3, ROWS.inputs))
    found = audited(learned(OUTSIDERS), candidates=bright)["nearest-image"]
    assert any("INVALID-SHIFT" in flag for flag in found.flags)


def test_patients_are_kept_whole(memorised):
    whose = np.repeat(np.arange(16), 10)
    order = np.argsort(~INCLUDED, kind="stable")
    patients = np.empty(160, np.int64)
    patients[order] = whose
    wide = audited(learned(MEMBERS), candidates=replace(ROWS, patients=patients))["nearest-image"].auc
    narrow = memorised["nearest-image"].auc
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > narrow.high - narrow.low


def test_images_of_another_class_do_not_count():
    turned = audited([MEMBERS.inputs, 1 - MEMBERS.labels])
    assert abs(turned["nearest-image"].auc.value - 0.5) < 0.15
    assert tuple(turned) == NEW[:2]  # without a reference nothing is calibrated
    assert turned["nearest-image"].without_target is None


def test_other_features_can_be_compared():
    blank = audited(learned(MEMBERS), features=lambda images: np.zeros((len(images), 2)))
    assert blank["nearest-image"].auc.value == 0.5


def test_scores_by_hand():
    distances = np.array([[1.0, 5.0, 2.0], [4.0, 3.0, 9.0], [2.0, 2.0, 2.0]])
    reference = np.array([[3.0, 4.0], [3.0, 1.0], [2.5, 7.0]])
    assert nearest_image_score(distances).tolist() == [-1, -3, -2]
    assert calibrated_nearest_image_score(distances, reference).tolist() == [2, -2, 0.5]
    assert monte_carlo_score(distances) == pytest.approx([2 / 3, 0, 1])  # the radius is 2


def test_a_real_generator_is_audited_and_a_broken_one_refused():
    model = ConditionalGan(channels=1, size=16, classes=2, width=8)
    start = model.initial(0)
    rows = audit_generator(model, start, ROWS, INCLUDED, images=50, seed=0)
    assert abs(rows[0].evaluation.auc.value - 0.5) < 0.15  # it learned nothing
    broken = [array * np.nan if array.dtype.kind == "f" else array for array in start]
    with pytest.raises(MedwardError, match="images that are not finite"):
        audit_generator(model, broken, ROWS, INCLUDED, images=50)


def test_candidates_that_cannot_be_judged_are_refused():
    for candidates, truth in (
        (replace(ROWS, labels=None), INCLUDED),
        (ROWS, INCLUDED[:-1]),
        (ROWS, np.ones(160, bool)),
        (ROWS, np.zeros(160, bool)),
    ):
        with pytest.raises(MedwardError, match="needs labelled members and non-members"):
            audit_generator(Memoriser(0), learned(MEMBERS), candidates, truth)
