"""Images that show text are flagged or withheld one by one as the policy says, and nothing tells what the text was."""

from __future__ import annotations

import importlib
import json
import logging
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support.burned_in import PLANTED, anatomy
from support.models import LinearModel, MeanModel, benign_rows

from medward.attacks.benchmarks.burned_in_text import text_mask
from medward.guard.audit.log import AuditLog
from medward.guard.bundle.folder import seal_bundle
from medward.guard.bundle.make import protect
from medward.guard.errors import MedwardError
from medward.guard.intake.burned_in_check import BURNED_IN_TEXT, LEAST_READABLE, BurnedInCheck
from medward.guard.intake.deidentify.reading import RapidReader, ReadText
from medward.guard.intake.deidentify.regions import Region
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.privacy_policy import PrivacyPolicy
from medward.guard.profile import Profile
from medward.guard.types import Action, Level, Query

PLAIN = benign_rows(MeanModel)[:1]
WRITTEN = np.where(np.arange(6) < 4, np.float32(1), np.float32(0.1)) * np.ones_like(PLAIN)


class MostlyWhite:
    """Reads `text` in every image that is mostly white."""

    def __init__(self, text=PLANTED, failing=None):
        self.text, self.failing, self.asked = text, failing, 0

    def read(self, grey, *, scale=1.0):
        self.asked += 1
        if self.failing and grey.any():
            raise self.failing
        return (ReadText(self.text, Region(0, 0, 4, 6), 0.9),) if np.mean(grey == 255) > 0.5 else ()


@pytest.fixture(scope="module")
def profile():
    return Profile.fit(MeanModel(), benign_rows(MeanModel), risk=0.001)


@pytest.fixture
def guard(profile):
    def make(action, reader=None, *, on_error="withhold", **parts):
        policy = Policy(
            on_error=on_error,
            screen={"action": "allow"},
            duplicates={"watch": False},
            privacy={"burned_in_text": action},
        )
        parts = {"model": MeanModel(), "profile": profile, "text_reader": reader or MostlyWhite()} | parts
        return Guard(policy=policy, **parts)

    return make


def ask(guard, rows, **more):
    return guard.answer(Query(principal=("clinic",), inputs=rows, **more))


def said(answer):
    return [each for each in answer.verdicts if each.part == BURNED_IN_TEXT]


THREE = np.concatenate([PLAIN, WRITTEN, PLAIN])


@pytest.mark.parametrize(
    ("action", "levels", "verdict"),
    [
        ("allow", ["rounded"] * 3, None),
        ("flag", ["rounded"] * 3, Action.FLAG),
        ("withhold", ["rounded", "withheld", "rounded"], Action.WITHHOLD),
    ],
)
def test_an_image_that_shows_text_gets_the_action_and_its_neighbours_do_not(guard, action, levels, verdict):
    answer = ask(guard(action), THREE)
    assert [level.label for level in answer.levels] == levels
    assert [each.action for each in said(answer)] == ([] if verdict is None else [verdict])
    assert [each.evidence for each in said(answer)] == ([] if verdict is None else [{"images": 1.0, "texts": 1.0}])


@pytest.mark.parametrize("action", ["flag", "withhold"])
def test_the_control_images_without_text_are_answered_and_markers_are_no_text(guard, action):
    lead_letters = ("L", "PORTABLE", "LS", "2ML", "8.30")
    for text, rows in ((PLANTED, PLAIN), *((text, WRITTEN) for text in lead_letters)):
        answer = ask(guard(action, MostlyWhite(text)), rows)
        assert answer.levels == (Level.ROUNDED,)
        assert [(each.action, each.evidence["texts"]) for each in said(answer)] == [(Action.ALLOW, 0)]


def test_where_text_is_allowed_nothing_is_read_and_no_extra_is_needed(guard, monkeypatch):
    monkeypatch.setattr(importlib, "import_module", None)
    reader = MostlyWhite(failing=AssertionError())
    asked = []
    answer = ask(guard("allow", reader), WRITTEN, pictures=[lambda: asked.append(1)])
    assert answer.levels == (Level.ROUNDED,)
    assert (reader.asked, asked) == (0, [])


def test_the_file_s_own_image_is_read_in_the_place_of_the_model_s(guard):
    pictures = [lambda: np.repeat(WRITTEN[0], 9, axis=2), lambda: PLAIN[0]]
    answer = ask(guard("withhold"), np.concatenate([PLAIN, WRITTEN]), pictures=pictures)
    assert answer.levels == (Level.WITHHELD, Level.ROUNDED)
    with pytest.raises(MedwardError, match="pictures: need one for each of the 2 inputs, got 1"):
        ask(guard("withhold"), THREE[:2], pictures=pictures[:1])


@pytest.mark.parametrize(("on_error", "level"), [("withhold", Level.WITHHELD), ("flag", Level.ROUNDED)])
@pytest.mark.parametrize("where", ["reader", "picture"])
def test_a_reader_that_fails_is_handled_as_the_site_chose(guard, on_error, level, where):
    def broken():
        raise OSError("cut off")

    reader = MostlyWhite(failing=ValueError(PLANTED)) if where == "reader" else MostlyWhite()
    pictures = () if where == "reader" else [broken]
    answer = ask(guard("flag", reader, on_error=on_error), PLAIN, pictures=pictures)
    assert answer.levels == (level,)
    assert [each.source for each in said(answer)] == [
        f"error:{BURNED_IN_TEXT}:{'MedwardError' if where == 'reader' else 'OSError'}"
    ]


