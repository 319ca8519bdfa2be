"""Burned-in text: filled in every frame, nothing else touched, looked at again, refused where it stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.burned_in import WhiteReader, inked

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.burned_in import (
    fill_burned_in_text,
    flattened,
    regions_to_fill,
    without_fill,
)
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.reading import ReadText
from medward.guard.intake.deidentify.regions import Region, bridged_regions


def grey(values, photometric="MONOCHROME2"):
    return StoredFrames(values=np.array(values, copy=True), photometric=photometric)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 50),
    st.integers(0, 30),
    st.integers(1, 4),
    st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    st.sampled_from([8, 12]),
    st.integers(0, 2**32 - 1),
)
def test_only_filled_regions_change_and_by_a_value_the_frame_had(top, left, frames, photometric, bits, seed):
    generator = np.random.default_rng(seed)
    black, white = (0, 2**bits - 1)[:: -1 if photometric == "MONOCHROME1" else 1]
    values = np.stack(
        [inked(top=top, left=left, bits=bits, white=white, generator=generator)[0] for _ in range(frames)]
    )
    values[..., 63, 63] = black
    stored = grey(values, photometric)
    found = fill_burned_in_text(stored, WhiteReader(), everywhere=True)
    assert found.filled
    outside = np.ones(values.shape[1:], bool)
    for region in found.filled:
        outside[region.slices] = False
    np.testing.assert_array_equal(stored.values[:, outside], values[:, outside])
    assert (stored.values[:, ~outside] == black).all()


def test_text_of_one_frame_is_filled_in_all():
    marked, box = inked()
    plain = np.full_like(marked, 90)
    plain[0, 0] = 1
    stored = grey(np.stack([plain, marked]))
    fill_burned_in_text(stored, WhiteReader(), everywhere=True)
    assert (stored.values[0][box.slices] == 1).all()
    assert (stored.values[1][box.slices] == marked.min()).all()


def test_an_image_without_text_stays_as_it_is():
    values = np.random.default_rng(1).integers(0, 200, (3, 64, 64)).astype(np.uint8)
    stored = grey(values)
    found = fill_burned_in_text(stored, WhiteReader(), everywhere=True)
    assert not found.found
    np.testing.assert_array_equal(stored.values, values)


@pytest.mark.parametrize("text", ["L", "R", "AP PORTABLE", "SEMI-UPRIGHT", "10 cm", "LAT", "(R)", "PAERECT", "5"])
def test_markers_and_scales_stay(text):
    values = inked()[0][None]
    stored = grey(values)
    found = fill_burned_in_text(stored, WhiteReader(text), everywhere=True)
    assert not found.filled
    np.testing.assert_array_equal(stored.values, values)


@pytest.mark.parametrize(
    "text", ["SMITH", "93", "7 6", "19760616", "ID 42", "L SMITH", "PHIL", "A L I", "12:56", "山田太郎", "PORTER"]
)
def test_all_other_text_is_filled(text):
    stored = grey(inked()[0][None])
    assert fill_burned_in_text(stored, WhiteReader(text), everywhere=True).filled


@pytest.mark.parametrize(("text", "name"), [("RAO", "RAO"), ("LEFT RAO", "RAO"), ("PARAO", "RAO"), ("PA", "PA")])
def test_a_marker_that_is_a_name_of_this_file_is_filled(text, name):
    kept, gone = (
        fill_burned_in_text(grey(inked()[0][None]), WhiteReader(text), everywhere=True, names=names)
        for names in (frozenset({"SMITH"}), frozenset({name}))
    )
    assert (bool(kept.filled), kept.markers) == (False, 1)
    assert (bool(gone.filled), gone.markers) == (True, 0)


def test_a_name_of_two_letters_within_a_marker_is_no_name():
    assert not fill_burned_in_text(
        grey(inked()[0][None]), WhiteReader("FRONTAL"), everywhere=True, names=frozenset({"RO"})
    ).filled


def test_what_the_reader_hardly_believes_is_no_text():
    stored = grey(inked()[0][None])
    assert not fill_burned_in_text(stored, WhiteReader(score=0.2), everywhere=True).filled


def test_text_that_stays_readable_is_refused():
    with pytest.raises(MedwardError, match="can still be read after it was filled 4 times"):
        fill_burned_in_text(grey(inked()[0][None]), WhiteReader(stubborn=True), everywhere=True)


def test_only_identifiers_are_filled_when_asked():
    kept = fill_burned_in_text(grey(inked()[0][None]), WhiteReader("49Hz"), everywhere=True, identifies="SMITH".__eq__)
    gone = fill_burned_in_text(grey(inked()[0][None]), WhiteReader(), everywhere=True, identifies="SMITH".__eq__)
    assert (bool(kept.filled), bool(gone.filled)) == (False, True)


def column(said, *, top=20, step=40, left=20, across=False):
    places = [(top, left + step * k) if across else (top + step * k, left) for k in range(len(said))]
    return [
        ReadText(text, Region(y, x, y + 12, x + 8 * len(text)), 0.9) for text, (y, x) in zip(said, places, strict=True)
    ]


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("step", [30, 60])
@pytest.mark.parametrize("said", [["12", "03", "60"], ["1", "2", "3"], ["01", "02", "1960"], ["93"], ["16", "6", "76"]])
def test_a_date_in_parts_and_an_age_are_filled(said, step, across):
    wanted = regions_to_fill(column(said, across=across, step=step), (400, 400))
    assert len(wanted) == len(said)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("said", [["0", "5", "10", "15", "20"], ["4", "3", "2", "1"], ["50", "100", "150", "200"]])
def test_a_regular_scale_stays(said, across):
    labels = column(said, across=across)
    assert regions_to_fill([*labels, *labels], (400, 400)) == ()
    found = fill_burned_in_text(grey(np.zeros((1, 300, 300))), Saying(labels), everywhere=True)
    assert (found.filled, found.markers) == ((), len(labels))


def test_a_scale_of_which_a_label_was_not_read_stays_and_a_number_beside_it_does_not():
    labels = column(["0", "5", "10", "15", "20", "25"])
    del labels[2]
    assert regions_to_fill(labels, (400, 400)) == ()
    stranger = ReadText("47", Region(130, 20, 142, 36), 0.9)
    assert regions_to_fill([*labels, stranger], (400, 400)) == (Region(128, 18, 144, 38),)


def test_labels_that_are_read_in_many_frames_stay():
    labels = column([str(5 * k) for k in range(10)])
    shaken = [ReadText(each.text, each.region.moved(frame % 2, 0), 0.9) for frame in range(200) for each in labels]
    assert regions_to_fill(shaken, (500, 400)) == ()


class Saying:
    """Reads the same texts wherever it looks."""

    def __init__(self, texts):
        self.texts = tuple(texts)

    def read(self, grey, *, scale=1.0):
        return self.texts


def test_letters_in_a_row_are_a_word_and_one_alone_is_not():
    row = [ReadText(letter, Region(10, 10 + 14 * k, 20, 18 + 14 * k), 0.9) for k, letter in enumerate("SMI")]
    assert len(regions_to_fill(row, (64, 64))) >= 1
    assert regions_to_fill(row[:1], (64, 64)) == ()


def test_a_letter_much_larger_than_the_text_beside_it_is_no_part_of_it():
    text = ReadText("JONES", Region(10, 10, 20, 60), 0.9)
    curve = ReadText("1", Region(25, 0, 125, 50), 0.9)
    digit = ReadText("1", Region(10, 62, 20, 66), 0.9)
    assert regions_to_fill([text, curve], (200, 200)) == regions_to_fill([text], (200, 200))
    assert len(regions_to_fill([text, digit], (200, 200))) == 2


def test_one_letter_that_is_read_in_several_views_is_no_company():
    letter = ReadText("L", Region(100, 100, 120, 112), 0.9)
    read_thrice = [ReadText("2", Region(100 + each, 120, 120, 132), 0.9) for each in range(3)]
    assert not regions_to_fill([letter, *read_thrice], (200, 200))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_fill_is_looked_at_as_what_lies_around_it_and_nothing_else_changes(seed):
    generator = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)
    tops, lefts = generator.integers(0, 40, 3), generator.integers(0, 60, 3)
    regions = [Region(int(t), int(s), int(t) + 15, int(s) + 20) for t, s in zip(tops, lefts, strict=True)]
    outside = np.ones(ramp.shape, bool)
    for each in regions:
        outside[each.slices] = False
    black = np.where(outside, ramp, 0).astype(np.uint8)
    shown = without_fill(black, regions)
    np.testing.assert_array_equal(shown[outside], ramp[outside])
    assert np.abs(shown[~outside].astype(int) - ramp[~outside]).max() <= 40
    np.testing.assert_array_equal(shown, without_fill(np.where(outside, ramp, 255).astype(np.uint8), regions))


def test_text_over_bright_and_dark_ground_stands_on_an_even_one():
    ramp = np.repeat(np.linspace(20, 220, 120)[None], 60, axis=0)
    ramp[20:30:2, 20:100:3] += 30
    flat = flattened(ramp.astype(np.uint8)).astype(int)
    ground, ink = flat[45:55, 20:100], flat[20:30:2, 20:100:3]
    assert np.ptp(ground) < 20 < ink.min() - ground.max()


def test_a_word_between_two_of_a_line_is_filled_with_them():
    line = bridged_regions([Region(10, 10, 20, 60), Region(10, 75, 20, 140)])
    assert Region(10, 10, 20, 140) in line
    stacked = [Region(10, 10, 20, 60), Region(24, 10, 34, 60)]
    assert bridged_regions(stacked) == tuple(stacked)


@pytest.mark.parametrize(("photometric", "black"), [("RGB", [0, 0, 0]), ("YBR_FULL", [0, 128, 128])])
def test_black_in_colours(photometric, black):
    stored = grey(np.full((1, 8, 8, 3), 200, np.uint8), photometric)
    stored.fill([Region(2, 2, 4, 4)])
    assert stored.values[0, 2, 2].tolist() == black
    assert (stored.values[0, 0] == 200).all()


def test_black_of_a_palette_is_its_darkest_colour_in_use():
    palette = np.array([[255, 255, 255], [9, 9, 9], [0, 0, 0]], np.uint8)
    stored = StoredFrames(values=np.array([[[0, 1], [0, 1]]], np.uint8), photometric="PALETTE COLOR", palette=palette)
    stored.fill([Region(0, 0, 1, 1)])
    assert stored.values.tolist() == [[[1, 1], [0, 1]]]


def levels(views, ink):
    """How far ink is from its ground, in grey levels, in the view that shows it best."""
    return max(abs(float(view[ink].mean()) - float(np.median(view))) for view in views)


def ct(difference):
    """A 12-bit image of one value, some air and some metal, with a bar of `difference` more; and where the bar is."""
    values = np.full((1, 64, 64), 1064, np.uint16)
    values[0, 60:62], values[0, 62:] = 0, 4095
    ink = np.zeros((64, 64), bool)
    ink[20:24, 10:50] = True
    values[0, ink] += difference
    return values, ink


@pytest.mark.parametrize("difference", [20, 40])
def test_text_that_only_shows_in_the_file_s_window_is_seen(difference):
    values, ink = ct(difference)
    window = ((1024.0, 1104.0),)
    plain, shown = (
        StoredFrames(values=values, photometric="MONOCHROME2", windows=windows).views(0) for windows in ((), (window,))
    )
    assert levels(shown, ink) >= 60
    assert levels(shown, ink) > levels(plain, ink)


@pytest.mark.parametrize("difference", [60, 120])
def test_text_close_to_what_most_pixels_are_is_seen_without_a_window(difference):
    values, ink = ct(difference)
    assert levels(grey(values).views(0), ink) >= 25


def test_red_text_on_green_of_the_same_luminance_is_seen():
    frame = np.zeros((1, 32, 32, 3), np.uint8)
    frame[..., 1] = 65
    frame[0, 10:14, 4:28] = (128, 0, 0)
    views = StoredFrames(values=frame, photometric="RGB").views(0)
    assert max(int(view.max()) - int(view.min()) for view in views) > 100
