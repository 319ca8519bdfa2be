"""What ``protect`` and ``calibrate`` share: which rows are benign, and what a bundle cannot do yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.profile import idle_screens
from medward.integrations.cli.options import console


def benign_split(splits: dict[str, Any], wanted: str | None, source: Path) -> Any:
    """The split that was said, else the first that is called what benign rows are called."""
    if wanted is not None and wanted not in splits:
        raise MedwardError(f"{source}: there is no split {wanted!r}; it has {', '.join(splits)}")
    for name in (wanted, "calibration", "val", "data"):
        if name in splits:
            return splits[name]
    raise MedwardError(f"{source}: name the benign split with --split; it has {', '.join(splits)}")


def print_notes(bundle: Any) -> None:
    """Say what is not protected as the policy says."""
    for note in idle_screens(bundle.profile, bundle.sites, bundle.policy.screen.rate):
        console.print(f"note: {note}", markup=False)
