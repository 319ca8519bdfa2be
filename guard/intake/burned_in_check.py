"""Burned-in text as a check of requests: whether a text can be read in the pixels of an image, markers apart.

Where a request is files, their own pixels are read, before they are resized and cropped, else those that the model
takes. Both were measured (`docs/disclosure.md`): what is noticed in a radiograph of 1024 pixels a side is mostly still
noticed at 224, seldom at 128 and never at 28. And a file is what a site promised to send without identifiers, whether
or not the model could still read them; a client that sends numbers has no file, and is judged by these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import FILE_CHANNELS
from medward.guard.intake.deidentify.burned_in import shows_burned_in_text
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.markers import NAMES_TOO, is_marker
from medward.guard.intake.deidentify.reading import BoundedReader, RapidReader, ReadingBoundError, TextReader
from medward.guard.intake.picture import MOST_PIXELS, image_library
from medward.guard.privacy_policy import PrivacyPolicy
from medward.guard.spec import ModelSpec
from medward.guard.types import Action, Array, Verdict

BURNED_IN_TEXT = "burned-in-text"
"""The part of a verdict on text in pixels."""
LEAST_READABLE = 224
"""Pixels of an image's lesser side, below which most text of usual size was not read when that was measured."""
FEWEST_LETTERS = 4
"""Letters and digits of a text, below which it is a marker, somebody's initials on one, or a label."""
MOST_LOOKED_AT = 32_000_000
"""Pixels of an image that are looked at, each as often as it is; NIH radiographs (1024 a side) take 2.5 million."""
MOST_OF_REQUEST = 4 * MOST_LOOKED_AT
"""Pixels of all images of a request that are looked at: 64 such radiographs take two fifths of it."""
HOT = 0.02  # per cent of the values at either end, without which an image of no said range is also looked at
_TRIED = (32, 32)  # pixels of an empty image that a reader is tried on


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnedInCheck:
    """A burned-in check asks for `action` on images in whose pixels text can be read that may identify somebody.

    `low` and `high` are black and white, each image's own least and largest value where they are None, with and without
    the few at its ends. What the text says is neither kept nor told: a verdict counts images, and an error of a picture
    or of the reader is named by its type alone. An image that takes more than `MOST_LOOKED_AT` pixels, or comes after
    `MOST_OF_REQUEST` of a request, counts as unread. No bound holds: text that the reader does not see passes.
    """

    action: Action
    reader: TextReader
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, policy: PrivacyPolicy, spec: ModelSpec, reader: TextReader | None = None) -> BurnedInCheck | None:
        """The check that `policy` asks for, None for none; by RapidOCR unless a `reader` is given.

        Raises `MedwardError` for a model that takes no images, and where nothing can be read: an extra is missing.
        """
        if policy.burned_in_text == "allow":
            return None
        check_shows_text(policy, spec)
        if reader is None:
            image_library("rapidocr", "burned-in text", "deidentify")
            reader = _shared_reader()
        try:
            tuple(reader.read(np.zeros(_TRIED, np.uint8)))
        except Exception as error:
            raise MedwardError(
                f"burned-in text cannot be read, not even of an empty image ({type(error).__name__}); repair the "
                'reader, or set privacy.burned_in_text = "allow"'
            ) from error
        return cls(action=Action[policy.burned_in_text.upper()], reader=reader, low=spec.low, high=spec.high)

    def shows_text(self, image: Array, reader: TextReader | None = None) -> bool:
        """Whether `image` ``(C, H, W)`` shows a text that may identify somebody, by its own bound of pixels.

        Raises `MedwardError` for what is no image in the range of the check, and where it cannot be read.
        """
        checked = _checked_image(image, self.low, self.high)
        bounded = BoundedReader(reader=reader or self.reader, most=MOST_LOOKED_AT)
        try:
            return shows_burned_in_text(_shown_frames(checked, self.low, self.high), bounded, may_identify)
        except ReadingBoundError:
            raise
        except Exception as error:  # whose message may hold what was read
            raise MedwardError(f"burned-in text cannot be read ({type(error).__name__})") from None

    def look(self, images: Sequence[Callable[[], Array]]) -> list[bool | MedwardError]:
        """Whether each of the `images`, which are made one by one, shows text, or why that is not known."""
        reader = BoundedReader(reader=self.reader, most=MOST_OF_REQUEST)
        return [self._looked_at(image, reader) for image in images]

    def _looked_at(self, image: Callable[[], Array], reader: TextReader) -> bool | MedwardError:
        try:
            made = np.asarray(image())
        except Exception as error:  # whose message may hold what the file says
            return MedwardError(f"an image cannot be made ({type(error).__name__})")
        try:
            return self.shows_text(made, reader)
        except MedwardError as error:
            return error

    def verdict(self, seen: Sequence[bool | MedwardError]) -> Verdict:
        """How many of the images that were `seen` show text, and of how many that is not known."""
        shown, unread = seen.count(True), sum(isinstance(each, MedwardError) for each in seen)
        evidence = {"images": float(shown), "unread": float(unread)}
        return Verdict(part=BURNED_IN_TEXT, action=self.action if shown else Action.ALLOW, evidence=evidence)


