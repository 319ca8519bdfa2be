"""A guard that answers in text: what leaves of a report, at which level, for how many bits, and what is on record."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.report_models import (
    LENGTH,
    CornerWriter,
    report_guard,
    report_images,
    report_model,
    report_policy,
    report_spec,
)

from medward.guard import models
from medward.guard.answering import release_settings
from medward.guard.errors import MedwardError, ModelError
from medward.guard.harden.losses.table import losses_of
from medward.guard.pipeline import Guard
from medward.guard.release.text import IdentifierKind, KnownIdentifiers
from medward.guard.report_filter import REPORT_FILTER, ReportFilter
from medward.guard.types import Action, Level, Query

WHO = ("clinic", "key")
ROWS = report_images(12, 5)
PHI = " Read by Dr. John Smith, MRN 4471923."


class Log:
    def __init__(self):
        self.records = []

    def append(self, record):
        self.records.append(json.loads(json.dumps(record)))


def ask(guard, rows, **more):
    return guard.answer(Query(principal=WHO, inputs=rows, **more))


@pytest.fixture(scope="module")
def guard():
    return report_guard(report_model(), report_policy(screen={"action": "allow"}))


def test_a_report_leaves_with_its_findings(guard):
    answer, own = ask(guard, ROWS), guard.model.predict(ROWS)
    assert answer.texts == own.texts
    np.testing.assert_array_equal(answer.labels, guard.model.spec.decide(own.scores))
    assert len({*answer.labels.tolist()}) > 2
    assert set(answer.levels) == {Level.FULL}
    said = answer.as_dict()
    assert json.loads(json.dumps(said)) == said
    assert set(said) == {"id", "model", "labels", "texts", "findings", "levels"}
    assert answer.rows()[0] == {"label": answer.decisions[0], "text": own.texts[0], "level": "full"}


def test_rows_are_answered_alike_alone_and_in_a_batch(guard):
    whole = ask(guard, ROWS)
    alone = [ask(guard, ROWS[[at]]) for at in range(len(ROWS))]
    assert whole.texts == tuple(each.texts[0] for each in alone)
    assert whole.labels.tolist() == [int(each.labels[0]) for each in alone]


def test_findings_alone_leave_at_level_label_and_nothing_when_withheld(guard):
    model = guard.model
    coarse = Guard(model=model, profile=guard.profile, policy=report_policy(release={"level": "label"}))
    answer = ask(coarse, ROWS)
    assert answer.texts == (None,) * len(ROWS)
    shown = [each is Level.LABEL for each in answer.levels]
    assert any(shown)
    own = model.spec.decide(model.predict(ROWS).scores)
    assert (answer.labels == np.where(shown, own, -1)).all()
    assert coarse.notes == ()
    strict = report_policy(screen={"action": "withhold", "rate": 0.45})
    answer = ask(Guard(model=model, profile=guard.profile, policy=strict), ROWS)
    withheld = [each is Level.WITHHELD for each in answer.levels]
    assert sum(withheld) > 0
    assert [each is None for each in answer.texts] == withheld
    assert [each is None for each in answer.decisions] == withheld
    assert np.isnan(answer.scores[withheld]).all()


def test_identifiers_are_taken_out_as_the_policy_says_and_counted(guard):
    model = report_model(PHI)
    made = Guard(
        model=model, profile=guard.profile, policy=report_policy(screen={"action": "allow"}), audit=(log := Log())
    )
    answer = ask(made, ROWS[:2])
    for text, own in zip(answer.texts, model.predict(ROWS[:2]).texts, strict=True):
        assert "Smith" in own
        assert "Smith" not in text
        assert "4471923" not in text
        assert text.startswith(own[: own.index(" Read")])
    assert made._parts.reports.filters.replaced
    (verdict,) = (each for each in answer.verdicts if each.part == REPORT_FILTER)
    assert verdict.evidence["replaced"] >= 4
    kept = json.dumps(log.records)
    assert "levels" in kept
    assert not any(word in kept for word in ("Smith", "effusion", "NAME"))
    narrow = report_policy(screen={"action": "allow"}, privacy={"kinds": ["record_number"]})
    text = ask(Guard(model=model, profile=guard.profile, policy=narrow), ROWS[:1]).texts[0]
    assert "Smith" in text
    assert "4471923" not in text


def test_identifiers_of_the_patient_are_taken_out_of_that_rows_text(guard):
    model = report_model(" Compared with the study of Quillfeather.")
    made = Guard(model=model, profile=guard.profile, policy=report_policy(screen={"action": "allow"}))
    known = KnownIdentifiers.from_mapping({IdentifierKind.NAME: "Quillfeather"})
    answer = ask(made, ROWS[:2], known=[known, None])
    assert "Quillfeather" not in answer.texts[0]
    assert "Quillfeather" in answer.texts[1]
    with pytest.raises(MedwardError, match="known: need one for each of the 2"):
        ask(made, ROWS[:2], known=[known])


def test_a_text_whose_marks_would_change_findings_leaves_as_findings(guard):
    model = report_model(" Patient: Mass, Effusion.")
    known = KnownIdentifiers.from_mapping({IdentifierKind.NAME: "Effusion"})
    made = Guard(model=model, profile=guard.profile, policy=report_policy(screen={"action": "allow"}))
    answer = ask(made, ROWS, known=[known] * len(ROWS))
    own = model.predict(ROWS)
    np.testing.assert_array_equal(answer.labels, model.spec.decide(own.scores))
    assert Level.LABEL in answer.levels
    for text, level, written in zip(answer.texts, answer.levels, own.texts, strict=True):
        assert (text is None) == (level is Level.LABEL)
        assert text is None or model.spec.task.said_in(text) == model.spec.task.said_in(written)
    (verdict,) = (each for each in answer.verdicts if each.part == REPORT_FILTER)
    assert verdict.action is Action.COARSEN


@pytest.mark.parametrize(("on_error", "level"), [("withhold", Level.WITHHELD), ("flag", Level.LABEL)])
def test_no_text_leaves_unfiltered_when_a_filter_fails(guard, monkeypatch, on_error, level):
    def fails(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(ReportFilter, "open", fails)
    made = Guard(
        model=guard.model,
        profile=guard.profile,
        policy=report_policy(screen={"action": "allow"}).model_copy(update={"on_error": on_error}),
    )
    answer = ask(made, ROWS[:2])
    assert answer.levels == (level, level)
    assert answer.texts == (None, None)


def test_a_budget_pays_for_the_text_there_could_have_been_then_for_findings(guard):
    policy = report_policy(
        screen={"action": "allow"}, budget={"total_bits": 4 * LENGTH * 8, "label_share": 0.25, "parents": 0}
    )
    made = Guard(model=guard.model, profile=guard.profile, policy=policy)
    levels = [ask(made, row[None]).levels[0] for row in ROWS]
    assert levels[:2] == [Level.FULL] * 2
    assert set(levels[3:]) == {Level.LABEL}
    answer = ask(made, ROWS[-1:])
    spent = next(each.evidence["bits_total"] for each in answer.verdicts if each.part == "leakage")
    texts, labels = levels.count(Level.FULL), levels.count(Level.LABEL)
    bits = [
        made.model.spec.task.bits(np.zeros((1, 3)), each, release_settings(policy, None))
        for each in (Level.FULL, Level.LABEL)
    ]
    assert spent == pytest.approx(texts * bits[0] + labels * bits[1], abs=0.02)


def test_the_same_image_with_other_known_identifiers_is_another_question(guard):
    """What is known changes the marks, and so what leaves: it is paid for, where an exact repeat is free."""
    policy = report_policy(screen={"action": "allow"}, budget={"total_bits": 1e6, "parents": 0})
    made, spent = Guard(model=guard.model, profile=guard.profile, policy=policy, salt=b"s"), []
    for name in (None, None, "Effusion", "Effusion", "Heart"):
        known = None if name is None else KnownIdentifiers.from_mapping({IdentifierKind.NAME: name})
        answer = ask(made, ROWS[:1], known=[known])
        spent.append(next(each.evidence["bits_total"] for each in answer.verdicts if each.part == "leakage"))
    assert spent[0] == spent[1] < spent[2] == spent[3] < spent[4]


def test_a_report_too_long_for_its_price_is_no_answer(guard):
    model = report_model()
    long = models.wrap(
        CornerWriter("word " * 10), spec=report_spec(length=140), sample=report_images(20), features="corners"
    )
    assert long.predict(ROWS[:1]).texts
    object.__setattr__(long.function, "extra", "word " * 80)
    made = Guard(model=long, profile=guard.profile, policy=report_policy(), audit=(log := Log()))
    with pytest.raises(ModelError):
        ask(made, ROWS[:1])
    assert log.records == [{"event": "model failed", "principal": "clinic/key", "inputs": log.records[0]["inputs"]}]
    assert model.spec.task.length == LENGTH


def test_calibration_and_judging_write_nothing(guard):
    model = report_model()
    before = model.function.written
    report_guard(model)
    assert model.function.written == before
    model.prefill(ROWS)
    assert model.function.written == before
    model.predict(ROWS)
    assert model.function.written == before + len(ROWS)  # the control


def test_a_model_that_words_the_same_row_otherwise_is_refused():
    class Random(CornerWriter):
        def __call__(self, images):
            self.written += 1
            return [f"No effusion. Case {self.written}."]

    with pytest.raises(MedwardError, match="worded otherwise when asked again"):
        models.wrap(Random(), spec=report_spec(), sample=report_images(20))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda images: "one text", "gives a list of texts"),
        (lambda images: ["a", "b"], "gave 2 texts for one row"),
        (lambda images: [3.0], "a text is a string or its pieces, got float"),
        (lambda images: [["a", 1]], "a piece of a text is a string, got int"),
        (lambda images: np.zeros((len(images), 3)), "a piece of a text is a string"),
    ],
)
def test_functions_that_write_no_reports_are_refused(function, says):
    with pytest.raises(MedwardError, match=says):
        models.wrap(function, spec=report_spec(), sample=report_images(20))


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"features": "nothing"}, "has no method 'nothing'"), ({"output_key": "0"}, "gives its texts alone")],
)
def test_settings_of_other_models_are_refused(settings, says):
    with pytest.raises(MedwardError, match=says):
        models.wrap(CornerWriter(), spec=report_spec(), sample=report_images(20), **settings)


def test_a_prompt_of_the_task_is_what_the_function_is_asked():
    def asked(images, prompt):
        return [f"{prompt} No effusion." for _ in images]

    made = models.wrap(asked, spec=report_spec(prompt="Describe the lungs."), sample=report_images(20))
    assert made.predict(ROWS[:1]).texts == ("Describe the lungs. No effusion.",)


def test_what_cannot_take_reports_yet_says_so(guard):
    with pytest.raises(MedwardError, match="cannot be hardened yet"):
        losses_of(guard.model.spec.task)


def test_a_policy_that_takes_nothing_out_is_refused_where_text_leaves(guard):
    parts = {"model": guard.model, "profile": guard.profile}
    with pytest.raises(MedwardError, match="nothing is taken out of answers"):
        Guard(**parts, policy=report_policy(privacy={"identifiers": False}))
    Guard(**parts, policy=report_policy(privacy={"identifiers": False}, release={"level": "label"}))
    with pytest.raises(MedwardError, match="there is no memory filter"):
        Guard(**parts, policy=report_policy(privacy={"memory": True}))
