"""What reading a folder of image files costs beside Pillow and pydicom alone, in CPU time and in memory."""

from __future__ import annotations

import gc
import io
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from claim import Claim
from numpy.typing import NDArray
from PIL import Image
from support.dicom_files import dicom_file

from medward.guard.data.reading import Reading, read_data
from medward.guard.preparation import Preparation

CLAIMS = ("reading_png_cost", "reading_dicom_cost", "reading_memory")
FILES, SIDE, SMALL, CHUNK, ROUNDS = 1000, 512, 128, 100, 3
MOST, GROWTH, FEW = 1.3, 1.2, 10
WINDOW = (40.0, 400.0)


def measure() -> Iterator[Claim]:
    """PNG, then DICOM, each in pairs of folders of `CHUNK` files in turn; then the memory of the DICOM folder."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        pictures = [_write(root / f"png{k}", "png", _png, k) for k in range(FILES // CHUNK)]
        scans = [_write(root / f"dcm{k}", "dcm", _dicom, k) for k in range(FILES // CHUNK)]
        resized = Preparation(resize=(SMALL, SMALL), window=WINDOW)
        reading = Reading(low=0, high=1, prepare=resized)
        plain = replace(reading, prepare=replace(resized, window=None))
        yield _paired(CLAIMS[0], pictures, lambda folder: read_data(folder, plain)["data"].inputs, _with_pillow)
        yield _paired(CLAIMS[1], scans, lambda folder: read_data(folder, reading)["data"].inputs[:, 0], _with_pydicom)
        few = _write(root / "few", "dcm", _dicom, 0, count=FEW)
        yield _memory(few, scans[0], reading)


def _paired(
    claim: str,
    folders: list[Path],
    ours: Callable[[Path], NDArray[np.generic]],
    alone: Callable[[Path], NDArray[np.generic]],
) -> Claim:
    """The median over pairs of our CPU time over the library's alone; both give the same values."""
    ratios, seconds = [], [0.0, 0.0]
    np.testing.assert_allclose(ours(folders[0]), alone(folders[0]), atol=1e-5)
    for turn in range(ROUNDS):
        for place, folder in enumerate(folders):
            taken = {}
            for read in (ours, alone) if (turn + place) % 2 else (alone, ours):
                gc.collect()
                start = time.process_time()
                read(folder)
                taken[read] = time.process_time() - start
            ratios.append(taken[ours] / taken[alone])
            seconds = [seconds[0] + taken[ours] / ROUNDS, seconds[1] + taken[alone] / ROUNDS]
    spread = np.quantile(_bootstrap(ratios), [0.025, 0.975])
    return Claim(
        claim=claim,
        value=median(ratios),
        target=f"<= {MOST:g}: CPU time over that of the library alone, files in pairs of folders, in turn",
        met=median(ratios) <= MOST,
        n=FILES,
        seed=0,
        interval=(float(spread[0]), float(spread[1])),
        details={"pairs": len(ratios), "side": SIDE, "seconds_ours": seconds[0], "seconds_alone": seconds[1]},
    )


def _memory(few: Path, many: Path, reading: Reading) -> Claim:
    """What reading allocates beyond the array it returns does not grow with the files."""
    read_data(few, reading)  # what is imported and cached once
    extra = {folder: _extra_bytes(folder, reading) for folder in (few, many)}
    value = extra[many] / extra[few]
    files = sum(file.stat().st_size for file in many.iterdir())
    return Claim(
        claim=CLAIMS[2],
        value=value,
        target=f"<= {GROWTH:g}: peak of memory beyond the returned array, {CHUNK} DICOM files over {FEW}",
        met=value <= GROWTH,
        n=CHUNK,
        seed=0,
        details={"extra_mib": extra[many] / 2**20, "extra_mib_few": extra[few] / 2**20, "files_mib": files / 2**20},
    )


def _extra_bytes(folder: Path, reading: Reading) -> int:
    tracemalloc.start()
    kept = read_data(folder, reading)["data"].inputs
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return int(peak - kept.nbytes)


def _bootstrap(ratios: list[float]) -> NDArray[np.floating]:
    rng = np.random.default_rng(0)
    return np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)


def _with_pillow(folder: Path) -> NDArray[np.generic]:
    """What a user writes: open, grey, resize, stack."""
    files = sorted(folder.iterdir())
    rows = []
    for file in files:
        with Image.open(file) as image:
            rows.append(np.asarray(image.convert("L").resize((SMALL, SMALL), Image.Resampling.BILINEAR)))
    return np.stack(rows)


def _with_pydicom(folder: Path) -> NDArray[np.generic]:
    """What a user writes: read, rescale, window, invert, resize, stack."""
    import pydicom
    from pydicom.pixels import apply_rescale

    centre, width = WINDOW
    rows = []
    for file in sorted(folder.iterdir()):
        header = pydicom.dcmread(file)
        units = apply_rescale(header.pixel_array, header)
        share = np.clip((units - (centre - 0.5)) / (width - 1) + 0.5, 0, 1).astype(np.float32)
        if header.PhotometricInterpretation == "MONOCHROME1":
            share = 1 - share
        rows.append(np.asarray(Image.fromarray(share).resize((SMALL, SMALL), Image.Resampling.BILINEAR)))
    return np.stack(rows)


def _write(
    folder: Path, end: str, made: Callable[[NDArray[np.floating]], bytes], seed: int, count: int = CHUNK
) -> Path:
    """`count` files of smooth fields with noise, as radiographs are."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    wave = np.sin(np.linspace(0, 3, SIDE))
    for index in range(count):
        field = 0.5 + 0.3 * np.outer(np.roll(wave, index), wave) + 0.02 * rng.normal(size=(SIDE, SIDE))
        (folder / f"{index:03}.{end}").write_bytes(made(np.clip(field, 0, 1)))
    return folder


def _png(field: NDArray[np.floating]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((field * 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _dicom(field: NDArray[np.floating]) -> bytes:
    pixels = (field * 4095).astype(np.uint16)
    return dicom_file(pixels, bits=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
