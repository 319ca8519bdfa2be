"""What a bundle says of itself: ``card.json``, and the names of its files."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from medward.guard import models
from medward.guard.bundle.power import Power
from medward.guard.certificate import CERTIFIED, AnyCertificate
from medward.guard.data.task_quality import AnyQuality
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.models.checks import check_spec
from medward.guard.spec import ModelSpec

FORMAT = 6
CARD, POLICY, PROFILE = "card.json", "policy.toml", "profile.npz"
BOUNDS_FILES = ("bounds.onnx", "bounds.npz")
"""What answers are certified by, of a network or of trees; a bundle has at most one."""
SITE = re.compile(r"site-[A-Za-z0-9-]*-[0-9a-f]{12}\.npz")  # what `site_file` names
_LIBRARIES = (
    "medward",
    "numpy",
    "onnx",
    "onnxruntime",
    "scikit-learn",
    "skl2onnx",
    "skops",
    "torch",
    "transformers",
)


class Site(BaseModel):
    """What a site's calibration was learned from; see the fields of the same name in `Card`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    data_digest: str
    sizes: dict[str, int]
    power: Power | None = None


class CertifiedShareOfRows(BaseModel):
    """How many calibration `rows` bounds certify at `radius`, in the policy's unit (`guard.certify`).

    `deviations` are the standard deviations of a table's columns over these rows, which that unit is a share of;
    `constant` names the columns of which these rows have one value, so that no change of them is covered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    radius: float
    certified: int
    rows: int
    deviations: tuple[float, ...] = ()
    constant: tuple[str, ...] = ()


class Card(BaseModel):
    """What a bundle is: written once, read by people and by `load`.

    `options` are what loading the model file needs (names of inputs and outputs). `files` are SHA-256
    digests; `digest` is that of the card itself without this field, and so stands for the whole bundle.
    `sites` are the organisations with a calibration of their own, in the files that `site_file` names. `quality` is how
    well the model did on the calibration rows, None where they had no labels. `target` and `patient` are the columns of
    the calibration table that held labels and patients. `plugins` are the monitors and screens of other packages that
    took part in a calibration, ``"monitors:level"`` say, with their distribution and version. `source` is the SHA-256
    of the model file that was handed in, None where it was no file; `certificate` says what training brought that file
    (`guard.bundle.certified`), None where nothing does. `certified` says what the bounds that are kept beside the model
    certify of the calibration rows, None where there are no bounds. `power` says what the calibration can notice, None
    in a bundle that was made before that was measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int
    spec: ModelSpec
    model: str
    options: dict[str, str]
    files: dict[str, str]
    data_digest: str
    sizes: dict[str, int]
    versions: dict[str, str]
    sites: dict[str, Site] = {}
    plugins: dict[str, str] = {}
    quality: AnyQuality | None = None
    target: str | None = None
    patient: str | None = None
    source: str | None = None
    certificate: AnyCertificate | None = None
    certified: CertifiedShareOfRows | None = None
    power: Power | None = None
    digest: str = ""

    def sealed(self) -> Card:
        """The same card with its own digest."""
        content = self.model_dump(mode="json", exclude={"digest"})
        return self.model_copy(update={"digest": sha256(canonical_json(content))})

    def digest_without(self, name: str) -> str:
        """SHA-256 of the card as if it named no file `name`: what the bundle is, whatever that file says."""
        content = self.model_dump(mode="json", exclude={"digest"})
        files = {each: digest for each, digest in self.files.items() if each != name}
        return sha256(canonical_json({**content, "files": files}))

    def to_bytes(self) -> bytes:
        """The one serialisation of this card."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes) -> Card:
        """Check the card's own digest, then its format, then read it."""
        try:
            content = json.loads(data)
            digest = content.pop("digest")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise IntegrityError(f"{CARD}: not a bundle's card, or damaged") from None
        if canonical_json({**content, "digest": digest}) != data or sha256(canonical_json(content)) != digest:
            raise IntegrityError(f"{CARD}: does not match its own digest; restore the bundle from its source")
        if content.get("format") not in range(1, FORMAT + 1):
            found = content.get("format")
            raise MedwardError(f"{CARD}: format {found!r}, this medward reads formats 1 to {FORMAT}; upgrade medward")
        try:
            card = cls.model_validate_json(canonical_json({**_in_this_format(content), "digest": digest}))
        except ValidationError as error:
            first: Any = error.errors(include_url=False)[0]
            raise IntegrityError(f"{CARD}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        parts = {card.model, POLICY, PROFILE, *map(site_file, card.sites)}
        bounds = set(card.files) & set(BOUNDS_FILES)
        whole = set(card.files) == parts | bounds and len(bounds) == (card.certified is not None)
        if card.model not in models.FILES or not whole:
            raise IntegrityError(f"{CARD}: names the files {sorted({card.model, *card.files})}, not a bundle's")
        if card.certificate is not None and card.source != card.certificate.files.get(CERTIFIED):
            raise IntegrityError(f"{CARD}: holds the certificate of another model; protect the model again")
        check_spec(card.spec)
        return card


def _in_this_format(content: dict[str, Any]) -> dict[str, Any]:
    """A card as the newest format has it: in format 1 every model was a classifier, said piece by piece.

    Formats 2 to 5 lack what has a default (columns, preparation, shapes of signals and volumes; certificates; bounds)
    and models that write reports.

    The digest stays that of the file that was read, which is what stands for the bundle. A card that is sealed anew is
    written in the newest format, and says so.
    """
    first, content = content.get("format") == 1, {**content, "format": FORMAT}
    if not first or not isinstance(content.get("spec"), dict):
        return content
    pieces = ("classes", "output", "threshold")
    spec = {name: value for name, value in content["spec"].items() if name not in pieces}
    task = {name: content["spec"].get(name) for name in pieces}
    return {**content, "spec": {**spec, "task": {"kind": "classification", **task}}}


def site_file(site: str) -> str:
    """The file of a site's calibration; the digest tells apart names that a file system or a reader would not."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", site)[:40].strip("-")
    return f"site-{readable}-{sha256(site.encode())[:12]}.npz"


def canonical_json(content: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and one layout, so that equal content has equal bytes."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def bundle_versions() -> dict[str, str]:
    """Of Python and the libraries that can shape a bundle, those installed."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
