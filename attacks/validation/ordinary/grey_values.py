"""What becomes of grey values on their way: compression, display curves, a changed scanner, other bits, inversion."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from medward.attacks.validation.ordinary.behaviour import Behaviour, Traffic, changed_alike, changed_by_chance
from medward.guard.types import Array

_FINE, _COARSE = (95, 75), 50  # qualities of JPEG
_GAMMA, _BRIGHTER = 1.15, 0.06
_SCANNERS = 3
"""Different scanners, of which an account has one."""
_BITS = 12


def jpeg_compressed(quality: int, traffic: Traffic, images: Array) -> Array:
    """Through JPEG of a `quality`: grey images, or those of three colours; other channels one by one."""
    grey = np.rint(255 * _shares(traffic, images)).astype(np.uint8)
    if grey.shape[1] == 3:
        made = np.stack([_jpeg(each.transpose(1, 2, 0), quality).transpose(2, 0, 1) for each in grey])
    else:
        made = np.stack([[_jpeg(plane, quality) for plane in each] for each in grey])
    return _values(traffic, made / 255)


def gamma_curve(exponent: float, traffic: Traffic, images: Array) -> Array:
    """A display curve: shares of white to the power of `exponent`."""
    return _values(traffic, _shares(traffic, images) ** exponent)


def made_brighter(share: float, traffic: Traffic, images: Array) -> Array:
    """Brighter by a `share` of the range."""
    return _values(traffic, _shares(traffic, images) + share)


def another_scanner(traffic: Traffic, images: Array, rng: np.random.Generator) -> Array:
    """Gain 5 %, offset 2 %, gamma 8 %, blur up to 0.4 pixels, noise up to 1 %: one draw of these for all `images`."""
    gain, offset, gamma = rng.uniform(0.95, 1.05), rng.uniform(-0.02, 0.02), rng.uniform(0.92, 1.08)
    width, noise = rng.uniform(0, 0.4), rng.uniform(0, 0.01)
    curved = _shares(traffic, images) ** gamma * gain + offset
    blurred = gaussian_filter(curved, (0, 0, width, width))
    return _values(traffic, blurred + noise * rng.normal(size=images.shape))


def fewer_bits(bits: int, traffic: Traffic, images: Array) -> Array:
    """Rounded to ``2 ** bits`` grey levels."""
    most = 2**bits - 1
    return _values(traffic, np.rint(most * _shares(traffic, images)) / most)


def read_as_wider(bits: int, traffic: Traffic, images: Array) -> Array:
    """Of `bits` bits and read as 16: white is where ``2 ** bits`` of 65,536 levels are."""
    return _values(traffic, (2**bits - 1) / 65_535 * _shares(traffic, images))


def inverted_values(traffic: Traffic, images: Array) -> Array:
    """White for black, as MONOCHROME1 that nobody reads."""
    return _values(traffic, 1 - _shares(traffic, images))


def _shares(traffic: Traffic, images: Array) -> Array:
    """Values as shares of white."""
    return np.asarray((images - traffic.low) / (traffic.high - traffic.low), np.float64)


def _values(traffic: Traffic, shares: Array) -> Array:
    """Shares of white as values."""
    return traffic.bounded(traffic.low + (traffic.high - traffic.low) * np.clip(shares, 0, 1))


def _jpeg(pixels: np.typing.NDArray[np.uint8], quality: int) -> np.typing.NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


GREY_VALUES = (
    *(
        Behaviour(
            name=name,
            group=group,
            visits=changed_alike(change),
            forgiven=True,
            modalities=("image",),
            flat=True,
        )
        for name, group, change in (
            *((f"JPEG {quality}", "compression", partial(jpeg_compressed, quality)) for quality in _FINE),
            (f"gamma {_GAMMA:g}", "grey curve", partial(gamma_curve, _GAMMA)),
            (f"{_BRIGHTER:.0%} brighter", "grey curve", partial(made_brighter, _BRIGHTER)),
            (f"{_BITS}-bit export, rounded", "bits", partial(fewer_bits, _BITS)),
        )
    ),
    Behaviour(
        name="a mild change of scanner",
        group="scanner",
        visits=changed_by_chance(another_scanner, versions=_SCANNERS),
        forgiven=True,
        modalities=("image",),
        flat=True,
    ),
    *(
        Behaviour(
            name=name,
            group=group,
            visits=changed_alike(change),
            forgiven=False,
            remedy=remedy,
            modalities=("image",),
            flat=True,
        )
        for name, group, change, remedy in (
            (
                f"JPEG {_COARSE}",
                "compression",
                partial(jpeg_compressed, _COARSE),
                "Send images as they were exported, or calibrate your own (`medward calibrate --site`).",
            ),
            (
                f"{_BITS}-bit export, read as 16",
                "bits",
                partial(read_as_wider, _BITS),
                "Scale values to the declared range before they are sent; `medward serve --commission` says what is "
                "odd.",
            ),
            (
                "inverted",
                "bits",
                inverted_values,
                "Send white as white (DICOM MONOCHROME1 is the reverse); `medward serve --commission` says what is "
                "odd.",
            ),
        )
    ),
)
