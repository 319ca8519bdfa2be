"""The one door for image files: what is read as data and what is uploaded are decoded alike.

A size other than the model's is refused unless the model's preparation resizes, or resizing was switched on, because
resampling is part of what was validated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from medward.guard.data.pixels import pixel_range
from medward.guard.errors import MedwardError
from medward.guard.intake.picture import Intake, Picture, image_library, scaled_picture
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

FILE_CHANNELS = (1, 3)


def is_dicom(file: bytes) -> bool:
    """Whether `file`, or its first bytes, say that it is DICOM."""
    return file[128:132] == b"DICM"


def decode_file(file: bytes, intake: Intake) -> Picture:
    """Decode one PNG, JPEG, TIFF or DICOM `file`, by what it holds and not by what it is called."""
    name, extra = ("dicom", "dicom") if is_dicom(file) else ("raster", "images")
    module = image_library(f"medward.guard.intake.{name}", "image files", extra)
    picture: Picture = module.read_dicom(file, intake) if name == "dicom" else module.read_raster(file, intake)
    return picture


def decode_batch(
    files: Sequence[bytes], spec: ModelSpec, *, pixels: int, resize: bool = False
) -> tuple[Array, frozenset[str]]:
    """Decode `files` to ``(n, C, H, W)`` float32 in the range of `spec`, and name the studies they say they are of."""
    intake = replace(model_intake(spec, resize=resize), pixels=pixels)
    rows, studies = [], set()
    for index, file in enumerate(files):
        try:
            if not is_dicom(file):
                pixel_range(spec)
            picture = decode_file(file, intake)
            rows.append(scaled_picture(picture, intake))
        except MedwardError as error:
            raise MedwardError(f"image {index}: {error}") from None
        studies.add(picture.study)
    return np.stack(rows), frozenset(studies - {""})


def file_pictures(
    files: Sequence[bytes], spec: ModelSpec, *, pixels: int, resize: bool = False
) -> tuple[Callable[[], Array], ...]:
    """What makes each file's image at its own size, in the range of `spec`; none where files come at the model's size.

    Nothing is decoded until an image is asked for, one at a time: they may be a hundred times as large as rows.
    """
    intake = model_intake(spec, resize=resize)
    if intake.prepare.size is None:
        return ()
    prepare = replace(intake.prepare, resize=None, crop=None)
    whole = replace(intake, prepare=prepare, channels=None, size=None, pixels=pixels)
    return tuple(partial(_file_image, file, whole) for file in files)


def _file_image(file: bytes, intake: Intake) -> Array:
    return scaled_picture(decode_file(file, intake), intake)


def model_intake(spec: ModelSpec, *, resize: bool = False) -> Intake:
    """What the model of `spec` takes of a file, or why files cannot be given to it.

    `resize` lets files of any size in where the model's preparation does not resize.
    """
    if spec.modality != "image" or spec.sent is not None or spec.shape[0] not in FILE_CHANNELS:
        raise MedwardError(f"{spec.name} takes {spec.kind}s of shape {spec.row_shape}, not image files")
    if spec.prepare.window is None or spec.low is None or spec.high is None:
        pixel_range(spec)  # windowed DICOM values may have any range, pixels only that of their bits
    channels, height, width = spec.shape
    prepare = spec.prepare
    if resize and prepare.resize is None:
        prepare = replace(prepare, resize=(height, width), crop=None)
    return Intake(
        low=spec.low,
        high=spec.high,
        channels=channels,
        bits=spec.bits,
        prepare=prepare,
        size=(height, width),
    )
