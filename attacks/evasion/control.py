"""A control for evasion: the same attack with more room, to show that it would have fooled a model that can be fooled.

An attack that fools few rows may be weak, or the model may withstand it. What tells the two apart is the same attack on
the same model within a larger radius: a search that works breaks nearly every model there, more than noise of that size
does, and one without gradients or without steps does not. One change for all rows needs more room than one for each, so
where the first radius does not tell, a second is asked.
"""

from __future__ import annotations

from dataclasses import replace

from medward.attacks.base import Attack, AttackResult
from medward.attacks.evasion.fooled_share import fooled_interval
from medward.attacks.evasion.per_image import PerImage
from medward.attacks.evasion.universal import UniversalAttack

EVASION_SUCCESS = 0.5
"""What the lower end must reach on the undefended model before an attack counts as one that breaks it."""
CONTROL_RADII = (4.0, 8.0)
"""Of the declared radius: how far the control goes, at first and where that does not show enough."""


def larger_attack(attack: Attack, result: AttackResult, run: int) -> Attack | None:
    """The next control of an `attack` after so many were `run`; None where `result`, the last one's, is strong."""
    if run == len(CONTROL_RADII) or not result.attempts or fooled_interval(result.attempts).low >= EVASION_SUCCESS:
        return None
    if not isinstance(attack, PerImage | UniversalAttack):
        return None
    return replace(attack, epsilon=CONTROL_RADII[run] * attack.epsilon)


def control_times(attack: Attack, control: AttackResult) -> float:
    """How many radii of an `attack` its `control` was given."""
    if not isinstance(attack, PerImage | UniversalAttack):
        return 1.0
    return max(each.radius for each in control.attempts) / attack.epsilon
