"""The reader itself, on text that is drawn: found at its place, gone once filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.burned_in import anatomy

from medward.attacks.benchmarks.burned_in_text import burn_in_lines, text_mask
from medward.guard.intake.deidentify import reading
from medward.guard.intake.deidentify.any_file import deidentify_file
from medward.guard.intake.deidentify.burned_in import fill_burned_in_text
from medward.guard.intake.deidentify.cleaner import Deidentification
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.guard.intake.deidentify.reading import LEAST_SIDE, MOST_SIDE, RapidReader
from medward.guard.intake.deidentify.regions import Region

pytest.importorskip("rapidocr", reason="the extra deidentify is not installed")


@pytest.fixture(scope="module")
def reader():
    return RapidReader()


@pytest.mark.parametrize("seed", [1, 2])
def test_drawn_identifiers_are_read_and_gone_once_filled(reader, seed):
    drawn, lines = burn_in_lines(anatomy(seed=seed), np.random.default_rng(seed))
    frames = StoredFrames(values=drawn[None].copy(), photometric="MONOCHROME2")
    found = fill_burned_in_text(frames, reader)
    for line in lines:
        box = Region(*line.box)
        assert sum(each.common(box) for each in found.filled) >= 0.9 * box.area
    left = [each for each in reader.read(frames.values[0], scale=2.0) if sum(map(str.isalnum, each.text)) > 1]
    assert [each for each in left if each.score >= 0.5] == []


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_another_engine_reads_it_before_and_not_after(reader, tmp_path):
    page = anatomy(seed=3) // 3
    ink = text_mask("SMITH JOHN 1976", font="DejaVuSans", size=22)
    page[30 : 30 + ink.shape[0], 20 : 20 + ink.shape[1]] += (160 * ink).astype(np.uint8)
    frames = StoredFrames(values=page[None].copy(), photometric="MONOCHROME2")
    fill_burned_in_text(frames, reader)
    said = []
    for values in (page, frames.values[0]):
        Image.fromarray(values).resize((512, 512)).save(tmp_path / "page.png")
        command = ["tesseract", str(tmp_path / "page.png"), "-", "--psm", "11"]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.upper())
    assert "SMITH" in said[0]
    assert not any(each in said[1] for each in ("SMITH", "JOHN", "1976"))


def test_nothing_is_read_where_nothing_is_written(reader):
    assert [each for each in reader.read(anatomy(seed=4)) if each.score >= 0.5] == []


def test_what_is_larger_than_a_piece_is_read_in_pieces(reader, monkeypatch):
    monkeypatch.setattr("medward.guard.intake.deidentify.reading.MOST_SIDE", 300)
    page = np.full((120, 700), 60, np.uint8)
    ink = text_mask("SMITH^JOHN", font="DejaVuSans", size=24)
    page[40 : 40 + ink.shape[0], 520 : 520 + ink.shape[1]] += (150 * ink).astype(np.uint8)
    found = [each for each in reader.read(page) if "SMITH" in each.text.upper()]
    assert found
    assert found[0].region.left >= 480


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (3, 2000), (1, 1), (31, 40)])
def test_a_narrow_image_reaches_the_networks_as_a_piece_of_bounded_sides(monkeypatch, shape):
    seen = []
    monkeypatch.setattr(reading, "_engine", lambda: seen.append)
    grey = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    for scale in (1.0, 1.5):
        assert tuple(RapidReader().read(grey, scale=scale)) == ()
    assert all(LEAST_SIDE <= side <= MOST_SIDE for piece in seen for side in piece.shape[:2])
    assert {*np.unique(seen[0])} <= {*np.unique(grey)}, "nothing is drawn"


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 2)])
def test_narrow_noise_is_looked_at_without_a_crash(reader, shape):
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    height, width = shape
    for each in reader.read(noise):
        assert each.region.area == each.region.common(Region(0, 0, height, width)) > 0


@pytest.mark.data
def test_a_real_file_s_name_and_dates_are_filled_and_its_markers_stay(reader):
    folder = Path(os.environ["MEDWARD_DATA"]) / "dicom_phi" / "presidio"
    how = Deidentification(pseudonyms=Pseudonyms(bytes(32)), reader=reader)
    cleaned = deidentify_file((folder / "2_ORIGINAL.png").read_bytes(), how)
    assert cleaned.removed["burned-in text filled"] == 2
