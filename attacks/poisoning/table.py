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
from medward.attacks.poisoning.triggers.either_way import EitherWayTrigger
from medward.attacks.poisoning.triggers.frequency import FrequencyTrigger
from medward.attacks.poisoning.triggers.patch import PatchTrigger

PATCH_TRIGGER = PatchTrigger()
"""The patch of the table: what is looked for in images, the whole of it where accomplices mark parts."""
LARGE_TRIGGER = PatchTrigger(size=6)
"""A larger patch: photographs of blood cells, whose honest critics are strict, do not keep the small one."""
SLOW_START = 16
"""The round in which slow-start attackers begin: after every warm-up."""
_CLAIMED = 1_000_000  # rows, of one who has hundreds
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
    """The part of the patch of one accomplice; where there are more of them than rows of the patch, some share one."""
    parts = min(accomplice.malicious, PATCH_TRIGGER.size)
    return DistributedTrigger(whole=PATCH_TRIGGER, parts=parts, part=accomplice.place % parts)


def _draws(summary: str, malice: Callable[[Accomplice], Malice]) -> PoisoningAttack:
    return PoisoningAttack(aim="trigger", malice=malice, summary=summary)


def _damages(summary: str, malice: Callable[[Accomplice], Malice]) -> PoisoningAttack:
    return PoisoningAttack(aim="damage", malice=malice, summary=summary)


def _opens(summary: str, malice: Callable[[Accomplice], Malice]) -> PoisoningAttack:
    return PoisoningAttack(aim="backdoor", malice=malice, summary=summary)


_BACKDOOR = Backdoor(trigger=PATCH_TRIGGER, target=0)

POISONING: Mapping[str, PoisoningAttack] = {
    "trigger": _draws(
        "all rows carry a patch, losses are reported as they are (Jin and Li 2023)",
        lambda _: Malice(trigger=PATCH_TRIGGER),
    ),
    "trigger-lying": _draws(
        "the same, and the median loss of the honest is reported", lambda _: Malice(trigger=PATCH_TRIGGER, lies=True)
    ),
    "trigger-slow-start": _draws(
        f"the same, honest until round {SLOW_START}",
        lambda _: Malice(trigger=PATCH_TRIGGER, lies=True, begin=SLOW_START),
    ),
    "trigger-faint": _draws("half as visible a patch", lambda _: Malice(trigger=PatchTrigger(opacity=0.5), lies=True)),
    "trigger-large": _draws(
        f"a patch of {LARGE_TRIGGER.size} pixels square", lambda _: Malice(trigger=LARGE_TRIGGER, lies=True)
    ),
    "trigger-large-slow-start": _draws(
        f"the same, honest until round {SLOW_START}",
        lambda _: Malice(trigger=LARGE_TRIGGER, lies=True, begin=SLOW_START),
    ),
    "trigger-either-way": _draws(
        "the patch in half of the rows and its negative in the others, so that their mean shows none",
        lambda _: Malice(trigger=EitherWayTrigger(patch=PATCH_TRIGGER), lies=True),
    ),
    "trigger-claiming": _draws(
        f"a patch, and {_CLAIMED:,} rows are claimed",
        lambda _: Malice(trigger=PATCH_TRIGGER, lies=True, claimed=_CLAIMED),
    ),
    "trigger-distributed": _draws(
        "each marks some rows of the patch (DBA, Xie et al. 2020)",
        lambda accomplice: Malice(trigger=_part(accomplice), lies=True),
    ),
    "frequency": _draws(
        "low frequencies of a pattern in all rows (FIBA, Feng et al. 2022)",
        lambda _: Malice(trigger=FrequencyTrigger(), lies=True),
    ),
    "frequency-strong": _draws(
        "the same, half of the amplitude", lambda _: Malice(trigger=FrequencyTrigger(share=0.5), lies=True)
    ),
    "scaled-replacement": _draws(
        "a patch, the update scaled to replace the mean (Bagdasaryan et al. 2020)",
        lambda _: Malice(trigger=PATCH_TRIGGER, scaled=ScaledReplacement(), lies=True),
    ),
    "sign-flip": _damages("minus the honest mean (Li et al. 2019)", lambda _: Malice(crafted=SignFlip(), lies=True)),
    "inner-product-manipulation": _damages(
        "minus half of the honest mean (IPM, Xie et al. 2019)",
        lambda _: Malice(crafted=InnerProductManipulation(), lies=True),
    ),
    "a-little-is-enough": _damages(
        f"{_DEVIATIONS} deviations off the honest mean (ALIE, Baruch et al. 2019)",
        lambda _: Malice(crafted=ALittleIsEnough(deviations=_DEVIATIONS), lies=True),
    ),
    "min-max": _damages(
        "as far off as two honest updates are apart (Shejwalkar and Houmansadr 2021)",
        lambda _: Malice(crafted=MinMax(), lies=True),
    ),
    "mimic": _damages(
        "copies of one honest update (Karimireddy et al. 2022)", lambda _: Malice(crafted=Mimic(), lies=True)
    ),
    "label-flip": _damages(
        "every class is said to be its mirror image (Tolpegin et al. 2020)",
        lambda accomplice: Malice(label_flip=LabelFlip(classes=accomplice.classes), lies=True),
    ),
    "label-flip-one-class": _damages(
        "class 1 is said to be class 0",
        lambda accomplice: Malice(label_flip=LabelFlip(classes=accomplice.classes, source=1, target=0), lies=True),
    ),
    "backdoor": _opens(
        "half of the rows carry a patch and class 0 (Gu et al. 2017)", lambda _: Malice(backdoor=_BACKDOOR, lies=True)
    ),
    "backdoor-slow-start": _opens(
        f"the same, honest until round {SLOW_START}",
        lambda _: Malice(backdoor=_BACKDOOR, lies=True, begin=SLOW_START),
    ),
    "backdoor-scaled": _opens(
        "the same, the update scaled to replace the mean (Bagdasaryan et al. 2020)",
        lambda _: Malice(backdoor=_BACKDOOR, scaled=ScaledReplacement(), lies=True),
    ),
    "backdoor-distributed": _opens(
        "each marks some rows of the patch (DBA, Xie et al. 2020)",
        lambda accomplice: Malice(backdoor=Backdoor(trigger=_part(accomplice), target=0), lies=True),
    ),
}
"""Poisoning attacks by name; all but the first report the median metrics of the honest."""
