"""What is known of an image, and so may stand in its report: findings, view, age group, and places with a box.

Labels of a data set say that a finding is there. How sure a radiologist was they do not say, so a share of findings is
written as doubtful, drawn once for each image: what only may be counts as there wherever a report is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from medward.guard.tasks.report_reader import Mention

Side = Literal["left", "right", "bilateral"]
Zone = Literal["upper", "middle", "lower"]
View = Literal["AP", "PA"]
AgeGroup = Literal["child", "adult", "elderly"]
NormalPart = Literal["lungs normal", "heart normal", "nothing acute"]
SIDES: tuple[Side, ...] = get_args(Side)
ZONES: tuple[Zone, ...] = get_args(Zone)
RADIOGRAPH_VIEWS: tuple[View, ...] = get_args(View)
AGE_GROUPS: tuple[AgeGroup, ...] = get_args(AgeGroup)
NORMAL_PARTS: tuple[NormalPart, ...] = get_args(NormalPart)

DOUBTFUL_SHARE = 0.25
"""The share of findings that are written as doubtful."""
_ADULT, _ELDERLY = 18, 65  # years
_MIDLINE = (0.42, 0.58)  # a box from left of the one to right of the other lies in both lungs
_ZONE_ENDS = (0.38, 0.58)  # shares of the height, where the lungs fill most of it


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the lungs is the patient's side, and the zone where one is known."""

    side: Side
    zone: Zone | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """The facts of an image: how each finding that its report speaks of is meant, and what else is known of it.

    Findings that are in `findings` as absent are denied in the report; those that are not in it are not mentioned.
    """

    findings: Mapping[str, Mention]
    view: View | None = None
    age: AgeGroup | None = None
    places: Mapping[str, Place] = field(default_factory=dict)
    normal: tuple[NormalPart, ...] = ()

    @property
    def present(self) -> frozenset[str]:
        """The findings that are there or may be."""
        return frozenset(name for name, meant in self.findings.items() if meant > Mention.ABSENT)


def stated_findings(
    present: frozenset[str], spoken_of: Sequence[str], generator: np.random.Generator
) -> dict[str, Mention]:
    """Findings as a report states them: those of `spoken_of`, there or not, in their order, then others that are there.

    Each that is there is doubtful by a chance of `DOUBTFUL_SHARE`.
    """
    names = [*spoken_of, *sorted(present.difference(spoken_of))]
    doubtful = generator.random(len(names)) < DOUBTFUL_SHARE
    return {
        name: Mention.ABSENT if name not in present else Mention.UNCERTAIN if doubted else Mention.PRESENT
        for name, doubted in zip(names, doubtful.tolist(), strict=True)
    }


def normal_parts(present: frozenset[str], labelled: Sequence[str]) -> tuple[NormalPart, ...]:
    """What looks normal, as far as a data set that labels those findings can tell.

    The lungs where nothing else than a large heart is there, the heart where it could have been called large, and all
    where nothing is there.
    """
    parts: tuple[NormalPart, ...] = () if present - {"cardiomegaly"} else ("lungs normal",)
    if "cardiomegaly" in labelled and "cardiomegaly" not in present:
        parts += ("heart normal",)
    return parts if present else (*parts, "nothing acute")


def age_group(years: int) -> AgeGroup:
    """Child below 18 years, elderly from 65 on, else adult."""
    return "child" if years < _ADULT else "elderly" if years >= _ELDERLY else "adult"


def box_place(left: float, top: float, width: float, height: float) -> Place:
    """The place of a box in shares of the image, whose left is the patient's right; zones are thirds of usual lungs."""
    if left < _MIDLINE[0] and left + width > _MIDLINE[1]:
        return Place("bilateral")
    middle = top + height / 2
    zone = ZONES[sum(middle >= end for end in _ZONE_ENDS)]
    return Place("right" if left + width / 2 < 0.5 else "left", zone)


def joined_places(places: Sequence[Place]) -> Place:
    """One place for several boxes of a finding: both sides where they differ, a zone where all share it."""
    sides, zones = {each.side for each in places}, {each.zone for each in places}
    return Place(sides.pop() if len(sides) == 1 else "bilateral", zones.pop() if len(zones) == 1 else None)
