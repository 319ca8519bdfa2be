"""A control for evasion: the same attack with more room, to show that it would have fooled a model that can be fooled.

An attack that fools few rows may be weak, or the model may withstand it. What tells the two apart is the same attack on
the same model within a larger radius: a search that works breaks nearly every model there, more than noise of that size
does, and one without gradients or without steps does not.
"""

from __future__ import annotations

from dataclasses import replace

from medward.attacks.base import Attack, AttackResult
from medward.attacks.evasion.fooled_share import fooled_interval
from medward.attacks.evasion.per_image import PerImage
from medward.attacks.evasion.universal import UniversalAttack

EVASION_SUCCESS = 0.5
"""What the lower end must reach on the undefended model before an attack counts as one that breaks it."""
CONTROL_RADIUS = 4.0
"""Of the declared radius: how far the control goes."""


def larger_attack(attack: Attack, result: AttackResult) -> Attack | None:
    """The control of an `attack` whose `result` on the bare model is not strong; None where none is needed or known."""
    if not result.attempts or fooled_interval(result.attempts).low >= EVASION_SUCCESS:
        return None
    if not isinstance(attack, PerImage | UniversalAttack):
        return None
    return replace(attack, epsilon=CONTROL_RADIUS * attack.epsilon)
