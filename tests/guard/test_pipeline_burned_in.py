"""Images that show text are flagged or withheld one by one as the policy says, and nothing tells what the text was."""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from functools import partial

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
from medward.guard.intake.burned_in_check import BURNED_IN_TEXT, LEAST_READABLE, MOST_OF_REQUEST, BurnedInCheck
from medward.guard.intake.deidentify.reading import PIXELS_OF_A_TEXT, RapidReader, ReadingBoundError, ReadText
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
    assert [each.evidence for each in said(answer)] == ([] if verdict is None else [{"images": 1.0, "unread": 0.0}])


@pytest.mark.parametrize("action", ["flag", "withhold"])
def test_the_control_images_without_text_are_answered_and_markers_are_no_text(guard, action):
    lead_letters = ("L", "PORTABLE", "LS", "2ML", "8.30")
    for text, rows in ((PLANTED, PLAIN), *((text, WRITTEN) for text in lead_letters)):
        answer = ask(guard(action, MostlyWhite(text)), rows)
        assert answer.levels == (Level.ROUNDED,)
        assert [(each.action, each.evidence["images"]) for each in said(answer)] == [(Action.ALLOW, 0)]


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
    reader = MostlyWhite(failing=ValueError(PLANTED)) if where == "reader" else MostlyWhite()
    pictures = () if where == "reader" else [broken]
    answer = ask(guard("flag", reader, on_error=on_error), PLAIN, pictures=pictures)
    assert answer.levels == (level,)
    assert [each.source for each in said(answer)] == [BURNED_IN_TEXT, f"error:{BURNED_IN_TEXT}:MedwardError"]
    assert said(answer)[0].evidence == {"images": 0.0, "unread": 1.0}


def broken():
    raise OSError(f"cut off at {PLANTED}")


@pytest.mark.parametrize(("on_error", "last"), [("withhold", Level.WITHHELD), ("flag", Level.ROUNDED)])
def test_an_image_that_cannot_be_made_takes_nothing_from_those_that_were_read(guard, on_error, last):
    pictures = [lambda: WRITTEN[0], broken, lambda: PLAIN[0], lambda: WRITTEN[0]]
    answer = ask(guard("withhold", on_error=on_error), np.repeat(PLAIN, 4, axis=0), pictures=pictures)
    assert answer.levels == (Level.WITHHELD, last, Level.ROUNDED, Level.WITHHELD)
    assert said(answer)[0].evidence == {"images": 2.0, "unread": 1.0}


def test_the_message_of_a_picture_is_not_logged_and_its_type_is(guard, caplog):
    ask(guard("withhold"), PLAIN, pictures=[broken])
    logged = "".join(logging.Formatter().format(each) for each in caplog.records)
    assert "an image cannot be made (OSError)" in logged
    assert PLANTED not in logged


def hot(value):
    image = PLAIN[0].astype(np.float64)
    image[0, 0, 0] = value
    return image


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (WRITTEN[0][0], r"shape \(C, H, W\) with 1 or 3 channels, got \(4, 6\)"),
        (np.moveaxis(np.repeat(WRITTEN[0], 3, axis=0), 0, -1), r"1 or 3 channels, got \(4, 6, 3\)"),
        (np.zeros((1, 0, 6)), "1 or 3 channels"),
        (WRITTEN[0].astype(str), "must be numbers, got dtype"),
        (hot(np.nan), "must be finite, got NaN"),
        (hot(1e300), "must be finite, got NaN or infinity"),
        (hot(65535), "must be in the model's range of 0.0 to 1.0, got 0.* to 65535"),
        (WRITTEN[0] * 2 - 1, "must be in the model's range of 0.0 to 1.0, got -"),
        (np.broadcast_to(np.float32(0), (1, 5001, 5000)), "at most 25000000 pixels, got 25005000"),
    ],
)
def test_what_is_no_image_in_the_model_s_range_is_an_error_of_that_image(guard, caplog, image, says):
    answer = ask(guard("flag"), np.repeat(PLAIN, 2, axis=0), pictures=[lambda: image, lambda: PLAIN[0]])
    assert answer.levels == (Level.WITHHELD, Level.ROUNDED)
    assert re.search(says, caplog.text)


