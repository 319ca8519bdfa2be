"""Burned-in text: what is left of it, read by another engine; what of clean images is altered; recall; cost."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, MutableSequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from claim import Claim
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing, pixel_array

from medward.attacks.benchmarks.burned_in_text import burn_in_lines
from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.any_file import deidentify_file
from medward.guard.intake.deidentify.burned_in import fill_burned_in_text
from medward.guard.intake.deidentify.cleaner import Deidentification
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.pixel_data import stored_frames
from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.guard.intake.deidentify.reading import RapidReader
from medward.guard.intake.deidentify.regions import Region
from medward.guard.intake.deidentify.strokes import text_candidates
from medward.guard.intake.dicom import HUSH
from medward.guard.statistics.binomial import rate_limits

CLAIMS = (
    "deidentify_left_in_pixels",
    "deidentify_device_regions",
    "deidentify_clean_altered",
    "deidentify_recall",
    "deidentify_cost",
)
IMAGES, SEED, SIDE, MNIST, RADIOGRAPHS = 150, 20261130, 512, 300, 8
"""So many that all four claims end within ten minutes on one core; the seed was not looked at before."""
LARGE = 1500  # pixels of a side, from which Tesseract is given an image as it is
BURNED_IN = {
    "presidio/0_ORIGINAL_compressed.dcm": (
        (8, "733c0de9bb343809"),
        (7, "a0ec927b1044a5e9"),
        (8, "5a9c1d30a578885f"),
        (8, "987615d84f02bf78"),
    ),
    "presidio/2_ORIGINAL.png": (
        (7, "f2bec3a0f8b2235a"),
        (5, "12a303c224c250d0"),
        (8, "9b361bb332e4a46f"),
        (8, "524b0df3aea49886"),
    ),
    "pydicom-data/OBXXXX1A.dcm": (
        (7, "5b78d6c8533bdad5"),
        (12, "3cf67a7699ad9b86"),
        (5, "36b29e3e456ff04c"),
        (17, "cab70d800bb56631"),
    ),
    "pydicom-data/US1_J2KI.dcm": (
        (13, "9eced7b70f69f9bf"),
        (5, "1f917a50f78f0d96"),
    ),
    "pydicom-data/JPGLosslessP14SV1_1s_1f_8b.dcm": (
        (9, "5c0c1ddc0944decf"),
        (5, "409cf29463efda0a"),
    ),
}
"""What a person reads in the pixels of the set: names, dates, numbers, institutions; and text that names nobody.

