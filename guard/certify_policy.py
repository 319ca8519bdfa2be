"""Which answers count as certified, and what becomes of the others: the section ``[certify]`` of a policy.

A certified answer is one that no input within the radius changes, as bounds of the deployed file prove
(`guard.certify`). The radius is that of ``[threat]`` for a change made to one input unless it is said here, so that
what is promised to those who read answers is what `medward validate` attacks.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medward.guard.threat_policy import GREY_LEVELS, ThreatPolicy
from medward.guard.types import Action, Modality

Uncertified = Literal["mark", "label", "withhold"]
CERTIFIED_FACTORS = (0.25, 0.5, 1.0, 2.0)
"""Of the policy's radius: the grid of radii that an answer is certified on."""
UNCERTIFIED_ACTIONS: dict[Uncertified, Action] = {
    "mark": Action.FLAG,
    "label": Action.COARSEN,
    "withhold": Action.WITHHOLD,
}


class CertifyPolicy(BaseModel):
    """Whether answers carry their certified radius, and what is done with one that is not certified.

    `radius` is in grey levels of 255 of the input range for images (signals and volumes count as such), and a share of
    each column's standard deviation for tables, or of what takes its place in ``[threat]``; 0 stands for the radius of
    ``[threat]``. An answer that is not certified leaves marked, to be read by a person ("mark"), as its label only
    ("label"), or not at all ("withhold").
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=False, strict=True)
    radius: float = Field(default=0.0, ge=0, le=GREY_LEVELS)
    uncertified: Uncertified = "mark"

    @property
    def action(self) -> Action:
        """What is asked for where an answer is not certified."""
        return UNCERTIFIED_ACTIONS[self.uncertified]

    def certified_at(self, modality: Modality, threat: ThreatPolicy) -> float:
        """The radius in the units of the modality."""
        return self.radius or (threat.image if modality == "image" else threat.table)

    def to_toml(self) -> str:
        """The section with every key spelled out."""
        return _TEMPLATE.format(c=self, enabled=str(self.enabled).lower())


_TEMPLATE = """
[certify]                    # answers that no input within the radius changes; `medward protect` builds the bounds
enabled = {enabled}
radius = {c.radius!r}                 # grey levels of 255, or of each column's standard deviation; 0 = as in [threat]
uncertified = "{c.uncertified}"         # such an answer: mark it for a person, its label only, or withhold it
"""
