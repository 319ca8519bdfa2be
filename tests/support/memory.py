"""Made-up reports of many patients: boilerplate that all share, and a history that only one has."""

from __future__ import annotations

from functools import cache

import numpy as np

from medward.guard.release.memory.memory_filter import MemoryFilter

BOILERPLATE = (
    "The heart is normal in size.",
    "The lungs are clear without focal consolidation.",
    "No pneumothorax or pleural effusion is seen.",
    "There are mild degenerative changes of the thoracic spine.",
    "No acute cardiopulmonary abnormality.",
    "The mediastinal contours are within normal limits.",
)
_WHO = ("retired baker", "young violinist", "night porter", "deep sea diver", "glass blower", "tram driver")
_WHAT = ("fell from a ladder", "swallowed a brass key", "was kicked by a horse", "woke with a stabbing ache")
_WHERE = ("behind the old mill", "at her sister's wedding", "on a ferry to Oban", "while pruning quinces")
_WHEN = ("twelve days ago", "in the spring of 1987", "twenty-three hours before", "at 4 in the morning")


def made_histories(count: int, *, seed: int) -> list[str]:
    """Distinct histories, each of which only one patient has."""
    rng = np.random.default_rng(seed)
    return [
        f"This {_word(rng)} {rng.choice(_WHO)} from {_word(rng)} {_word(rng)} {rng.choice(_WHAT)} of {_word(rng)} "
        f"{rng.choice(_WHERE)} near {_word(rng)} {rng.choice(_WHEN)} with {_word(rng)} and was sent by Dr {_word(rng)} "
        f"of {_word(rng)} {_word(rng)}, file {rng.integers(10**9, 10**10)}."
        for _ in range(count)
    ]


def made_reports(count: int, *, seed: int) -> list[str]:
    """Reports with a history between sentences of boilerplate in any order."""
    rng = np.random.default_rng(seed)
    return [
        " ".join([*rng.permutation(BOILERPLATE)[:3], history, *rng.permutation(BOILERPLATE)[:2]])
        for history in made_histories(count, seed=seed)
    ]


@cache
def fitted_memory() -> MemoryFilter:
    """A filter that knows 40 of them."""
    return MemoryFilter.fit(made_reports(40, seed=0), range(40), salt=bytes(16))


def _word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(("ba", "ker", "lo", "min", "nu", "ras", "so", "tiv", "ve", "zul"), 3)).capitalize()
