"""The one table of threats and of their identifiers in catalogues: what families, reports and evidence name them by.

Each catalogue was read at the version that `CATALOGUE_SOURCES` names; other versions number differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medward.attacks.validation.finding import Controls

ATLAS, NIST, OWASP, AISVS, TESTING = "MITRE ATLAS", "NIST AI 100-2", "OWASP ML", "OWASP AISVS", "OWASP AI Testing Guide"
CATALOGUE_SOURCES: Mapping[str, str] = {
    "FDA": "draft guidance on AI-enabled device software functions, January 2025, section XII",
    ATLAS: "5.6.0, github.com/mitre-atlas/atlas-data at 8ee2c689, dist/ATLAS.yaml",
    NIST: "NIST AI 100-2e2025, Adversarial Machine Learning",
    OWASP: "OWASP Machine Learning Security Top 10, 2023",
    AISVS: "1.0, github.com/OWASP/AISVS at 94fbad5a",
    TESTING: "OWASP AI Testing Guide, 2026",
}
"""Catalogue -> its version, and where it was read."""

CHANGED_INPUTS: Controls = {
    ATLAS: ("AML.T0015", "AML.T0043.000"),
    NIST: ("NISTAML.022", "NISTAML.025"),
    OWASP: ("ML01",),
}
TRANSFERRED_INPUTS: Controls = {**CHANGED_INPUTS, ATLAS: ("AML.T0015", "AML.T0043.002")}
COPIED_MODEL: Controls = {
    ATLAS: ("AML.T0024.002", "AML.T0005.001", "AML.T0048.004"),
    NIST: ("NISTAML.031",),
    OWASP: ("ML05",),
}
NAMED_MEMBERS: Controls = {ATLAS: ("AML.T0024.000",), NIST: ("NISTAML.033",), OWASP: ("ML04",)}
TOLD_VALUES: Controls = {ATLAS: ("AML.T0057",), NIST: ("NISTAML.036", "NISTAML.038"), OWASP: ("ML03",)}
"""What attackers do -> its identifiers, catalogue by catalogue; families of attacks take theirs from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceThreat:
    """A device threat is one of the seven that FDA names for AI-enabled devices, with what attacks it here.

    `meaning` is what it is, `asset` what it is after. `controls` are its identifiers. `tested_by` are those of ATLAS
    that a finding has which speaks of it, `shown_by` those of findings whose value on the bare model bears on it.
    `elsewhere` says what else does, or what is not tested.
    """

    name: str
    meaning: str
    asset: str
    tested_by: tuple[str, ...] = ()
    shown_by: tuple[str, ...] = ()
    controls: Controls
    elsewhere: str = ""


def atlas_names(controls: Controls, among: Sequence[str]) -> bool:
    """Whether ATLAS's identifiers in `controls` are `among` these."""
    return bool(set(controls.get(ATLAS, ())) & set(among))


DEVICE_THREATS: tuple[DeviceThreat, ...] = (
    DeviceThreat(
        name="data poisoning",
        meaning="forged or altered rows are put into training data",
        asset="training data",
        controls={
            ATLAS: ("AML.T0020", "AML.T0019", "AML.T0059"),
            AISVS: ("1.3.1", "1.3.5"),
            TESTING: ("AITG-MOD-02", "AITG-MOD-03"),
        },
        elsewhere="No validation of a bundle tests it: the model was trained before. Federations have defenses "
        "of their own, with tests of their own.",
    ),
    DeviceThreat(
        name="model inversion and stealing",
        meaning="answers are used to copy the model or to infer what it learned",
        asset="the model",
        tested_by=("AML.T0024.002",),
        controls={
            ATLAS: ("AML.T0024.002", "AML.T0024.001"),
            AISVS: ("11.2.2", "11.3.1", "11.3.2", "11.3.3", "11.3.4"),
            TESTING: ("AITG-APP-09", "AITG-MOD-05"),
        },
        elsewhere="Inversion, the reconstruction of training rows, is not tested.",
    ),
    DeviceThreat(
        name="model evasion",
        meaning="inputs are changed so that the model decides otherwise",
        asset="the diagnosis",
        tested_by=("AML.T0015",),
        controls={
            ATLAS: ("AML.T0015", "AML.T0043.000", "AML.T0043.001", "AML.T0043.002"),
            AISVS: ("2.2.3", "11.1.3", "11.1.4", "11.4.1", "11.4.2"),
            TESTING: ("AITG-MOD-01",),
        },
    ),
    DeviceThreat(
        name="data leakage",
        meaning="what a model says tells of the patients it was trained on or shown",
        asset="patients' data",
        tested_by=("AML.T0024.000", "AML.T0057"),
        controls={
            ATLAS: ("AML.T0024.000", "AML.T0057"),
            AISVS: ("11.2.1", "11.2.4", "11.2.5"),
            TESTING: ("AITG-MOD-04", "AITG-APP-03", "AITG-DAT-01"),
        },
    ),
    DeviceThreat(
        name="overfitting",
        meaning="a model that learned its training rows by heart fails on others, and is easier to attack",
        asset="the diagnosis",
        shown_by=("AML.T0024.000",),
        controls={AISVS: ("6.1.4", "11.2.5"), TESTING: ("AITG-MOD-06",)},
        elsewhere="Nobody overfits the model on purpose here. What the bare model tells of its members shows rows "
        "learned by heart.",
    ),
    DeviceThreat(
        name="model bias",
        meaning="a group of patients is served worse, by manipulation or by what training data lacked",
        asset="the diagnosis of a group",
        controls={AISVS: ("1.3.3",), TESTING: ("AITG-MOD-02",)},
        elsewhere="Not attacked. Of labelled rows the sensitivity of each class is measured; of groups of patients "
        "that are no class nothing is.",
    ),
    DeviceThreat(
        name="performance drift",
        meaning="inputs come to differ from those the model was made for, by manipulation or of themselves",
        asset="the diagnosis over time",
        controls={
            ATLAS: ("AML.T0031",),
            AISVS: ("12.3.1", "12.3.4"),
            TESTING: ("AITG-MOD-06",),
        },
        elsewhere="Not attacked. `medward drift` reads the log of the deployed model. What the calibration "
        "would notice:",
    ),
)
"""FDA's seven, in its order."""
