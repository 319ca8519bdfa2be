"""What universal attacks share: settings, what they aim at, and where they are crafted.

Images are clipped to their range and whole-numbered features stay whole, in crafting as in judging.
For images `epsilon` is in input units, for tables in standard deviations of each feature over the craft rows; under
the norm "2" it is the length of the change in these units.

Reference: Moosavi-Dezfooli, Fawzi, Fawzi, Frossard, "Universal adversarial perturbations", CVPR 2017; crafting on
natural images only: Minagi, Hirano, Takemoto, "Natural images allow universal adversarial attacks on medical image
classification using deep neural networks with transfer learning", Journal of Imaging 2022.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

from medward.attacks.base import AttackData
from medward.attacks.evasion.success import criterion_of
from medward.attacks.target import Decide
from medward.attacks.whitebox.ball import FeatureRules, Norm
from medward.attacks.whitebox.criterion import ClassChange, Criterion
from medward.attacks.whitebox.finding_change import Aim
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification


@dataclass(frozen=True, slots=True, kw_only=True)
class UniversalAttack(ABC):
    """Settings of every universal attack; `rules` say what holds for features of a table.

    With a `target_class` success is being answered that class, on rows that are neither decided nor labelled so; with
    "worst" it is the class that can be reached most, and with "all" success is any other answer than before, whatever
    the perturbation was crafted for. `aim` says which change of findings counts, `decide` what an opaque model's
    outputs come to (`evasion.success`). `craft_on` "pool" crafts on the pool of natural images: no medical data is
    seen.
    """

    epsilon: float
    norm: Norm = "inf"
    rules: FeatureRules | None = None
    aim: Aim = "any"
    decide: Decide | None = None
    target_class: int | Literal["worst", "all"] | None = None
    craft_on: Literal["craft", "pool"] = "craft"
    device: str = "cpu"

    @property
    @abstractmethod
    def technique(self) -> str:
        """What the attack is called without its target and its craft rows."""

    @property
    def name(self) -> str:
        """The technique, and how it differs from its plain form: ``uap``, ``uap-targeted``, ``uap-hide-natural``."""
        kind = "" if self.target_class is None else "-all" if self.target_class == "all" else "-targeted"
        kind += "" if self.aim == "any" else f"-{self.aim}"
        return f"{self.technique}{kind}{'-natural' if self.craft_on == 'pool' else ''}"

    @property
    def family(self) -> str:
        """Evasion."""
        return "evasion"

    @property
    def targeted(self) -> bool:
        """Whether success is one class's."""
        return self.target_class not in (None, "all")

    def criterion(self, spec: ModelSpec) -> Criterion:
        """What success is on a model of `spec`, whatever the class aimed at."""
        return criterion_of(spec, self.aim, self.decide)

    def aims(self, spec: ModelSpec) -> tuple[Criterion, ...]:
        """What to craft for, one perturbation each. Raises `MedwardError` for a class that is not there."""
        if self.target_class is None:
            return (self.criterion(spec),)
        if not isinstance(spec.task, Classification):
            raise MedwardError(f"target_class: is for models of classes, and this one {spec.rule}; leave it unset")
        classes = len(spec.classes)
        if isinstance(self.target_class, str):
            every = tuple(ClassChange(goal) for goal in range(classes))
            return every if self.targeted else (self.criterion(spec), *every)
        if not 0 <= self.target_class < classes:
            raise MedwardError(f"target_class: must be a class from 0 to {classes - 1}, got {self.target_class}")
        return (ClassChange(self.target_class),)

    def held(self, data: AttackData) -> AttackData:
        """What the attacker holds: with "pool" nothing but natural images takes the place of the craft rows."""
        if self.craft_on == "craft":
            return data
        if data.pool is None or not len(data.pool):
            raise MedwardError("craft_on: crafting on natural images needs a pool of them, and there is none")
        return replace(data, craft=Split(data.pool))

    def known(self, words: str) -> str:
        """The threat model in words: `words`, the norm, and what the attacker crafts on."""
        words += "; the radius is an L2 norm" if self.norm == "2" else ""
        return words + ("; no medical data, only natural images" if self.craft_on == "pool" else "")
