"""Burned-in text as a check of requests: how many texts can be read in the pixels of each image, markers apart.

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
from medward.guard.intake.deidentify.burned_in import find_burned_in_text
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.markers import NAMES_TOO, is_marker
from medward.guard.intake.deidentify.reading import RapidReader, TextReader
from medward.guard.intake.picture import image_library
from medward.guard.privacy_policy import PrivacyPolicy
from medward.guard.spec import ModelSpec
from medward.guard.types import Action, Array, Verdict

BURNED_IN_TEXT = "burned-in-text"
"""The part of a verdict on text in pixels."""
LEAST_READABLE = 224
"""Pixels of an image's lesser side, below which most text of usual size was not read when that was measured."""
FEWEST_LETTERS = 4
"""Letters and digits of a text, below which it is a marker, somebody's initials on one, or a label."""
_TRIED = (32, 32)  # pixels of an empty image that a reader is tried on


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnedInCheck:
    """A burned-in check asks for `action` on images in whose pixels text can be read that may identify somebody.

    `low` and `high` are black and white, each image's own least and largest value where they are None. What the text
    says is neither kept nor told: a verdict counts, and an error of the reader is named by its type alone. No bound
    holds: text that the reader does not see passes.
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
            reader.read(np.zeros(_TRIED, np.uint8))
        except Exception as error:
            raise MedwardError(
                f"burned-in text cannot be read, not even of an empty image ({type(error).__name__}); repair the "
                'reader, or set privacy.burned_in_text = "allow"'
            ) from error
        return cls(action=Action[policy.burned_in_text.upper()], reader=reader, low=spec.low, high=spec.high)

    def texts(self, image: Array) -> int:
        """How many texts `image` ``(C, H, W)`` shows, in grey or in colours."""
        pixels = _shown_pixels(image, self.low, self.high)
        frames = StoredFrames(values=pixels[None], photometric="RGB" if pixels.ndim == 3 else "MONOCHROME2")
        try:
            return len(find_burned_in_text(frames, self.reader, may_identify))
        except Exception as error:  # whose message may hold what was read
            raise MedwardError(f"burned-in text cannot be read ({type(error).__name__})") from None

    def judge(self, images: Sequence[Callable[[], Array]]) -> tuple[list[Action], Verdict]:
        """The action on each of the `images`, which are made one by one, and how many of them show how many texts."""
        texts = [self.texts(image()) for image in images]
        actions = [self.action if each else Action.ALLOW for each in texts]
        evidence = {"images": float(sum(map(bool, texts))), "texts": float(sum(texts))}
        return actions, Verdict(part=BURNED_IN_TEXT, action=max(actions), evidence=evidence)


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


def _shown_pixels(image: Array, low: float | None, high: float | None) -> NDArray[np.uint8]:
    """8-bit pixels ``(H, W)`` or ``(H, W, 3)`` of an `image` ``(C, H, W)``, black at `low` and white at `high`."""
    black = float(image.min()) if low is None else low
    white = float(image.max()) if high is None else high
    scale = np.float32(255 / (white - black if white > black else 1.0))
    pixels = ((image - np.float32(black)) * scale + np.float32(0.5)).clip(0, 255).astype(np.uint8)
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