Length and digest of the letters and digits of each (`_digest`): what identifies somebody is written down nowhere here.
"""
DEVICE_REGIONS = {
    "pydicom-data/JPGLosslessP14SV1_1s_1f_8b.dcm": Region(0, 0, 49, 1024),
    "pydicom-data/OBXXXX1A.dcm": Region(0, 0, 59, 800),
    "pydicom-data/OBXXXX1A_rle_2frame.dcm": Region(0, 0, 59, 800),
}
"""Where devices burn in what names somebody, by the signatures of pydicom/deid 0.4.13 (MIT)."""
CLEAN = (
    "presidio/RGB_ORIGINAL.dcm",
    "presidio/RGB_ORIGINAL.png",
    "pydicom-data/693_UNCI.dcm",
    "pydicom-data/JPEG2000_UNC.dcm",
    "pydicom-data/MR2_J2KI.dcm",
    "pydicom-data/RG3_J2KI.dcm",
    "pydicom-data/SC_rgb.dcm",
    "pydicom-data/bad_sequence.dcm",
    "pydicom-data/explicit_VR-UN.dcm",
)
"""Files in which a person sees no word; Tesseract takes anatomy for many."""


def measure() -> Iterator[Claim]:
    """The DICOM set, where its devices write, clean images, made-up identifiers on radiographs, and what it costs."""
    data = Path(os.environ.get("MEDWARD_DATA", ""))
    if not (data / "dicom_phi").is_dir():
        raise MedwardError("MEDWARD_DATA: names no folder with dicom_phi, on which this is measured")
    yield _left(data / "dicom_phi")
    yield _device_regions(data / "dicom_phi")
    yield _clean(data)
    yield _recall(data / "nih_cxr" / "originals")
    yield _cost(data)


def _how() -> Deidentification:
    return Deidentification(pseudonyms=Pseudonyms(b"benchmark".ljust(32, b"\0")))


def _left(folder: Path) -> Claim:
    """Each burned-in string is looked for by the other engine, before (the control) and after."""
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    dates: dict[str, int] = {}
    for name, texts in BURNED_IN.items():
        file = (folder / name).read_bytes()
        cleaned = deidentify_file(file, _how()).content
        one, two = (_other_engine(_pictures(each)) for each in (file, cleaned))
        before[name] = sum(_holds(one, *text) for text in texts)
        after[name] = sum(_holds(two, *text) for text in texts)
        dates[name] = len(re.findall(r"\d{1,4}[./-]\d{1,2}[./-]\d{2,4}", two))
    left = sum(after.values()) + sum(dates.values())
    return Claim(
        claim="deidentify_left_in_pixels",
        value=left,
        target="0 burned-in names, dates, numbers or institutions read afterwards by Tesseract, "
        "which reads some in every file before",
        met=left == 0 and all(before.values()),
        n=sum(map(len, BURNED_IN.values())),
        details={"engine": _engine(), "read_before": before, "read_after": after, "dates_after": dates},
    )


def _device_regions(folder: Path) -> Claim:
    """Words that the other engine reads where a device is known to write, before (the control) and after."""
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    for name, region in DEVICE_REGIONS.items():
        file = (folder / name).read_bytes()
        for content, words in ((file, before), (deidentify_file(file, _how()).content, after)):
            said = _other_engine([each[region.slices] for each in _pictures(content)])
            words[name] = len(re.findall(r"[A-Za-z0-9]{3,}", said))
    return Claim(
        claim="deidentify_device_regions",
        value=sum(after.values()),
        target="0 words of three letters or digits read by Tesseract where pydicom/deid's signatures say devices write",
        met=not sum(after.values()) and all(before.values()),
        n=len(DEVICE_REGIONS),
        details={"words_before": before, "words_after": after},
    )


def _clean(data: Path) -> Claim:
    """Files without text, and small radiographs brought to a usual size; NIH's are shown beside."""
    altered, seen = [], dict[str, int]()
    for name in CLEAN:
        file = (data / "dicom_phi" / name).read_bytes()
        seen[name] = len(_other_engine(_pictures(file)).split())
        if deidentify_file(file, _how()).pixels_changed:
            altered.append(name)
    small = np.load(data / "pneumoniamnist" / "pneumoniamnist.npz")["test_images"][:MNIST]
    reader = RapidReader()
    for index, each in enumerate(small):
        values = np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        if fill_burned_in_text(_grey(values), reader).filled:
            altered.append(f"pneumoniamnist {index}")
    radiographs = {}
    for path in _chosen((data / "nih_cxr" / "originals").glob("*.png"), RADIOGRAPHS):
        values = np.asarray(Image.open(path).convert("L"))
        found = fill_burned_in_text(_grey(values), reader)
        radiographs[path.name] = {"filled": [_sides(each) for each in found.filled], "markers": found.markers}
    n = len(CLEAN) + len(small)
    return Claim(
        claim="deidentify_clean_altered",
        value=len(altered),
        target="0 images without text altered; NIH radiographs with markers of lead letters are shown beside",
        met=not altered,
        n=n,
        interval=rate_limits(len(altered), n),
        details={"altered": altered, "words_tesseract_takes_anatomy_for": seen, "nih_originals": radiographs},
    )


def _recall(folder: Path) -> Claim:
    """Made-up identifiers on radiographs at fresh seeds: each line is one region."""
    generator, reader = np.random.default_rng(SEED), RapidReader()
    grounds = [np.asarray(Image.open(path).convert("L").resize((SIDE, SIDE))) for path in sorted(folder.glob("*.png"))]
    hits = covered = lines = refused = candidates = 0
    missed = []
    for index in range(IMAGES):
        drawn, texts = burn_in_lines(grounds[index % len(grounds)], generator)
        places = text_candidates(drawn)
        frames = _grey(drawn)
        try:
            filled = fill_burned_in_text(frames, reader).filled
        except MedwardError:
            refused += 1
            continue
        boxes = [Region(*each.box) for each in texts]
        for line, box in zip(texts, boxes, strict=True):
            overlap, cover = _overlap(filled, box, boxes, drawn.shape)
            lines += 1
            hits += overlap >= 0.5
            covered += cover >= 0.9
            candidates += sum(each.common(box) for each in places) >= 0.9 * box.area
            if overlap < 0.5:
                missed.append({"overlap": overlap, "covered": cover, "size": line.size, "angle": line.angle,
                               "contrast": line.contrast, "font": line.font})  # fmt: skip
    return Claim(
        claim="deidentify_recall",
        value=hits / lines,
        target=">= 0.97 of lines filled at an intersection over union of 0.5 with the box of their ink",
        met=hits / lines >= 0.97,
        n=lines,
        seed=SEED,
        interval=rate_limits(hits, lines),
        details={
            "images": IMAGES,
            "refused_images": refused,
            "covered_at_90_percent": covered / lines,
            "inside_the_filter_s_candidates": candidates / lines,
            "missed": missed,
        },
    )


