"""Candidates are dealt by chance, whole patients at a time, and told in words of training's authors and of others."""

import numpy as np
import pytest
from support.toy_reports import FINDINGS, toy_report_data

from medward.attacks.benchmarks.reports.candidates import divide_reports, keep_division
from medward.attacks.benchmarks.reports.own_phrases import own_phrase_bank
from medward.attacks.benchmarks.reports.phrases import CHEST_READER
from medward.attacks.benchmarks.reports.report_data import ReportData, ReportSplit
from medward.guard.errors import MedwardError

BANK = own_phrase_bank(FINDINGS)
PARTS = ("train", "validation")
SHARES = {"train": 3, "holdout": 2, "reference": 1}


def with_patients(data):
    """Of every two rows one patient."""
    splits, start = {}, 0
    for name, split in data.splits.items():
        patients = (start + np.arange(len(split))) // 2
        start += 2 * len(split)
        splits[name] = ReportSplit(
            images=split.images, facts=split.facts, reports=split.reports, patients=patients.astype(np.int64)
        )
    return ReportData(name=data.name, findings=data.findings, splits=splits, authors=data.authors)


DATA = with_patients(toy_report_data(96))


def dealt(seed=0, shares=SHARES):
    return divide_reports(DATA, PARTS, shares, bank=BANK, seed=seed)


def test_every_patient_is_on_one_side_and_every_image_is_used_once():
    found = dealt()
    sides = [set(found.splits[name].patients.tolist()) for name in SHARES]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert [len(each) for each in sides] == [18, 12, 6]
    images = {each.tobytes() for name in SHARES for each in found.splits[name].images}
    assert images == {each.tobytes() for part in PARTS for each in DATA.splits[part].images}
    again, other = dealt(), dealt(1)
    np.testing.assert_array_equal(again.splits["train"].images, found.splits["train"].images)
    assert set(other.splits["train"].patients.tolist()) != sides[0]


def test_candidates_come_once_more_in_words_that_no_training_had():
    found = dealt()
    members, others, both = (found.splits[name] for name in ("train", "holdout", "test"))
    np.testing.assert_array_equal(both.images, np.concatenate([members.images, others.images]))
    usual, unusual = ({each.report(facts) for each in found.authors for facts in both.facts}, set(both.reports))
    assert set(members.reports) | set(others.reports) <= usual
    assert not usual & unusual
    for one, two in zip((*members.reports, *others.reports), both.reports, strict=True):
        assert CHEST_READER.read(one) == CHEST_READER.read(two)


def test_a_division_that_was_made_is_kept():
    found = keep_division(DATA, ("validation", "test"), bank=BANK, seed=0)
    np.testing.assert_array_equal(found.splits["train"].images, DATA.splits["train"].images)
    held = np.concatenate([DATA.splits[part].images for part in ("validation", "test")])
    np.testing.assert_array_equal(found.splits["holdout"].images, held)
    words = {each.report(facts) for each in DATA.authors for facts in found.splits["holdout"].facts}
    assert set(found.splits["holdout"].reports) <= words


def test_a_share_of_nobody_is_refused():
    with pytest.raises(MedwardError, match="nobody of 36 is left for 'reference'"):
        dealt(shares={"train": 3, "holdout": 2, "reference": 0.01})
