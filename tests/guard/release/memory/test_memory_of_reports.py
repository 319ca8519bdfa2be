"""The memory filter on chest X-ray reports: boilerplate of other patients passes, what one patient has does not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from medward.guard.release.memory.memory_filter import MemoryFilter

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def reports():
    sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
    try:
        from membership_language import read_reports
    finally:
        sys.path.pop(0)
    found = read_reports(distinct=False)
    return [found[place] for place in np.random.default_rng(1).permutation(len(found))]


def test_other_patients_reports_pass_but_for_a_few_words(reports):
    held_out, trained = reports[:400], reports[400:]
    known = MemoryFilter.fit(trained, range(len(trained)), salt=bytes(16))
    words = sum(len(text.split()) for text in held_out)
    left = sum(len(re.sub(r"\[MEMORISED\]", "", known.redact(text)).split()) for text in held_out)
    assert 1 - left / words < 0.01
    taken = [known.redact(text) != text for text in trained[:400]]
    assert np.mean(taken) > 0.4
