"""What a deployment lets leave and come in of patients' identifiers: the section ``[privacy]``, every key checked.

Filters of text are built from it in `guard.release.privacy_filters`, the check of images in
`guard.intake.burned_in_check`. Names of kinds and languages are spelled out here, since the text filter needs an extra.
"""

from __future__ import annotations

import json
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

KindName = Literal[
    "name",
    "place",
    "date",
    "age",
    "phone",
    "fax",
    "email",
    "social_security",
    "record_number",
    "health_plan",
    "account",
    "licence",
    "vehicle",
    "device",
    "url",
    "ip_address",
    "code",
]
LanguageName = Literal["en", "es"]
BurnedInAction = Literal["allow", "flag", "withhold"]
ALL_KINDS: tuple[KindName, ...] = get_args(KindName)
_OF_IDENTIFIERS = ("language", "kinds", "remembered")
_OF_TEXT = ("identifiers", "memory", *_OF_IDENTIFIERS)


class PrivacyPolicy(BaseModel):
    """What is taken out of answers that are text, and what is done with images that show text.

    `identifiers` are taken out of answers in `language`, those of `kinds`, by an answer itself and by the last
    `remembered` characters of the conversation before it. With `memory` rare training text is taken out too: whoever
    opens the filters must then give a memory filter, and otherwise may not. Both off is refused where text is to leave;
    one that is off is said (`PrivacyFilters.notes`).

    `burned_in_text` is the action on an image in whose pixels a text of four letters and digits or more can be read
    that is no marker; allow does not look. It needs the extra deidentify, and sees little in small images
    ([which](disclosure.md#text-in-images-that-come-in)).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identifiers: bool = Field(default=True, strict=True)
    language: LanguageName = "en"
    kinds: tuple[KindName, ...] = ALL_KINDS
    memory: bool = Field(default=False, strict=True)
    remembered: int = Field(default=512, ge=0, le=100_000, strict=True)
    burned_in_text: BurnedInAction = "allow"

    @field_validator("kinds")
    @classmethod
    def _in_one_order(cls, kinds: tuple[KindName, ...]) -> tuple[KindName, ...]:
        if not kinds:
            raise PydanticCustomError("kinds", "no kind would be looked for; set identifiers = false to say so")
        return tuple(kind for kind in ALL_KINDS if kind in kinds)

    @model_validator(mode="after")
    def _useful(self) -> PrivacyPolicy:
        fields = type(self).model_fields
        for key in _OF_IDENTIFIERS:
            if not self.identifiers and getattr(self, key) != fields[key].default:
                raise PydanticCustomError(
                    "privacy", f"{key} does nothing where identifiers = false; leave it out, or set identifiers = true"
                )
        return self

    def to_toml(self) -> str:
        """The section with every key spelled out."""
        on = {key: str(getattr(self, key)).lower() for key in ("identifiers", "memory")}
        return _TEMPLATE.format(p=self, kinds=json.dumps(self.kinds), **on)


def idle_filters(policy: PrivacyPolicy) -> tuple[str, ...]:
    """Which keys on text do nothing, as a sentence: those that were changed, where no answer is text."""
    changed = [key for key in _OF_TEXT if getattr(policy, key) != PrivacyPolicy.model_fields[key].default]
    if not changed:
        return ()
    named, does = ", ".join(f"privacy.{key}" for key in changed), "does" if len(changed) == 1 else "do"
    return (f"{named} {does} nothing here: filters of text stand before no answer of this guard",)


_TEMPLATE = """
[privacy]                    # answers that are text: identifiers and training text; images: text in their pixels
identifiers = {identifiers}
language = "{p.language}"
kinds = {kinds}
memory = {memory}               # rare training text too; needs a memory filter of the training texts
remembered = {p.remembered}             # characters of a conversation that an answer is read after
burned_in_text = "{p.burned_in_text}"     # what is done with an image that shows text: allow, flag or withhold
"""
