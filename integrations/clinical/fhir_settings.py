"""What a site says of its own terminology: the file of ``medward serve --fhir``. Without it nothing is made up."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec


class Coding(BaseModel):
    """A coding is a site's code for a class, a finding or a quantity of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str = Field(pattern=r"^[a-z][a-z0-9+.-]*:\S+$", max_length=256)
    code: str = Field(pattern=r"^\S+( \S+)*$", max_length=128)
    display: str = Field(default="", max_length=256)

    @property
    def content(self) -> dict[str, str]:
        """The coding as FHIR has it."""
        return {name: value for name, value in self.model_dump().items() if value}


class FhirSettings(BaseModel):
    """FHIR settings are what answers in FHIR say beyond the answer itself.

    `patient_system` is the system that the PatientID of DICOM headers is an identifier of; without it no answer names a
    patient. `codes` are codings by the names of classes, findings or the quantity, and under ``report`` of the
    report itself; `ucum` is the code of a number's unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patient_system: str = Field(default="", pattern=r"^([a-z][a-z0-9+.-]*:\S+)?$", max_length=256)
    ucum: str = Field(default="", pattern=r"^\S*$", max_length=64)
    codes: dict[str, Coding] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, spec: ModelSpec) -> FhirSettings:
        """Read a file; codes of names that the model of `spec` does not have are refused."""
        try:
            settings = cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise MedwardError(f"{path}: cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise MedwardError(f"{path}: not TOML: {error}") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise MedwardError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        known = (*spec.classes, "report")
        for name in settings.codes:
            if name not in known:
                raise MedwardError(f"{path}: codes.{name}: the model has no such name, only {', '.join(known)}")
        return settings

    def codings(self, name: str) -> list[dict[str, str]]:
        """The site's codings of `name`, one or none."""
        return [self.codes[name].content] if name in self.codes else []
