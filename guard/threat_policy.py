"""How far an attacker who changes inputs is taken to go: the section ``[threat]`` of a policy, every key checked.

The defaults are argued, not wired in. An image that is changed for itself by four grey levels of 255 stays below what a
display window shows, and bounds that are proven reach so far; one change for all images is cruder, and ten levels,
about 4 % of the range, are what attacks on medical images are published at. A quarter of a column's standard deviation
is the largest bias that laboratories are asked to keep to, a quarter of the spread within and between patients: a value
that much off is an ordinary measurement. Where the error of a measurement is known, it is the better unit.

References: Hirano, Minagi and Takemoto, "Universal adversarial attacks on deep neural networks for medical image
classification", BMC Medical Imaging 2021; Fraser, Hyltoft Petersen, Libeer and Ricos, "Proposals for setting generally
applicable quality goals solely based on biology", Annals of Clinical Biochemistry 1997.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

GREY_LEVELS = 255
"""What radii of images are counted in: parts of the range that a model's inputs have."""


class ThreatPolicy(BaseModel):
    """How far changed inputs may lie from the true ones; attacks are judged at the worst radius up to these.

    `image` is for a change made for one image and `image_universal` for one change that serves all, both in grey levels
    of 255 of the input range, whatever that is; signals and volumes count as images. `table` is a share of the standard
    deviation of each column. `measurement_error` is, by the names of columns or their places from 0, the error of a
    measurement in the column's own unit: it takes the place of that share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: float = Field(default=4.0, gt=0, le=GREY_LEVELS)
    image_universal: float = Field(default=10.0, gt=0, le=GREY_LEVELS)
    table: float = Field(default=0.25, gt=0, le=10)
    measurement_error: dict[str, float] = {}

    def __hash__(self) -> int:
        return hash((self.image, self.image_universal, self.table, frozenset(self.measurement_error.items())))

    @field_validator("measurement_error")
    @classmethod
    def _sizes(cls, errors: dict[str, float]) -> dict[str, float]:
        for name, error in errors.items():
            if not 0 < error < math.inf:
                raise PydanticCustomError("measurement_error", f"the error of {name} must be a number above 0")
        return errors

    def radius(self, modality: str, *, universal: bool, low: float | None = None, high: float | None = None) -> float:
        """The radius in input units of images between `low` and `high`, NaN without both; in spreads for tables."""
        if modality != "image":
            return self.table
        if low is None or high is None:
            return math.nan
        return (self.image_universal if universal else self.image) / GREY_LEVELS * (high - low)

    def spreads(self) -> dict[str, float]:
        """What takes the place of a column's standard deviation, so that the radius is its measurement error."""
        return {name: error / self.table for name, error in self.measurement_error.items()}

    def sentence(self, modality: str) -> str:
        """The threat in words."""
        if modality == "image":
            return (
                f"up to {self.image:g} grey levels of {GREY_LEVELS} in a change for one image, "
                f"{self.image_universal:g} in one for all"
            )
        known = ", ".join(f"{name} {error:g}" for name, error in self.measurement_error.items())
        return f"up to {self.table:g} of each column's standard deviation" + (f", and of {known}" if known else "")

    def to_toml(self) -> str:
        """The section with every key spelled out."""
        errors = ", ".join(f"{_quoted(name)} = {error!r}" for name, error in self.measurement_error.items())
        return _TEMPLATE.format(t=self, errors=f"{{{errors}}}")


def small_radius(epsilon: float, modality: str) -> str:
    """That a radius of a table is far below what is judged by default, in a sentence: it may be meant for images."""
    judged = ThreatPolicy().table
    if modality == "image" or epsilon >= judged / 4:
        return ""
    return (
        f"epsilon = {epsilon:.3g} is a share of each column's standard deviation in a table; medward validate judges "
        f"at {judged:g} unless [threat] table says otherwise"
    )


def _quoted(name: str) -> str:
    """A key of TOML, whatever is in it."""
    kept = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{kept}"'


_TEMPLATE = """
[threat]                     # how far `medward validate` takes changed inputs to lie from the true ones
image = {t.image!r}                  # grey levels of 255, in a change made for one image
image_universal = {t.image_universal!r}       # in one change for all images
table = {t.table!r}                 # of each column's standard deviation
measurement_error = {errors}       # column = error in its unit, in the place of that; such as {{lactate = 0.2}}
"""
