"""The report task: what a text decides, what may leave of it, and for how many bits."""

from __future__ import annotations

import dataclasses
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from medward.guard.errors import MedwardError
from medward.guard.privacy_policy import PrivacyPolicy
from medward.guard.release.capacity import WITHHELD_BITS
from medward.guard.release.memory.memory_filter import MemoryFilter
from medward.guard.release.privacy_filters import PrivacyFilters
from medward.guard.report_filter import ReportFilter
from medward.guard.spec import AnyTask
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.multilabel import unpacked_findings
from medward.guard.tasks.report import MOST_REPORTED, WrittenReport
from medward.guard.tasks.report_reader import CHEST_TERMS
from medward.guard.types import Level

TASK = WrittenReport(findings=("effusion", "mass", "fracture"), length=400)
FILTER = ReportFilter(task=TASK, filters=PrivacyFilters(PrivacyPolicy()))
CLAUSES = (
    "No pleural effusion. ",
    "Large left pleural effusion. ",
    "Possible mass in the right apex. ",
    "There is no mass. ",
    "Seen by Dr. John Smith on 12 March 2019. ",
    "MRN 4471923. ",
    "Rib fracture versus artefact. ",
    "Call 617-555-0143 about the mass. ",
    "John Mass was told of the fracture. ",
    "Patient: Effusion, Maria. ",
    "Boston, Mass. ",
    "[MASS] ",
    "no ",
    "\n",
)
reports = st.lists(st.sampled_from(CLAUSES) | st.text(max_size=20), max_size=6).map("".join)


def decided(text):
    return int(TASK.decide(TASK.read([text], "m"))[0])


def test_what_is_there_what_may_be_and_what_is_not_are_three_decisions():
    texts = ["Large effusion.", "Possible effusion.", "No effusion.", ""]
    scores = TASK.read(texts, "m")
    assert scores[:, 0].tolist() == [2, 1, 0, 0]
    assert TASK.decide(scores).tolist() == [0b000001, 0b001001, 0, 0]
    assert [TASK.word(int(each)) for each in TASK.decide(scores)] == [
        {"effusion": "present"}, {"effusion": "uncertain"}, {}, {}]  # fmt: skip
    found = unpacked_findings(TASK.decide(scores), len(TASK.findings))
    np.testing.assert_array_equal(found, scores > 0)


@given(st.lists(st.lists(st.integers(0, 2), min_size=MOST_REPORTED, max_size=MOST_REPORTED), min_size=1, max_size=5))
def test_decisions_tell_all_states_of_all_findings_apart(states):
    names = tuple(f"f{i}" for i in range(MOST_REPORTED))
    task, scores = WrittenReport(findings=names, words=names), np.array(states, np.float32)
    numbers = task.decide(scores)
    assert (numbers >= 0).all()
    meant = [
        {"absent": 0, "uncertain": 1, "present": 2}.get(task.word(int(n)).get(f, "absent"))
        for n in numbers
        for f in names
    ]
    np.testing.assert_array_equal(np.array(meant).reshape(scores.shape), scores)


@given(reports)
def test_a_text_that_leaves_says_the_findings_of_the_models_own(text):
    text = text[:90]
    found = FILTER.filtered([text], [Level.FULL])
    (left,), (level,) = found.texts, found.levels
    assert level in (Level.FULL, Level.LABEL)
    assert (left is None) == (level is Level.LABEL)
    if left is not None:
        assert TASK.said_in(left) == TASK.said_in(text)
    else:  # the plain filter would have changed a decision
        changed = FILTER.open().redact(text).text
        assert TASK.said_in(changed) != TASK.said_in(text)


def test_a_mark_in_the_place_of_a_finding_leaves_the_findings_alone():
    """The negative control of the law: filtering alone would change what is decided."""
    text = "This retired tram driver fell from a ladder behind the old mill, and a spiculated mass abuts her third rib."
    memory = MemoryFilter.fit([text], ["patient 1"], salt=bytes(16))
    filters = PrivacyFilters(PrivacyPolicy(memory=True), memory=memory)
    plain = filters.conversation().redact(text)
    assert "mass" not in plain
    assert decided(plain) != decided(text)
    found = ReportFilter(task=TASK, filters=filters).filtered([text, "No mass."], [Level.FULL, Level.FULL])
    assert found.levels == (Level.LABEL, Level.FULL)
    assert found.texts == (None, "No mass.")
    assert found.verdict.evidence == {"replaced": 1.0, "findings_changed": 1.0}


def test_release_is_the_findings_or_nothing():
    scores = TASK.read(["Large effusion. Possible mass.", "No fracture."], "m")
    for level in (Level.FULL, Level.LABEL):
        released = TASK.release(scores, level, ReleaseSettings())
        np.testing.assert_array_equal(TASK.decide(released), TASK.decide(scores))
    assert np.isnan(TASK.release(scores, Level.WITHHELD, ReleaseSettings())).all()


def test_a_text_costs_its_limit_and_findings_three_states_each():
    scores, settings = TASK.read(["No mass."], "m"), ReleaseSettings()
    assert TASK.bits(scores, Level.FULL, settings) == pytest.approx(8 * 400, abs=0.01)
    tokens = dataclasses.replace(TASK, vocabulary=50_000, length=128)
    assert tokens.bits(scores, Level.FULL, settings) == pytest.approx(128 * log2(50_000), abs=0.01)
    assert TASK.bits(scores, Level.LABEL, settings) == pytest.approx(3 * log2(3))
    assert TASK.bits(scores, Level.WITHHELD, settings) == WITHHELD_BITS
    tiny = WrittenReport(findings=tuple(CHEST_TERMS), length=1)
    assert tiny.bits(scores, Level.LABEL, settings) == tiny.bits(scores, Level.FULL, settings)


def test_a_task_is_read_back_from_a_card():
    adapter = TypeAdapter(AnyTask)
    task = WrittenReport(findings=("mass",), words=(r"mass(?:es)?",), length=9, vocabulary=44, prompt="Describe.")
    assert adapter.validate_json(adapter.dump_json(task)) == task
    assert WrittenReport().findings == tuple(CHEST_TERMS)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"findings": ()}, "1 to 31"),
        ({"findings": tuple(map(str, range(32))), "words": ("a",) * 32}, "1 to 31"),
        ({"findings": ("gout",)}, "no words are known for 'gout'"),
        ({"findings": ("gout",), "words": ("a", "b")}, "one for each"),
        ({"findings": ("gout",), "words": ("(",)}, "no pattern"),
        ({"length": 0}, "length: must be 1"),
        ({"vocabulary": 1}, "2 tokens or more"),
    ],
)
def test_a_report_task_that_contradicts_itself_is_refused(settings, says):
    with pytest.raises(MedwardError, match=says):
        WrittenReport(**settings)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("one text", "list of texts"),
        ([1.0], "gives texts, got float"),
        (["x" * 401], "401 bytes, and its price covers 400"),
        (["é" * 201], "402 bytes"),
        (["\ud800"], "lone surrogate"),
        (None, "list of texts"),
    ],
)
def test_what_is_no_report_is_refused(raw, says):
    with pytest.raises(MedwardError, match=says):
        TASK.read(raw, "m")
