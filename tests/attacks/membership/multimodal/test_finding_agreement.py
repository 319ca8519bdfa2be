"""Findings of a written report against the true ones, and that a report which says nothing right is told so."""

import numpy as np

from medward.attacks.membership.multimodal.finding_agreement import finding_agreement, robust_agreement
from medward.guard.tasks.report_reader import CHEST_TERMS, ReportReader

READ = ReportReader(CHEST_TERMS).read
TRUE = "Large effusion. Possible pneumothorax. No mass."


def test_agreement_is_f1_of_what_is_there_or_may_be_whatever_the_words():
    assert finding_agreement("Pneumothorax and pleural fluid are seen.", TRUE, READ) == 1
    assert finding_agreement("Effusion is seen.", TRUE, READ) == 2 / 3
    assert finding_agreement("A mass is seen.", TRUE, READ) == 0
    assert finding_agreement("No effusion.", TRUE, READ) == 0
    assert finding_agreement("Nothing.", "No mass.", READ) == 1


def test_what_is_right_for_an_image_alone_counts_for_less_than_what_stays_right():
    turns = [["Effusion.", "Effusion."], ["No effusion.", "Effusion."]]
    np.testing.assert_array_equal(robust_agreement(turns[:1], ["Effusion."] * 2, READ), [1, 1])
    np.testing.assert_array_equal(robust_agreement(turns, ["Effusion."] * 2, READ), [0.5, 1])
