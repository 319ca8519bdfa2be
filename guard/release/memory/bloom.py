"""Bloom filter: a set of hashes in few bits, that holds whatever was added and seldom anything else.

Reference: Bloom, "Space/time trade-offs in hash coding with allowable errors", CACM 1970; Kirsch and Mitzenmacher,
"Less hashing, same performance", ESA 2006, for probes from two hashes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.release.memory.window_hash import Hashes

PROBES = 8  # of one hash: few bits are set, so that the first probes already say no to most

_MOST = 1 << 32  # bits that a probe can reach


@dataclass(frozen=True, slots=True)
class BloomFilter:
    """A Bloom filter holds `bits`, eight a byte, of a set of hashes of 64 bits; it has no false negative."""

    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, hashes: Hashes, false_positive: float) -> BloomFilter:
        """The set of `hashes`, of a size at which any other hash passes for one of them with that probability."""
        if not 1e-12 <= false_positive <= 0.01:
            raise MedwardError(f"Bloom filter: false_positive must be in [1e-12, 0.01], got {false_positive:g}")
        each = -PROBES / math.log1p(-(false_positive ** (1 / PROBES)))
        size = 8 * max(8, math.ceil(len(hashes) * each / 8))
        if size > _MOST:
            raise MedwardError(
                f"Bloom filter: {len(hashes)} hashes at {false_positive:g} need {size / 8e6:.0f} MB, more than 512; "
                "allow more false positives"
            )
        bits = np.zeros(size, bool)
        for probe in range(PROBES):
            bits[_places(hashes, np.uint64(probe), size)] = True
        return cls(np.packbits(bits, bitorder="little"))

    @property
    def false_positive(self) -> float:
        """The probability with which a hash that was never added is held, from the bits that are set."""
        return float(np.unpackbits(self.bits).mean()) ** PROBES

    def held_places(self, hashes: Hashes) -> NDArray[np.intp]:
        """The places in `hashes` of those that are held, rising."""
        found = np.flatnonzero(self._set(hashes, _FIRST))
        found = found[self._set(hashes[found], _SECOND)]
        return found if not len(found) else found[self._set(hashes[found, None], _OTHERS).all(axis=1)]

    def _set(self, hashes: Hashes, probes: Hashes | np.uint64) -> NDArray[np.bool_]:
        """Whether the bits that `probes` look at are set."""
        places = _places(hashes, probes, 8 * len(self.bits))
        return np.asarray((self.bits[places >> _3] >> (places & _7).astype(np.uint8)) & 1, bool)


def _places(hashes: Hashes, probes: Hashes | np.uint64, size: int) -> Hashes:
    """The bits that `probes` look at: half of the hash, moved so many times by the other half."""
    return (((hashes + probes * ((hashes >> _32) | _1)) & _LOW) * np.uint64(size)) >> _32


_1, _3, _7, _32, _LOW = (np.uint64(each) for each in (1, 3, 7, 32, 0xFFFFFFFF))
_FIRST, _SECOND = np.uint64(0), np.uint64(1)
_OTHERS = np.arange(2, PROBES, dtype=np.uint64)
