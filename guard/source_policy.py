"""Where inputs come from: the section ``[source]`` of a policy.

A thief sends what he likes; a study that the server itself fetched from the site's archive is one that a scanner sent
there. So a site whose clients name studies may let next to nothing leave of what is uploaded instead.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medward.guard.types import Action

SOURCE_PART = "source"
UploadRule = Literal["same", "label", "withhold"]
UPLOAD_ACTIONS: dict[UploadRule, Action] = {
    "same": Action.ALLOW,
    "label": Action.COARSEN,
    "withhold": Action.WITHHOLD,
}


class SourcePolicy(BaseModel):
    """Source policy: what leaves of inputs that a client uploads, where the server can fetch them itself.

    "same" tells uploads and retrieved studies not apart, "label" lets only decisions of uploads leave, "withhold"
    nothing. `upload_bits` is how many bits a day an account may be told of uploads, beside `[budget]`; 0 is no limit
    of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uploads: UploadRule = "same"
    upload_bits: float = Field(default=0.0, ge=0, le=1e12)

    @property
    def action(self) -> Action:
        """What is asked for of an uploaded input."""
        return UPLOAD_ACTIONS[self.uploads]

    def to_toml(self) -> str:
        """The section with every key spelled out."""
        return _TEMPLATE.format(s=self)


_TEMPLATE = """
[source]                     # what leaves of uploads, where `medward serve --source` fetches studies from the archive
uploads = "{s.uploads}"             # "same" as of retrieved studies, their "label" only, or "withhold" them
upload_bits = {s.upload_bits!r}            # a day that an account may be told of uploads, beside [budget]; 0 = no limit
"""
