"""How images are commonly sent wrongly: each mistake has words, and undoes itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations

import numpy as np

from medward.guard.commissioning.mistake import SendingMistake, linear_change
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 4095.0), (0.0, 65535.0))
DEPTHS = (
    (16.0, "12 bits scaled by 16"),
    (4.0, "14 bits scaled by 4"),
    (255.0, "values scaled by 255"),
)
NORMALISATIONS = (
    ("mean 0.5 and deviation 0.5", (0.5,), (0.5,)),
    ("the means and deviations of ImageNet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)
HOUNSFIELD = 1024.0
GAMMA = 2.2
_SLACK = 0.02  # of the range, by which undone values may lie outside of it


def moved_images(spec: ModelSpec) -> tuple[SendingMistake, ...]:
    """Mistakes that move pixels or channels, as far as the shape of an image hides them."""
    if spec.kind == "signal":
        return (
            _moved("time reversed", "as if time ran backwards", lambda x: x[..., ::-1]),
            _moved("leads reversed", "as if the leads came in reverse order", lambda x: x[..., ::-1, :]),
        )
    found = [
        _moved("mirrored", "mirrored, left for right", lambda x: x[..., ::-1]),
        _moved("upside down", "upside down", lambda x: x[..., ::-1, :]),
        _moved("rotated by 180", "rotated by 180 degrees", lambda x: x[..., ::-1, ::-1]),
    ]
    if spec.shape[1] == spec.shape[2]:
        found += [
            _moved("rotated clockwise", "rotated by 90 degrees clockwise", lambda x: np.rot90(x, 1, (2, 3))),
            _moved("rotated anticlockwise", "rotated by 90 degrees anticlockwise", lambda x: np.rot90(x, -1, (2, 3))),
            _moved("transposed", "transposed, rows for columns", lambda x: x.swapaxes(2, 3)),
        ]
    if spec.kind == "volume":
        found.append(_moved("slices reversed", "as if the slices came in reverse order", lambda x: x[:, ::-1]))
    elif spec.shape[0] == 3:
        found += [_channels(order) for order in permutations(range(3)) if order != (0, 1, 2)]
    return tuple(found)


def scaled_images(low: float, high: float, *, normalised: bool) -> tuple[SendingMistake, ...]:
    """Mistakes that change grey levels, where ``low`` to ``high`` was calibrated.

    `normalised` says that inputs may leave that range, so that they may have been normalised once more.
    """
    span = high - low
    found = [SendingMistake(name="inverted", words="inverted, black for white", undo=linear_change(-1.0, low + high))]
    for begin, end in RANGES:
        if (begin, end) != (low, high):
            gain = span / (end - begin)
            words = f"like the range {begin:g} to {end:g}, and {low:g} to {high:g} was calibrated"
            undo = linear_change(gain, low - begin * gain)
            found.append(SendingMistake(name=f"range {begin:g} to {end:g}", words=words, undo=undo))
    for factor, what in DEPTHS:
        if (low, high) != (0.0, 255.0) or factor != 255:  # which is the range 0 to 1
            small = f"{factor:g} times too small, as if {what} were calibrated and the scaling is missing"
            for name, words, gain in (
                (f"{factor:g} times too small", small, factor),
                (f"{factor:g} times too large", f"{factor:g} times too large, as {what}", 1 / factor),
            ):
                found.append(SendingMistake(name=name, words=words, undo=linear_change(gain, low - low * gain)))
    for gamma, said in ((GAMMA, "darker in the middle"), (1 / GAMMA, "brighter in the middle")):
        words = f"{said}, as with a gamma of {gamma:.2g}"
        found.append(SendingMistake(name=f"gamma {gamma:.2g}", words=words, undo=_gamma_undone(gamma, low, span)))
    if span > HOUNSFIELD:
        for sign, said in ((1, "too large, as without the intercept"), (-1, "too small, as with the intercept twice")):
            name, words = f"{HOUNSFIELD:g} {said.split(',')[0]}", f"{HOUNSFIELD:g} {said}"
            found.append(SendingMistake(name=name, words=words, undo=linear_change(1.0, -sign * HOUNSFIELD)))
    if normalised:
        for said, means, deviations in NORMALISATIONS:
            words, undo = f"normalised once more, by {said}", partial(_denormalised, means, deviations)
            found.append(SendingMistake(name="normalised once more", words=words, undo=undo))
    return tuple(found)


def _gamma_undone(gamma: float, low: float, span: float) -> Callable[[Array], Array]:
    def undo(images: Array) -> Array:
        return np.asarray(low + span * np.clip((images - low) / span, 0, 1) ** (1 / gamma))

    return undo


def fits_range(images: Array, low: float, high: float) -> bool:
    """Whether undone values lie where values were calibrated."""
    slack = _SLACK * (high - low)
    return bool(images.min() >= low - slack and images.max() <= high + slack)


def named_range(values: Array) -> tuple[float, float]:
    """The range of `RANGES` that benign values fit, or else their own ends."""
    low, high = float(values.min()), float(values.max())
    fitting = [each for each in RANGES if each[0] <= low and high <= each[1]]
    return min(fitting, key=lambda each: each[1] - each[0]) if fitting else (low, high)


def _moved(name: str, words: str, undo: Callable[[Array], Array]) -> SendingMistake:
    return SendingMistake(name=name, words=words, undo=lambda x: np.ascontiguousarray(undo(x)))


def _channels(order: tuple[int, ...]) -> SendingMistake:
    """The mistake whose images have the channels of the right ones in `order`."""
    said = "".join("RGB"[each] for each in order)
    back = np.argsort(order)
    return _moved(f"channels {said}", f"as if the channels came as {said} and not as RGB", lambda x: x[:, back])


def _denormalised(means: tuple[float, ...], deviations: tuple[float, ...], images: Array) -> Array:
    shape, channels = (1, -1, 1, 1), images.shape[1]
    mean, deviation = (
        np.resize(np.asarray(each, images.dtype), channels).reshape(shape) for each in (means, deviations)
    )
    return np.asarray(images * deviation + mean)
