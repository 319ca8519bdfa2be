"""Slices of a vision-language sequence: which rows of logits stand for the image, the instruction, the description.

A decoder reads image tokens, an instruction and a description as one sequence; row t of its logits is its prediction
of what follows position t. Scores differ by slice: the image's says whether the image was trained on, with whatever
text; the description's whether this text was.

Reference: Li, Wu, Chen, Tonin, Abad Rocamora and Cevher, "Membership inference attacks against large vision-language
models", NeurIPS 2024, sec. 4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.types import Ints

SLICE_NAMES = ("image", "instruction", "description")


@dataclass(frozen=True, slots=True, eq=False)
class TokenSlice:
    """A token slice holds the `rows (m,)` of logits that stand for a part, and the `tokens (m,)` that came after.

    For the image, whose rows are those of its own positions, `tokens` is empty: nothing there is a word.
    """

    rows: Ints
    tokens: Ints


def find_slices(
    ids: Ints,
    image_token: int,
    described: int,
    *,
    special: Collection[int] = (),
    mask: NDArray[np.bool_] | None = None,
) -> Mapping[str, TokenSlice]:
    """The slices of ``ids (T,)`` by their names; the last `described` tokens are the description.

    `mask (T,)` is false where the sequence is padded, on whichever side. `special` are ids that are no words, such as
    the beginning of a sequence. The instruction is every word that is neither image nor description; the word of the
    first position has no row, since nothing predicts it.
    Raises `MedwardError` without an image token, and when the description holds one or is longer than the sequence.
    """
    given = np.asarray(ids, np.int64)
    places = np.arange(len(given)) if mask is None else np.flatnonzero(mask)
    tokens = given[places]
    images = tokens == image_token
    if not images.any():
        raise MedwardError(f"slices: no token of the sequence is the image token {image_token}; say which one is")
    if not 0 <= described <= len(tokens) or images[len(tokens) - described :].any():
        raise MedwardError(
            f"slices: the description cannot be the last {described} of {len(tokens)} tokens; it must come after the "
            "image"
        )
    last = np.arange(len(tokens)) >= len(tokens) - described
    words = ~images & ~np.isin(tokens, list(special)) & (np.arange(len(tokens)) > 0)
    return {
        "image": TokenSlice(places[images], np.zeros(0, np.int64)),
        "instruction": _predicted(places, tokens, words & ~last),
        "description": _predicted(places, tokens, words & last),
    }


def _predicted(places: Ints, tokens: Ints, chosen: NDArray[np.bool_]) -> TokenSlice:
    """The chosen tokens, and the rows before them."""
    index = np.flatnonzero(chosen)
    return TokenSlice(places[index - 1], tokens[index])