@cache
def _shared_reader() -> RapidReader:
    """One for all guards of a process: threads take turns at it, and its networks take room."""
    return RapidReader()


def may_identify(text: str) -> bool:
    """Whether `text` is long enough to identify somebody, and no marker.

    Shorter ones do not count, though `deidentify_file` fills them: radiographers' lead letters are read as "LS" or
    "2ML", and withholding each second radiograph protects nobody.
    """
    return sum(letter.isalnum() for letter in text) >= FEWEST_LETTERS and not is_marker(text, NAMES_TOO)


def check_shows_text(policy: PrivacyPolicy, spec: ModelSpec) -> None:
    """Refuse to look for burned-in text in rows that are no grey or colour images."""
    if policy.burned_in_text != "allow" and (spec.kind != "image" or spec.shape[0] not in FILE_CHANNELS):
        raise MedwardError(
            f"privacy.burned_in_text = {policy.burned_in_text!r}: {spec.name} takes {spec.kind}s of shape "
            f'{spec.row_shape}, text is looked for in grey and colour images; set it to "allow"'
        )


def unreadable_inputs(policy: PrivacyPolicy, spec: ModelSpec) -> tuple[str, ...]:
    """What the check cannot do, as a sentence: read images as small as the model's own."""
    if policy.burned_in_text == "allow" or min(spec.shape[1:]) >= LEAST_READABLE:
        return ()
    height, width = spec.shape[1:]
    return (
        f"burned-in text is read in larger files alone: in {height} x {width} pixels, as inputs that come as numbers "
        f"have, most of it is not seen, which needs {LEAST_READABLE} a side",
    )


def _checked_image(x: Array, low: float | None, high: float | None) -> Array:
    """The image `x` as finite float32 ``(C, H, W)``, grey or in colours, from `low` to `high`, or what is wrong."""
    said = "an image for burned-in text must be"
    if x.ndim != 3 or len(x) not in FILE_CHANNELS or not x.size:
        raise MedwardError(f"{said} of shape (C, H, W) with 1 or 3 channels, got {x.shape}; put channels first")
    if x.dtype.kind not in "fiub":
        raise MedwardError(f"{said} numbers, got dtype {x.dtype}")
    if x[0].size > MOST_PIXELS:
        raise MedwardError(f"{said} of at most {MOST_PIXELS} pixels, got {x[0].size}; send a smaller one")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise MedwardError(f"{said} finite, got NaN or infinity; replace those values")
    slack = 1e-6 * max(1.0, abs(low or 0.0), abs(high or 0.0))  # float32 cannot hold every bound
    least, most = float(x.min()), float(x.max())
    if (low is not None and least < low - slack) or (high is not None and most > high + slack):
        raise MedwardError(f"{said} in the model's range of {low} to {high}, got {least:g} to {most:g}; scale it")
    return x


def _shown_frames(image: Array, low: float | None, high: float | None) -> StoredFrames:
    """An `image` ``(C, H, W)`` as 8-bit frames: grey or colours where its range is said, else each channel twice."""
    if low is not None and high is not None:
        pixels = _shown_pixels(image, low, high)
        colour = len(pixels) > 1
        values = np.moveaxis(pixels, 0, -1) if colour else pixels[0]
        return StoredFrames(values=np.ascontiguousarray(values)[None], photometric="RGB" if colour else "MONOCHROME2")
    ends = [tuple(map(float, np.percentile(image, each))) for each in ([0, 100], [HOT, 100 - HOT])]
    frames = [
        _shown_pixels(image, least if low is None else low, most if high is None else high) for least, most in ends
    ]
    return StoredFrames(values=np.concatenate(frames), photometric="MONOCHROME2")


def _shown_pixels(image: Array, black: float, white: float) -> NDArray[np.uint8]:
    """8-bit pixels ``(C, H, W)`` of an `image`, 0 at `black` and 255 at `white`."""
    scale = np.float32(255 / (white - black if white > black else 1.0))
    pixels: NDArray[np.uint8] = ((image - np.float32(black)) * scale + np.float32(0.5)).clip(0, 255).astype(np.uint8)
    return pixels
