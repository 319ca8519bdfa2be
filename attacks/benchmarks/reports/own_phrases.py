"""Phrases in our own words, for tests, examples, and wherever reports of a hospital cannot be had or shown.

Frames around the names of a finding: plain English, taken from no report; no phrase is a sentence of those that
`mined_phrases` reads, so that what is written in these words can be shown to anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medward.attacks.benchmarks.reports.phrases import FindingStatement, PhraseBank, Statement
from medward.guard.tasks.report_reader import CHEST_TERMS, Mention

_NAMES: Mapping[str, tuple[str, ...]] = {
    "atelectasis": ("atelectasis", "lung volume loss"),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "consolidation": ("consolidation", "consolidated lung"),
    "edema": ("pulmonary edema", "interstitial edema"),
    "effusion": ("pleural effusion", "pleural fluid"),
    "emphysema": ("emphysema", "emphysematous change"),
    "fibrosis": ("fibrosis", "fibrotic change"),
    "fracture": ("fracture", "a fractured rib"),
    "granuloma": ("granuloma", "granulomatous change"),
    "hernia": ("hiatal hernia", "hernia"),
    "infiltration": ("infiltration", "infiltrate"),
    "mass": ("mass", "lung mass"),
    "nodule": ("nodule", "lung nodule"),
    "opacity": ("opacity", "hazy density"),
    "pleural thickening": ("pleural thickening", "apical pleural thickening"),
    "pneumonia": ("pneumonia", "bronchopneumonia"),
    "pneumothorax": ("pneumothorax", "hydropneumothorax"),
}
_FRAMES: Mapping[Mention, tuple[str, ...]] = {
    Mention.PRESENT: (
        "{{place}}{name} is seen",
        "one sees {name}{{where}}",
        "the film shows {name}{{where}}",
        "{name} can be made out{{where}}",
        "the image shows {{place}}{name}",
    ),
    Mention.UNCERTAIN: (
        "possible {{place}}{name}",
        "findings may represent {name}{{where}}",
        "{{place}}{name} is suspected",
        "questionable {name}{{where}}",
        "this could be {{place}}{name}",
    ),
    Mention.ABSENT: (
        "the film shows no {name}",
        "there is no hint of {name}",
        "no sign of {name} is found",
        "{name} is not seen",
        "the film is free of {name}",
    ),
}
_VIEWS: Mapping[Statement, tuple[str, ...]] = {
    "AP": (
        "frontal film taken in front of the patient, at the bedside",
        "portable AP chest",
        "AP projection, bedside film",
        "single AP view of the chest",
        "bedside chest film, AP",
        "anteroposterior chest film",
    ),
    "PA": (
        "upright PA chest",
        "PA projection, patient standing",
        "single PA view of the chest",
        "department film, PA",
        "posteroanterior chest film",
        "standing chest film, PA",
    ),
}
_AGES: Mapping[Statement, tuple[str, ...]] = {
    "child": ("the patient is a child", "paediatric patient", "chest of a child", "young patient, below adult age"),
    "adult": ("the patient is an adult", "adult patient", "adult chest", "patient of adult age"),
    "elderly": ("the patient is elderly", "elderly patient", "chest of an elderly person", "patient of old age"),
}
_NORMAL: Mapping[Statement, tuple[str, ...]] = {
    "lungs normal": (
        "both lungs are clear",
        "the lungs look normal",
        "lungs are well aerated and clear",
        "clear lungs on both sides",
    ),
    "heart normal": (
        "the heart has a normal size",
        "normal cardiac outline",
        "heart size lies in the normal range",
        "the cardiac shadow is of usual size",
    ),
    "nothing acute": (
        "no acute disease of the chest",
        "nothing acute is shown",
        "this is a normal chest film",
        "an acute process is not shown",
    ),
}


def own_phrase_bank(findings: Sequence[str] = tuple(CHEST_TERMS)) -> PhraseBank:
    """Our own phrases for each view, age group and normal part, and for `findings`, there, doubtful and not."""
    phrases: dict[Statement, tuple[str, ...]] = {**_VIEWS, **_AGES, **_NORMAL}
    for finding in findings:
        for meant, frames in _FRAMES.items():
            phrases[FindingStatement(finding, meant)] = tuple(
                frame.format(name=name) for name in _NAMES[finding] for frame in frames
            )
    bank = PhraseBank(phrases)
    bank.check()
    return bank
