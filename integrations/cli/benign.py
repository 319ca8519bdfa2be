"""What ``protect`` and ``calibrate`` share: what a bundle cannot do yet."""

from __future__ import annotations

from typing import Any

from medward.guard.answering import starved_reports
from medward.guard.profile import idle_screens
from medward.integrations.cli.options import console


def print_noticed(power: Any) -> None:
    """Say after how many queries a calibration of that `power` notices each kind of inputs; None: never measured."""
    from medward.guard.bundle.power_words import power_words

    for line in () if power is None else power_words(power):
        console.print(line, markup=False)


def print_notes(bundle: Any) -> None:
    """Say what is not protected as the policy says."""
    starved = starved_reports(bundle.policy, bundle.card.spec.task)
    for note in (*idle_screens(bundle.profile, bundle.sites, bundle.policy.screen.rate), *bundle.cautions, *starved):
        console.print(f"note: {note}", markup=False)
