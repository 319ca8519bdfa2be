"""Burned-in text as a check of requests: how many images with identifiers are noticed, by the size looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
from claim import Claim
from deidentify_pixels import BURNED_IN
from deidentify_pixels import CLEAN as CLEAN_FILES
from numpy.typing import NDArray
from PIL import Image

from medward.attacks.benchmarks.burned_in_text import OverlayStyle, burn_in_lines
from medward.guard.errors import MedwardError
from medward.guard.intake.burned_in_check import BurnedInCheck
from medward.guard.intake.decode import decode_file, is_dicom
from medward.guard.intake.deidentify.burned_in import fill_burned_in_text
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.markers import NAMES_TOO
from medward.guard.intake.deidentify.reading import RapidReader
from medward.guard.intake.picture import Intake, scaled_picture
from medward.guard.preparation import Preparation
from medward.guard.statistics.binomial import rate_limits
from medward.guard.types import Action, Array

CLAIMS = ("burned_in_requests",)
SEED, IMAGES, SIDE = 20261129, 24, 1024
STYLE = OverlayStyle(sizes=(14, 40))  # pixels of 1024: 1.4 to 4 % of the height, as scanners write
SIDES = (1024, 512, 384, 320, 256, 224, 128, 64, 28)
CLEAN = 24  # small radiographs without text, beside the grounds


def measure() -> Iterator[Claim]:
    """NIH radiographs, whose own text was filled, with one to four made-up lines; then brought to each size."""
    data = Path(os.environ.get("MEDWARD_DATA", ""))
    originals = sorted((data / "nih_cxr" / "originals").glob("*.png"))
    if not originals:
        raise MedwardError("MEDWARD_DATA: names no folder with nih_cxr/originals, on which this is measured")
    reader = RapidReader()
    check = BurnedInCheck(action=Action.FLAG, reader=reader, low=0.0, high=1.0)
    grounds = [_without_text(np.array(Image.open(path).convert("L")), reader) for path in originals]
    small = np.load(data / "pneumoniamnist" / "pneumoniamnist.npz")["test_images"][:CLEAN]
    generator = np.random.default_rng(SEED)
    drawn = [burn_in_lines(grounds[index % len(grounds)], generator, STYLE)[0] for index in range(IMAGES)]
    sides = {}
    for side in SIDES:
        noticed, seconds = _looked(drawn, side, check)
        wrongly, clean_seconds = _looked([*grounds, *small], side, check)
        sides[str(side)] = {
            "noticed": noticed,
            "interval": rate_limits(noticed, IMAGES),
            "noticed_without_text": wrongly,
            "seconds": seconds,
            "seconds_without_text": clean_seconds,
        }
    files = {
        "with burned-in identifiers": _of_files(data / "dicom_phi", tuple(BURNED_IN), check),
        "without a word": _of_files(data / "dicom_phi", CLEAN_FILES, check),
        "NIH radiographs as they are, with lead letters": {
            "files": len(originals),
            "noticed": _looked([np.array(Image.open(path).convert("L")) for path in originals], SIDE, check)[0],
        },
    }
    found = int(sides[str(SIDE)]["noticed"])
    yield Claim(
        claim=CLAIMS[0],
        value=found / IMAGES,
        target=">= 0.95 of images with burned-in identifiers noticed at 1024 pixels a side; smaller sizes beside",
        met=found / IMAGES >= 0.95,
        n=IMAGES,
        seed=SEED,
        interval=rate_limits(found, IMAGES),
        details={"sides": sides, "without_text": len(grounds) + len(small), "files": files, "letters": STYLE.sizes},
    )


def _of_files(folder: Path, names: tuple[str, ...], check: BurnedInCheck) -> dict[str, int]:
    """In how many files text is seen, decoded as a request's are: DICOM values by all that their bits can hold."""
    noticed = 0
    for name in names:
        file = (folder / name).read_bytes()
        window = Preparation(window="pixels", frame=1) if is_dicom(file) else Preparation()
        intake = Intake(low=0.0, high=1.0, prepare=window)
        noticed += check.shows_text(scaled_picture(decode_file(file, intake), intake))
    return {"files": len(names), "noticed": noticed}


def _looked(images: list[NDArray[np.uint8]], side: int, check: BurnedInCheck) -> tuple[int, float]:
    """In how many of `images`, brought to `side`, text was seen; and the median CPU time of looking at one."""
    seen, seconds = 0, []
    for each in images:
        image = _at_side(each, side)
        start = time.process_time()
        seen += check.shows_text(image)
        seconds.append(time.process_time() - start)
    return seen, median(seconds)


def _at_side(pixels: NDArray[np.uint8], side: int) -> Array:
    """As a model's preparation resizes, which looks at every pixel."""
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)[None] / 255


def _without_text(pixels: NDArray[np.uint8], reader: RapidReader) -> NDArray[np.uint8]:
    fill_burned_in_text(StoredFrames(values=pixels[None], photometric="MONOCHROME2"), reader, names=NAMES_TOO)
    return pixels
