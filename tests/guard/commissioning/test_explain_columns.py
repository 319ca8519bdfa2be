"""What is said of table rows: the column that was sent wrongly and how, and nothing of ordinary rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medward.guard.columns import Column
from medward.guard.commissioning.explain_batch import explain_batch
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs

NAMES = ("age", "glucose", "creatinine", "temperature", "stage", "pressure")


class Ward:
    """Answers by the glucose of a row."""

    def __init__(self):
        task = Classification(classes=("well", "ill"), output="probabilities")
        columns = tuple(Column(name=name) for name in NAMES)
        self.spec = ModelSpec(name="ward", modality="tabular", shape=(6,), task=task, columns=columns)

    def predict(self, inputs):
        odds = 1 / (1 + np.exp(6 - inputs[:, 1].astype(np.float64).clip(-50, 50)))
        return Outputs(np.stack([1 - odds, odds], axis=1))


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    ill = rng.normal(size=n)
    age = np.round(60 + 12 * rng.normal(size=n) + 4 * ill)
    glucose = 6 * np.exp(0.15 * ill + 0.08 * rng.normal(size=n))
    creatinine = 0.9 * np.exp(0.2 * ill + 0.1 * rng.normal(size=n))
    temperature = 37 + 0.4 * ill + 0.2 * rng.normal(size=n)
    stage = np.clip(np.round(1.5 + ill), 0, 3)
    pressure = 125 + 10 * ill + 8 * rng.normal(size=n)
    return np.stack([age, glucose, creatinine, temperature, stage, pressure], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    model = Ward()
    return model, Profile.fit(model, rows(400), risk=0.001, secret=0)


def changed(column, change, seed=1):
    found = rows(20, seed)
    found[:, NAMES.index(column)] = change(found[:, NAMES.index(column)])
    return found


def gaps(column, value):
    found = rows(20, seed=1)
    found[::2, NAMES.index(column)] = value
    return found


def exchanged(first, second):
    found, pair = rows(20, seed=1), [NAMES.index(first), NAMES.index(second)]
    found[:, pair] = found[:, pair[::-1]]
    return found


MISTAKES = {
    "ten times": (changed("creatinine", lambda x: 10 * x), "10 times too large", "'creatinine'"),
    "a tenth": (changed("creatinine", lambda x: x / 10), "10 times too small", "'creatinine'"),
    "mg/dL": (changed("glucose", lambda x: 18.016 * x), "18.016 times too large", "'glucose'"),
    "kPa": (changed("pressure", lambda x: x / 7.5006), "7.5006 times too small", "'pressure'"),
    "Fahrenheit": (changed("temperature", lambda x: 1.8 * x + 32), "Fahrenheit", "'temperature'"),
    "sign": (changed("pressure", lambda x: -x), "sign", "'pressure'"),
    "0": (gaps("glucose", 0), "missing as 0", "'glucose'"),
    "-1": (gaps("pressure", -1), "missing as -1", "'pressure'"),
    "999": (gaps("age", 999), "missing as 999", "'age'"),
    "mean": (gaps("glucose", 6.117), "missing as one value", "'glucose'"),
    "exchanged": (exchanged("age", "temperature"), "columns exchanged", "'age' and 'temperature'"),
    "alike": (exchanged("glucose", "creatinine"), "columns exchanged", "'glucose' and 'creatinine'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_called_by_its_name(fitted, name):
    sent, word, column = MISTAKES[name]
    (note,) = explain_batch(*fitted, sent)
    assert word in (note.word, *note.others)
    assert column in note.text
    assert note.explained


def test_standardised_rows_are_named(fitted):
    known = rows(400)
    sent = (rows(20, seed=1) - known.mean(axis=0)) / known.std(axis=0)
    assert [note.word for note in explain_batch(*fitted, sent)] == ["standardised"]


def test_codes_from_one_on_are_named(fitted):
    model, _ = fitted
    graded = rows(400)
    graded[:, 4] = (graded[:, 0] > 60) + 2.0 * (np.arange(400) % 2)  # no code is rare
    profile = Profile.fit(model, graded, risk=0.001, secret=0)
    sent = graded[:40].copy()
    assert explain_batch(model, profile, sent) == ()
    sent[:, 4] += 1
    assert [note.word for note in explain_batch(model, profile, sent)] == ["1 too large"]


def test_two_mistakes_are_both_named(fitted):
    sent = changed("glucose", lambda x: 18.016 * x)
    sent[:, 0] *= 12
    notes = explain_batch(*fitted, sent)
    assert [note.text.split("'")[1] for note in notes] == ["age", "glucose"]
    words = [{note.word, *note.others} for note in notes]
    assert "12 times too large" in words[0]
    assert "18.016 times too large" in words[1]


def test_nothing_is_said_of_ordinary_rows(fitted):
    assert sum(bool(explain_batch(*fitted, rows(20, seed=seed))) for seed in range(10, 110)) == 0
    assert sum(bool(explain_batch(*fitted, rows(5, seed=seed))) for seed in range(10, 110)) == 0


def test_where_nothing_explains_it_the_columns_that_differ_are_said(fitted):
    notes = explain_batch(*fitted, changed("age", lambda x: x + 300))
    assert [note.word for note in notes] == ["unexplained: 'age'"]
    assert notes[0].text == "of 20 rows, 20 have 'age' above nearly all calibration rows"
    assert not any(character.isdigit() for character in notes[0].words)  # no number of calibration is told


def test_a_profile_of_an_older_release_names_no_column(fitted):
    model, profile = fitted
    (note,) = explain_batch(model, replace(profile, ordinary=None), changed("age", lambda x: 12 * x))
    assert note.word == "unexplained: strange"
    assert explain_batch(model, replace(profile, ordinary=None), rows(20, seed=1)) == ()


def test_what_was_learned_is_read_back_and_small(fitted):
    model, profile = fitted
    arrays = profile.to_arrays()
    mine = {name: each for name, each in arrays.items() if name.startswith("ordinary.")}
    again = Profile.from_arrays(arrays)
    for sent, _, _ in MISTAKES.values():
        assert explain_batch(model, again, sent) == explain_batch(model, profile, sent)
    assert sum(np.asarray(each).nbytes for each in mine.values()) < 500 * len(NAMES)
    assert Profile.from_arrays({name: each for name, each in arrays.items() if name not in mine}).ordinary is None


@pytest.fixture(scope="module")
def counted():
    """A ward in which a column holds 0 in half of the rows."""
    model, known = Ward(), rows(400)
    known[::2, 4], known[1::2, 4] = 0, np.round(3 + np.abs(10 * known[1::2, 1] - 60)) / 10
    return model, Profile.fit(model, known, risk=0.001, secret=0), known


def test_values_that_many_rows_share_are_no_gaps_where_something_else_explains_them(counted):
    model, profile, known = counted
    sent = known[:20].copy()
    assert explain_batch(model, profile, sent) == ()
    sent[:, [4, 5]] = sent[:, [5, 4]]
    assert [note.word for note in explain_batch(model, profile, sent)] == ["columns exchanged"]
    sent = known[:20].copy()
    sent[:, 4] *= 1000
    assert [note.word for note in explain_batch(model, profile, sent)] == ["1000 times too large"]


def test_more_of_a_value_that_calibration_rows_hold_is_not_called_missing(counted):
    model, profile, known = counted
    sent = np.concatenate([known[0:100:2], known[1:3]])  # all but two without a bleed: another population, perhaps
    notes = explain_batch(model, profile, sent)
    assert not any(note.explained for note in notes)
    assert any("'stage' at 0, more than calibration rows have" in note.text for note in notes)