@pytest.mark.parametrize("failing", [None, ValueError(f"could not read {PLANTED}")])
def test_no_log_record_or_verdict_holds_what_was_read(guard, tmp_path, caplog, failing):
    with caplog.at_level(logging.DEBUG):
        answer = ask(guard("withhold", MostlyWhite(failing=failing), audit=AuditLog(tmp_path / "log.jsonl")), WRITTEN)
    [record] = (tmp_path / "log.jsonl").read_text().splitlines()
    assert answer.levels == (Level.WITHHELD,)
    assert [each for each in json.loads(record)["verdicts"] if BURNED_IN_TEXT in each["source"]]
    logged = "".join(logging.Formatter().format(each) for each in caplog.records)
    assert bool(logged) is bool(failing), "a failure is in the log, by its type"
    for text in (record, logged, repr(answer), repr(said(answer))):
        assert PLANTED not in text
        assert PLANTED[:6] not in text


def test_a_missing_extra_is_said_when_the_guard_is_made(guard, profile, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    policy = Policy(on_error="flag", privacy={"burned_in_text": "flag"})
    with pytest.raises(MedwardError, match=r"burned-in text need rapidocr: pip install 'medward\[deidentify\]'"):
        Guard(model=MeanModel(), profile=profile, policy=policy)


def test_a_reader_that_cannot_read_an_empty_image_is_refused_when_the_guard_is_made(guard):
    class Broken:
        def read(self, grey, *, scale=1.0):
            raise RuntimeError(PLANTED)

    with pytest.raises(
        MedwardError, match=r"burned-in text cannot be read, not even of an empty image \(RuntimeError\)"
    ):
        guard("flag", Broken())


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (LinearModel(), "takes tables of shape"),
        (MeanModel(shape=(4, 4, 6)), r"takes images of shape \(4, 4, 6\)"),
    ],
)
def test_rows_that_are_no_grey_or_colour_images_are_refused(guard, model, says):
    rows = benign_rows(type(model))
    rows = np.repeat(rows, 4, axis=1) if model.spec.modality == "image" else rows
    profile = Profile.fit(model, rows, risk=0.001)
    with pytest.raises(MedwardError, match=f"privacy.burned_in_text = 'flag': .* {says}.* set it to \"allow\""):
        guard("flag", model=model, profile=profile)
    guard("allow", model=model, profile=profile)


def test_a_bundle_of_a_table_is_neither_made_nor_sealed_with_such_a_policy(tmp_path):
    rows = np.random.default_rng(0).normal(size=(300, 4))
    model, path = LogisticRegression().fit(rows, rows[:, 0] > 0), tmp_path / "bundle"
    with pytest.raises(MedwardError, match=r"privacy\.burned_in_text = 'withhold': model takes tables"):
        protect(model, rows, Policy(on_error="flag", privacy={"burned_in_text": "withhold"}), path)
    assert not path.exists()
    protect(model, rows, Policy(on_error="flag"), path)
    policy = path / "policy.toml"
    policy.write_text(policy.read_text().replace('burned_in_text = "allow"', 'burned_in_text = "flag"'))
    with pytest.raises(MedwardError, match=r"privacy\.burned_in_text = 'flag': model takes tables"):
        seal_bundle(path)


def test_a_guard_says_that_inputs_as_small_as_its_own_cannot_be_read(guard):
    [said] = [note for note in guard("flag").notes if "burned-in" in note]
    assert (
        f"in 4 x 6 pixels, as inputs that come as numbers have, most of it is not seen, which needs {LEAST_READABLE}"
        in said
    )
    assert not [note for note in guard("allow").notes if "burned-in" in note]


def written(side=512):
    """A shaded image with a made-up name in letters of 24 pixels, and the image without it."""
    plain = anatomy(side)
    ink = text_mask("FITZGERALD, Greta", font="DejaVuSans-Bold", size=24)
    drawn = plain.copy()
    place = drawn[20 : 20 + ink.shape[0], 30 : 30 + ink.shape[1]]
    place[...] = np.rint(place * (1 - ink) + 250 * ink)
    return drawn, plain


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1024.0, 3071.0), (None, None)])
def test_the_engine_reads_text_in_any_range_and_none_where_there_is_none(low, high):
    check = BurnedInCheck(action=Action.FLAG, reader=RapidReader(), low=low, high=high)
    black, white = (0.0, 255.0) if low is None else (low, high)
    drawn, plain = (each[None] / np.float32(255) * np.float32(white - black) + np.float32(black) for each in written())
    assert check.texts(drawn) >= 1
    assert check.texts(plain) == 0
    if low == 0:
        assert check.texts(np.repeat(drawn, 3, axis=0)) >= 1, "in colours"


def test_the_engine_is_the_reader_unless_another_is_given():
    made = BurnedInCheck.of(PrivacyPolicy(burned_in_text="flag"), MeanModel().spec)
    again = BurnedInCheck.of(PrivacyPolicy(burned_in_text="withhold"), MeanModel().spec)
    assert isinstance(made.reader, RapidReader)
    assert made.reader is again.reader, "one for all guards of a process"
    assert BurnedInCheck.of(PrivacyPolicy(), MeanModel().spec) is None