def _cost(data: Path) -> Claim:
    """CPU time of looking for text over that of decoding, for images without text."""
    small = np.load(data / "pneumoniamnist" / "pneumoniamnist.npz")["test_images"][:30]
    reader = RapidReader()
    ratios: dict[str, list[float]] = {"png": [], "jpeg-2000": []}
    for each in small:
        out = io.BytesIO()
        Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(out, "PNG")
        values, decoding = _timed(lambda file=out: np.array(Image.open(io.BytesIO(file.getvalue()))))
        _, looking = _timed(lambda values=values: fill_burned_in_text(_grey(values), reader))
        ratios["png"].append(looking / decoding)
    for name in ("pydicom-data/RG3_J2KI.dcm", "pydicom-data/JPEG2000_UNC.dcm", "pydicom-data/MR2_J2KI.dcm"):
        file = (data / "dicom_phi" / name).read_bytes()
        with HUSH:
            (frames, _), decoding = _timed(lambda file=file: stored_frames(file, dcmread(io.BytesIO(file))))
        _, looking = _timed(lambda frames=frames: fill_burned_in_text(frames, reader))
        ratios[f"{name}"] = [looking / decoding]
    del ratios["jpeg-2000"]
    value = median(ratios["png"])
    return Claim(
        claim="deidentify_cost",
        value=value,
        target="<= 2: CPU time of looking for text over that of decoding a PNG of a radiograph without text",
        met=value <= 2,
        n=len(ratios["png"]),
        details={"side": SIDE, "ratios": {name: median(each) for name, each in ratios.items()}},
    )


def _timed(work: Any) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _grey(values: NDArray[np.uint8]) -> StoredFrames:
    return StoredFrames(values=values[None].copy(), photometric="MONOCHROME2")


def _sides(region: Region) -> list[int]:
    return [region.top, region.left, region.bottom, region.right]


def _overlap(
    filled: tuple[Region, ...], box: Region, boxes: list[Region], shape: tuple[int, ...]
) -> tuple[float, float]:
    """Intersection over union of `box` with the regions that hold more of it than of other lines; its covered share."""
    own = [each for each in filled if each.common(box) and each.common(box) == max(map(each.common, boxes))]
    there, wanted, all_of_it = (np.zeros(shape, bool) for _ in range(3))
    wanted[box.slices] = True
    for each in own:
        there[each.slices] = True
    for each in filled:
        all_of_it[each.slices] = True
    return float((there & wanted).sum() / (there | wanted).sum()), float((all_of_it & wanted).sum() / wanted.sum())


def _chosen(paths: Iterable[Path], count: int) -> list[Path]:
    """The `count` files whose names have the lowest digests, so that nobody chose them."""
    return sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())[:count]


def _pictures(file: bytes) -> list[NDArray[np.uint8]]:
    """Every frame as grey pictures, made by pydicom and this module and not by what is judged: as a viewer shows it.

    In its own windows, from the lowest value to the highest, and with as many levels for a value as it has pixels.
    """
    if file[128:132] != b"DICM":
        return [np.asarray(Image.open(io.BytesIO(file)).convert("L"))]
    with HUSH:
        header = dcmread(io.BytesIO(file))
        stored = pixel_array(header)
        if header.SamplesPerPixel == 3:
            return _colours_apart(stored)
        if header.PhotometricInterpretation == "PALETTE COLOR":
            colours = apply_color_lut(stored, header)[..., :3]
            return _colours_apart((colours >> 8 * (colours.dtype.itemsize - 1)).astype(np.uint8))
        values = apply_modality_lut(stored, header)
        several = header.get("WindowCenter")
        count = 0 if several is None else len(several) if isinstance(several, MutableSequence) else 1
        shown = [values, *(apply_windowing(values, header, index) for index in range(count))]
        ranks = np.searchsorted(np.sort(values, axis=None), values).astype(np.float64)
    frames = [_eight_bits(frame) for each in (*shown, ranks) for frame in each.reshape(-1, *each.shape[-2:])]
    return [255 - each for each in frames] if header.PhotometricInterpretation == "MONOCHROME1" else frames


def _colours_apart(values: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Frames in colours as luminance, and as each colour: red text on blue is in one of them only."""
    frames = values.reshape(-1, *values.shape[-3:])
    grey = [np.asarray(Image.fromarray(each).convert("L")) for each in frames]
    return [*grey, *(np.ascontiguousarray(each[..., colour]) for each in frames for colour in range(3))]


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    scaled: NDArray[np.uint8] = ((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    return scaled


def _engine() -> str:
    if shutil.which("tesseract") is None:
        raise MedwardError("tesseract: is not installed, and what is left is read by another engine; apt-get it")
    said = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.split("\n", 1)[0]


def _other_engine(pictures: list[NDArray[np.uint8]]) -> str:
    """What Tesseract reads in `pictures`, the small ones at twice their size; both polarities are its own matter."""
    texts = []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "picture.png"
        for each in pictures:
            picture = Image.fromarray(each)
            scale = 2 if max(each.shape) <= LARGE else 1
            picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.BICUBIC).save(path)
            done = subprocess.run(
                ["tesseract", str(path), "-", "--psm", "11"], capture_output=True, text=True, check=True
            )
            texts.append(done.stdout)
    return "\n".join(texts)


def _holds(said: str, length: int, digest: str) -> bool:
    """Whether a run of so many letters and digits of what was `said` has that digest."""
    plain = "".join(filter(str.isalnum, said)).casefold()
    return any(_digest(plain[at : at + length]) == digest for at in range(len(plain) - length + 1))


def _digest(plain: str) -> str:
    """Sixteen hexadecimal digits of letters and digits in one case."""
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
