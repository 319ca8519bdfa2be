"""What a federation's server chooses: the section ``[federated]`` of a policy, every key and bound checked.

How a round is aggregated and judged is in `guard.federated.configured`, which builds it from this section.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.guard.federated.sanitise import UpdateBounds

RuleName = Literal[
    "weighted-mean",
    "norm-clipped-mean",
    "coordinate-median",
    "trimmed-mean",
    "krum",
    "multi-krum",
    "bulyan",
    "geometric-median",
    "centred-clipping",
    "foolsgold",
    "fltrust",
    "divide-and-conquer",
]
_STATED_SHARE: frozenset[str] = frozenset({"trimmed-mean", "krum", "multi-krum", "bulyan", "divide-and-conquer"})
"""Rules that must be told how many clients may be malicious."""
_CLIPPING: frozenset[str] = frozenset({"norm-clipped-mean", "centred-clipping"})
_COMPARING: frozenset[str] = frozenset({"centred-clipping", "fltrust"})
"""Rules that compare clients with one more update, so that groups of clients cannot stand for them."""
_DETECTOR, _BOUNDS = RobustFedDetect(), UpdateBounds()


class FederatedPolicy(BaseModel):
    """How a federation's server takes what its clients send; see `guard.federated`.

    `malicious_share` is the share of clients that trimmed-mean, krum, multi-krum, bulyan (below 0.25) and
    divide-and-conquer are built to bear; `clip` the length, in median lengths, that norm-clipped-mean and
    centred-clipping shorten updates to. With a `bucket` of 2 or more the rule sees means of so many clients, one of
    which spoils them.

    `detect` lowers the weight of clients that keep standing out: a peak above `threshold` (1 is about the most that
    is ordinary), in a client's first `warm_up` rounds above two and a half times that, flags one, each flag counts by
    `decay`, below `floor` it counts nothing, and at most `most_suspects` of a round's clients are flagged. A client
    that counts nothing is asked again every `probation` rounds. It needs a server that can see what clients' models
    do; one that cannot judges nobody, and says so in each round's record.

    `most_examples` is the largest claim of rows that is believed, `most_share` the largest share of the weight that one
    client has by its rows; under geometric-median and centred-clipping, which half of the weight moves anywhere, it is
    0.4 at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: RuleName = "norm-clipped-mean"
    malicious_share: float = Field(default=0.2, ge=0, lt=0.5)
    clip: float = Field(default=1.0, gt=0, le=100)
    bucket: int = Field(default=1, ge=1, le=1000)
    detect: bool = Field(default=True, strict=True)
    warm_up: int = Field(default=_DETECTOR.warm_up, ge=1, le=10_000)
    threshold: float = Field(default=_DETECTOR.threshold, gt=0, le=1e6)
    decay: float = Field(default=_DETECTOR.decay, gt=0, lt=1)
    floor: float = Field(default=_DETECTOR.floor, ge=0, lt=1)
    most_suspects: float = Field(default=_DETECTOR.most_suspects, gt=0, lt=0.5)
    probation: int = Field(default=10, ge=1, le=10_000)
    most_examples: float = Field(default=_BOUNDS.most_examples, ge=1, le=1e15)
    most_share: float = Field(default=_BOUNDS.most_share, gt=0, le=1)

    @model_validator(mode="after")
    def _useful(self) -> FederatedPolicy:
        fields = type(self).model_fields
        for key, rules in (("malicious_share", _STATED_SHARE), ("clip", _CLIPPING)):
            if self.rule not in rules and getattr(self, key) != fields[key].default:
                raise PydanticCustomError(
                    "federated",
                    f"{key} = {getattr(self, key):g} does nothing under the rule {self.rule}, but under "
                    f"{', '.join(sorted(rules))}; leave it out",
                )
        borne, most = self.malicious_share * self.bucket, 0.25 if self.rule == "bulyan" else 0.5
        if self.rule in _STATED_SHARE and borne >= most:
            raise PydanticCustomError(
                "federated",
                f"malicious_share * bucket = {borne:g} is more than {self.rule} can bear with any number of clients; "
                f"state less than {most:g}",
            )
        if self.bucket > 1 and self.rule in _COMPARING:
            raise PydanticCustomError(
                "federated", f"bucket = {self.bucket} cannot stand before {self.rule}, which compares single clients"
            )
        return self

    def to_toml(self) -> str:
        """The section with every key spelled out."""
        return _TEMPLATE.format(f=self, detect=str(self.detect).lower())


_TEMPLATE = """
[federated]                  # a federation's server: how it takes what its clients send
rule = "{f.rule}"
malicious_share = {f.malicious_share!r}        # of clients, borne by rules that must be told
clip = {f.clip!r}                   # of rules that shorten updates, in median lengths
bucket = {f.bucket}                   # clients that a rule sees as one; 1 = each by itself
detect = {detect}                # lower the weight of clients that keep standing out
warm_up = {f.warm_up}
threshold = {f.threshold!r}
decay = {f.decay!r}
floor = {f.floor!r}
most_suspects = {f.most_suspects!r}
probation = {f.probation}                # rounds until a client that counts nothing is asked again
most_examples = {f.most_examples!r}
most_share = {f.most_share!r}
"""
