"""The limit beside the figures of `stealing_patients`, where classes are rare and where none is."""

from __future__ import annotations

import math

import pytest
import stealing_patients

from medward.guard.bundle.power import dilution_limit
from medward.guard.profile import Profile, calibration_size, fitted_count


@pytest.mark.parametrize("rows", [120, 500, 1500])
def test_of_one_stratum_it_is_the_limit_itself(rows):
    within = stealing_patients.limit_within_strata([rows], [1.0], [1.0])
    assert within == pytest.approx(dilution_limit(math.log(1000) / rows, 0.1))


def test_theft_that_falls_where_few_rows_are_is_told_later():
    spread = stealing_patients.limit_within_strata([450, 50], [0.9, 0.1], [0.9, 0.1])
    assert stealing_patients.limit_within_strata([500], [1.0], [1.0]) < spread
    assert stealing_patients.limit_within_strata([450, 12], [0.97, 0.03], [0.0, 1.0]) > spread
    assert stealing_patients.limit_within_strata([100, 5], [0.95, 0.05], [0.0, 1.0]) == math.inf


def test_subjects_have_the_reference_rows_that_they_name():
    least = [calibration_size(Profile(fitted={}, rows=1), size) for size in (120, 500, 1500)]
    assert [known - fitted_count(known, known) for known in least] == [120, 500, 1500]


def drawn(tenth):
    flags = {"pure": [5, 6, 7], "tenth": tenth, "benign": [None, None, None]}
    return {"reference": [500], "traffic": [1.0], "photographs": [1.0], "flags": flags}


@pytest.mark.parametrize(("tenth", "met"), [([40, 60, 80], True), ([40, 90, 99], False), ([40, None, None], False)])
def test_the_claim_is_met_within_one_and_a_half_limits_and_not_by_thieves_who_are_never_flagged(tenth, met):
    subject = stealing_patients.Subject("x", "rows", 500)
    claim = stealing_patients.diluted({subject: stealing_patients.together([drawn(tenth)])})
    assert claim.met is met
    assert claim.details["subjects"][subject.name]["limit"] == pytest.approx(54.6, abs=1)
    assert stealing_patients.pure({subject: stealing_patients.together([drawn(tenth)])}).met
