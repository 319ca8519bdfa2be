"""One measured claim: what was measured, on how much, against which target, on which machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

LIBRARIES = ("numpy", "torch", "scikit-learn", "onnxruntime", "medward")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """`met` compares the value with the target as the claim words it; `interval` is 95 % unless said otherwise."""

    claim: str
    value: float | str
    target: str
    met: bool
    n: int
    seed: int | None = None
    interval: tuple[float, float] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """The claim as it is printed and committed, with versions and hardware."""
        return {
            **asdict(self),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {_memory_gib()} GiB",
        }


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
