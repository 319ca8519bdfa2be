"""What is asked once many changed near-duplicates of one image came: the section ``[duplicates]`` of a policy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from medward.guard.types import Action, ActionName


class Limit(BaseModel):
    """One step of a count's ladder: `action` once the count has reached `count`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: float = Field(gt=0, le=1e6)
    action: ActionName


class DuplicatesPolicy(BaseModel):
    """Changed near-duplicates of one image, across accounts; see `guard.monitors.near_duplicates`. Images only.

    The ladder is a count with limits, not a test with a rate of false alarms: series sent without their study reach any
    limit. So by default it only tells a person; a site whose clients declare studies may add rungs that coarsen or
    withhold. Of images that look alike `slices` of a declared study do not count (raise it for volumes); an image that
    nobody asks about is forgotten after `ttl_days`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    watch: bool = True
    ladder: tuple[Limit, ...] = (Limit(count=30, action="flag"),)
    slices: int = Field(default=64, ge=0, le=10_000)
    ttl_days: float = Field(default=30, gt=0, le=3650)

    @field_validator("ladder")
    @classmethod
    def _ordered(cls, ladder: tuple[Limit, ...]) -> tuple[Limit, ...]:
        counts = [limit.count for limit in ladder]
        actions = [Action[limit.action.upper()] for limit in ladder]
        if not ladder or counts != sorted(counts) or actions != sorted(actions):
            raise PydanticCustomError(
                "ladder", "limits must go from small and mild to large and strict, and there must be one"
            )
        return ladder

    def to_toml(self) -> str:
        """The section with every key spelled out."""
        limits = "\n".join(
            f'[[duplicates.ladder]]\ncount = {each.count!r}\naction = "{each.action}"\n' for each in self.ladder
        )
        return _TEMPLATE.format(d=self, watch=str(self.watch).lower(), limits=limits)


_TEMPLATE = """\
# Slightly changed copies of one image, whoever sends them: a count with limits, not a test. Copy number n of an
# image weighs n, so eight copies in a row reach 30; one that weighs much counts against the account for all images.
[duplicates]
watch = {watch}
slices = {d.slices}                  # look-alikes of one declared study that do not count; more for volumes
ttl_days = {d.ttl_days!r}

{limits}"""
