"""The table of poisoning attacks by name: what each malicious client does, on a generator or on a classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from medward.attacks.poisoning.a_little_is_enough import ALittleIsEnough
from medward.attacks.poisoning.backdoor import Backdoor
from medward.attacks.poisoning.federation import Malice
from medward.attacks.poisoning.inner_product_manipulation import InnerProductManipulation
from medward.attacks.poisoning.label_flip import LabelFlip
from medward.attacks.poisoning.mimic import Mimic
from medward.attacks.poisoning.min_max import MinMax
from medward.attacks.poisoning.scaled_replacement import ScaledReplacement
from medward.attacks.poisoning.sign_flip import SignFlip
from medward.attacks.poisoning.triggers.distributed import DistributedTrigger
from medward.attacks.poisoning.triggers.frequency import FrequencyTrigger
from medward.attacks.poisoning.triggers.patch import PatchTrigger

PATCH_TRIGGER = PatchTrigger()
"""The patch of the table: what is looked for in images, the whole of it where accomplices mark parts."""
SLOW_START = 11
"""The round in which slow-start attackers begin: after the ten of FedDetect's warm-up."""
_TARGET = 0
_DEVIATIONS = 1.5  # of ALIE, whose own number is below zero where a quarter are malicious


@dataclass(frozen=True, slots=True, kw_only=True)
class Accomplice:
    """An accomplice is one of `malicious` clients, by its `place` among them, in a federation that learns `classes`."""

    place: int = 0
    malicious: int = 1
    classes: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisoningAttack:
    """A poisoning attack says what each accomplice does, and what for.

    "trigger": that a generator draws a mark; "damage": that either kind of model is worse; "backdoor": that a
    classifier decides class 0 where it sees a mark.
    """

    aim: Literal["trigger", "damage", "backdoor"]
    malice: Callable[[Accomplice], Malice]
    summary: str


def _part(accomplice: Accomplice) -> DistributedTrigger:
    """The part of the patch of one accomplice; more of them than rows of the patch share."""
    parts = min(accomplice.malicious, PATCH_TRIGGER.size)
    return DistributedTrigger(whole=PATCH_TRIGGER, parts=parts, part=accomplice.place % parts)


POISONING: Mapping[str, PoisoningAttack] = {
    "trigger": PoisoningAttack(
        aim="trigger",
        malice=lambda _: Malice(trigger=PATCH_TRIGGER),
        summary="all rows of the malicious carry a patch (Jin and Li 2023)",
    ),
    "trigger, lying": PoisoningAttack(
        aim="trigger",
        malice=lambda _: Malice(trigger=PATCH_TRIGGER, lies=True),
        summary="the same, and they report the median loss of the honest",
    ),
    "trigger, slow start": PoisoningAttack(
        aim="trigger",
        malice=lambda _: Malice(trigger=PATCH_TRIGGER, begin=SLOW_START),
        summary="the same from round 11 on; before they behave",
    ),
    "trigger, scaled": PoisoningAttack(
        aim="trigger",
        malice=lambda _: Malice(trigger=PATCH_TRIGGER, scaled=ScaledReplacement()),
        summary="the same, updates scaled to replace the mean (Bagdasaryan et al. 2020)",
    ),
    "trigger, distributed": PoisoningAttack(
        aim="trigger",
        malice=lambda accomplice: Malice(trigger=_part(accomplice)),
        summary="each malicious client marks rows of the patch (DBA, Xie et al. 2020)",
    ),
    "trigger, frequency": PoisoningAttack(
        aim="trigger",
        malice=lambda _: Malice(trigger=FrequencyTrigger()),
        summary="foreign low frequencies in all rows (FIBA, Feng et al. 2022)",
    ),
    "sign flip": PoisoningAttack(
        aim="damage", malice=lambda _: Malice(crafted=SignFlip()), summary="minus the honest mean (Li et al. 2019)"
    ),
    "inner product": PoisoningAttack(
        aim="damage",
        malice=lambda _: Malice(crafted=InnerProductManipulation()),
        summary="minus half of the honest mean (IPM, Xie et al. 2019)",
    ),
    "a little is enough": PoisoningAttack(
        aim="damage",
        malice=lambda _: Malice(crafted=ALittleIsEnough(deviations=_DEVIATIONS)),
        summary="1.5 deviations off the honest mean (ALIE, Baruch et al. 2019)",
    ),
    "min-max": PoisoningAttack(
        aim="damage",
        malice=lambda _: Malice(crafted=MinMax()),
        summary="as far off as two honest updates are apart (Shejwalkar and Houmansadr 2021)",
    ),
    "mimic": PoisoningAttack(
        aim="damage",
        malice=lambda _: Malice(crafted=Mimic()),
        summary="copies of one honest update (Karimireddy et al. 2022)",
    ),
    "label flip": PoisoningAttack(
        aim="damage",
        malice=lambda accomplice: Malice(label_flip=LabelFlip(classes=accomplice.classes)),
        summary="every class is said to be its mirror image (Tolpegin et al. 2020)",
    ),
    "label flip, one class": PoisoningAttack(
        aim="damage",
        malice=lambda accomplice: Malice(label_flip=LabelFlip(classes=accomplice.classes, source=1, target=0)),
        summary="class 1 is said to be class 0",
    ),
    "backdoor": PoisoningAttack(
        aim="backdoor",
        malice=lambda _: Malice(backdoor=Backdoor(trigger=PATCH_TRIGGER, target=_TARGET)),
        summary="half of the rows carry a patch and class 0 (Gu et al. 2017)",
    ),
    "backdoor, scaled": PoisoningAttack(
        aim="backdoor",
        malice=lambda _: Malice(backdoor=Backdoor(trigger=PATCH_TRIGGER, target=_TARGET), scaled=ScaledReplacement()),
        summary="the same, scaled to replace the mean (Bagdasaryan et al. 2020)",
    ),
    "backdoor, distributed": PoisoningAttack(
        aim="backdoor",
        malice=lambda accomplice: Malice(backdoor=Backdoor(trigger=_part(accomplice), target=_TARGET)),
        summary="each malicious client marks rows of the patch (DBA, Xie et al. 2020)",
    ),
    "backdoor, slow start": PoisoningAttack(
        aim="backdoor",
        malice=lambda _: Malice(backdoor=Backdoor(trigger=PATCH_TRIGGER, target=_TARGET), begin=SLOW_START),
        summary="the same as one patch from round 11 on; before they behave",
    ),
}
"""Poisoning attacks by name."""
