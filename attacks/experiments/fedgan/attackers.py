"""The attackers of the table: what the malicious hospitals of a federation do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from medward.attacks.poisoning.a_little_is_enough import ALittleIsEnough
from medward.attacks.poisoning.federation import Malice
from medward.attacks.poisoning.inner_product_manipulation import InnerProductManipulation
from medward.attacks.poisoning.mimic import Mimic
from medward.attacks.poisoning.min_max import MinMax
from medward.attacks.poisoning.scaled_replacement import ScaledReplacement
from medward.attacks.poisoning.sign_flip import SignFlip
from medward.attacks.poisoning.triggers.base import Trigger
from medward.attacks.poisoning.triggers.distributed import DistributedTrigger
from medward.attacks.poisoning.triggers.frequency import FrequencyTrigger
from medward.attacks.poisoning.triggers.patch import PatchTrigger

SLOW_START = 16  # the round in which a slow starter begins: long after every warm-up
NONE = "none"
PATCH = PatchTrigger()

Attacker = Callable[[int, int], Malice]
"""What the n-th of so many malicious hospitals does."""

ATTACKERS: Mapping[str, Attacker] = {
    "trigger": lambda place, count: Malice(trigger=PATCH),
    "trigger-lying": lambda place, count: Malice(trigger=PATCH, lies=True),
    "trigger-slow-start": lambda place, count: Malice(trigger=PATCH, lies=True, begin=SLOW_START),
    "trigger-faint": lambda place, count: Malice(trigger=PatchTrigger(opacity=0.5), lies=True),
    "trigger-distributed": lambda place, count: Malice(
        trigger=DistributedTrigger(whole=PATCH, parts=max(2, count), part=place), lies=True
    ),
    "frequency": lambda place, count: Malice(trigger=FrequencyTrigger(), lies=True),
    "frequency-strong": lambda place, count: Malice(trigger=FrequencyTrigger(share=0.5), lies=True),
    "scaled-replacement": lambda place, count: Malice(trigger=PATCH, scaled=ScaledReplacement(), lies=True),
    "sign-flip": lambda place, count: Malice(crafted=SignFlip(), lies=True),
    "a-little-is-enough": lambda place, count: Malice(crafted=ALittleIsEnough(), lies=True),
    "inner-product-manipulation": lambda place, count: Malice(crafted=InnerProductManipulation(), lies=True),
    "min-max": lambda place, count: Malice(crafted=MinMax(), lies=True),
    "mimic": lambda place, count: Malice(crafted=Mimic(), lies=True),
}


def trigger_of(attack: str, malicious: int) -> Trigger | None:
    """The trigger that is looked for in images after this attack, or None where it plants none."""
    return None if attack == NONE else ATTACKERS[attack](0, malicious).trigger