class Scripted:
    """Reads the same `texts` in every piece, and counts those that were asked for."""

    def __init__(self, *texts):
        self.texts, self.asked = texts, 0

    def read(self, grey, *, scale=1.0):
        for text in self.texts:
            self.asked += 1
            yield ReadText(text, Region(0, 0, 4, 6), 0.9)


def test_nothing_is_read_after_the_first_text_that_counts():
    reader = Scripted("LEE", PLANTED, *["SMITH JOHN"] * 100)
    seen = BurnedInCheck(action=Action.FLAG, reader=reader, low=0.0, high=1.0).look([lambda: WRITTEN[0]])
    assert (seen, reader.asked) == ([True], 2)


def test_what_an_image_and_a_request_may_take_is_bounded_and_said(guard, caplog):
    texts = 10_000  # that do not count, of which each takes as long as many pixels
    reader = Scripted(*["LEE"] * texts)
    check = BurnedInCheck(action=Action.FLAG, reader=reader, low=0.0, high=1.0)
    images = [partial(np.asarray, WRITTEN[0])] * 10
    seen = check.look(images)
    assert all(isinstance(each, ReadingBoundError) for each in seen)
    assert "takes more than 32000000 pixels" in str(seen[0])
    assert "takes more than 128000000 pixels" in str(seen[-1])
    assert reader.asked <= MOST_OF_REQUEST / PIXELS_OF_A_TEXT + len(images)
    few = BurnedInCheck(action=Action.FLAG, reader=Scripted("LEE"), low=0.0, high=1.0)
    assert few.look(images) == [False] * 10, "the control: what takes less is read"
    answer = ask(guard("flag", Scripted(*["LEE"] * texts)), PLAIN)
    assert answer.levels == (Level.WITHHELD,)
    assert said(answer)[1].source == f"error:{BURNED_IN_TEXT}:ReadingBoundError"
    assert "send smaller or fewer images" in caplog.text


def test_one_hot_pixel_hides_no_text_where_the_range_is_not_said():
    check = BurnedInCheck(action=Action.FLAG, reader=RapidReader())
    drawn, plain = (each[None].astype(np.float32) for each in written())
    assert check.shows_text(drawn)
    drawn[0, -1, -1] = plain[0, -1, -1] = 65535
    assert check.shows_text(drawn)
    assert not check.shows_text(plain)
    assert check.shows_text(np.repeat(drawn, 3, axis=0)), "in colours"


@pytest.mark.parametrize(
    ("privacy", "says"),
    [
        ({"memory": True}, "privacy.memory does nothing here"),
        ({"language": "es", "kinds": ("name",)}, "privacy.language, privacy.kinds do nothing here"),
        ({"identifiers": False}, "privacy.identifiers does nothing here"),
        ({"burned_in_text": "flag"}, None),
        ({}, None),
    ],
)
def test_a_guard_of_numbers_says_that_filters_of_text_stand_before_no_answer(profile, privacy, says):
    policy = Policy(on_error="withhold", privacy=privacy)
    notes = Guard(model=MeanModel(), profile=profile, policy=policy, text_reader=MostlyWhite()).notes
    found = [each for each in notes if "filters of text" in each]
    assert len(found) == (says is not None)
    assert all(each.startswith(says) for each in found)


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
    assert check.shows_text(drawn)
    assert not check.shows_text(plain)
    if low == 0:
        assert check.shows_text(np.repeat(drawn, 3, axis=0)), "in colours"


def test_the_engine_is_the_reader_unless_another_is_given():
    made = BurnedInCheck.of(PrivacyPolicy(burned_in_text="flag"), MeanModel().spec)
    again = BurnedInCheck.of(PrivacyPolicy(burned_in_text="withhold"), MeanModel().spec)
    assert isinstance(made.reader, RapidReader)
    assert made.reader is again.reader, "one for all guards of a process"
    assert BurnedInCheck.of(PrivacyPolicy(), MeanModel().spec) is None
