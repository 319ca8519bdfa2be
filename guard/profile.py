"""What calibration learned from benign data: fitted screens, how to fuse them, and what benign scores look like.

Part of the benign rows fit the screens, the rest are the reference that thresholds come from; no row does both, and
where patients are known, no patient, and the reference has one row of each: rows of one patient are not independent.
The fused score of an input is the soft maximum of its screens' scores, each centred on its benign median and scaled
so that every screen's benign 95th percentile lies at 1: strange to one screen is strange, and more so to several.
Inputs of classes that are rare in the reference are judged beside those of their class too (`guard.statistics.strata`).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.monitors.content_hash import CONTENT_PARTS as CONTENT_PARTS
from medward.guard.monitors.content_hash import ContentHash
from medward.guard.monitors.kernel_features import KERNEL_PARTS as EMBEDDING_PARTS
from medward.guard.monitors.kernel_features import KernelFeatures
from medward.guard.monitors.noise_residuals import RESIDUAL_PARTS as RESIDUAL_PARTS
from medward.guard.monitors.noise_residuals import NoiseResiduals
from medward.guard.release.quantise import PROTOTYPE_PARTS as CODE_PARTS
from medward.guard.release.quantise import Prototypes
from medward.guard.release.temperature import temper_scores
from medward.guard.screens.mahalanobis import MAHALANOBIS_PARTS, Mahalanobis
from medward.guard.spec import ModelSpec
from medward.guard.statistics.combined_eprocess import PROBING, SHARES, STRANGE
from medward.guard.statistics.conformal import Thresholds, rows_needed
from medward.guard.statistics.strata import STRATA_PARTS as STRATA_PARTS
from medward.guard.statistics.strata import Strata, decided_classes
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints, Outputs

FIT_SHARE = 0.4
FIT_ROWS = 500  # at most, about: more rows hardly improve the fits, each reference row narrows the tail one can bound
_FOLDS = 5
SHARPNESS = 1.0  # of the soft maximum
_DECIMALS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Screens with benign ``centers (S,)`` and ``scales (S,)``; ``reference (n,)`` benign fused scores, ascending.

    `thresholds` are calibration-conditional, for monitors that judge thousands of queries; `screen_cut` is the
    ordinary conformal threshold, for a decision on one input. `residuals` is what the shared-perturbation monitor
    compares with, `embedding` what those of distribution and coverage do, `margins` (with thresholds `probing`) that of
    boundary probing, `codebook` what the release level codes chooses from, `contents` by what near-duplicates are
    known (images only); each None where there is no such thing. `strata` are the rare classes,
    ``reference_strata (n,)`` and ``margin_strata (n,)`` those of the rows behind `reference` and `margins`.
    `risk` is the calibration risk of all monitors together, `rows` and `patients` (0 where unknown) what was given.
    """

    screens: tuple[Mahalanobis, ...]
    centers: Array
    scales: Array
    reference: Array
    thresholds: Thresholds
    residuals: NoiseResiduals | None = None
    codebook: Prototypes | None = None
    embedding: KernelFeatures | None = None
    margins: Array | None = None
    probing: Thresholds | None = None
    contents: ContentHash | None = None
    strata: Strata | None = None
    reference_strata: Ints | None = None
    margin_strata: Ints | None = None
    risk: float = 1.0
    rows: int = 0
    patients: int = 0

    @classmethod
    def fit(
        cls,
        model: Model,
        inputs: Array,
        *,
        risk: float,
        patients: Ints | None = None,
        seed: int = 0,
        secret: int | None = None,
        codes: int = 8,
        temperature: float = 1.0,
    ) -> Profile:
        """Learn from benign `inputs` that the model was not trained on; `patients (n,)` says whose they are.

        `secret` seeds the maps of the monitors; without it the system's randomness does, and only that is safe
        against an attacker who knows everything else. `codes` typical answers per class are learned, at `temperature`.
        Raises `MedwardError` when there are too few rows for any guarantee at `risk`.
        """
        check_enough(len(inputs), patients, risk)
        raw = forward_batches(model, inputs)
        outputs = model.spec.judged(raw)
        fit, reference = split_rows(np.arange(len(inputs)) if patients is None else patients, seed)
        names = embeddings_for(model.spec)
        secret = secrets.randbits(64) if secret is None else secret
        fitted = [cls._fit_screen(name, take_rows(inputs, outputs, fit)) for name in names]
        classes = decided_classes(outputs)[reference]
        margins = None if outputs.doubt is None else outputs.doubt[reference]
        strata = Strata.fit(classes, outputs.scores.shape[1])
        own = np.zeros(len(reference), np.int64) if strata is None else strata.members[classes]
        profile = cls(
            screens=tuple(screen for screen, _, _ in fitted),
            centers=np.array([center for _, center, _ in fitted]),
            scales=np.array([scale for _, _, scale in fitted]),
            reference=np.zeros(0),
            thresholds=Thresholds((), (), risk, 0),
            residuals=NoiseResiduals.fit(inputs[fit], inputs[reference], strata=own, seed=secret),
            embedding=KernelFeatures.fit(
                fitted[0][0],
                take_rows(inputs, outputs, fit),
                take_rows(inputs, outputs, reference),
                strata=own,
                seed=secret,
            ),
            margins=None if margins is None else np.sort(margins),
            strata=strata,
            margin_strata=None if margins is None else own[np.argsort(margins, kind="stable")],
            contents=ContentHash.fit(inputs[fit], seed=secret) if model.spec.modality == "image" else None,
            codebook=fit_codebook(model.spec.task, raw.scores[fit], codes, temperature),
            rows=len(inputs),
            patients=0 if patients is None else len(np.unique(patients)),
        )
        scores = profile.strangeness(*take_rows(inputs, outputs, reference))
        order = np.argsort(scores, kind="stable")
        return replace(profile, reference=scores[order], reference_strata=own[order]).at_risk(risk)

    @staticmethod
    def _fit_screen(name: str, rows: tuple[Array, Outputs]) -> tuple[Mahalanobis, float, float]:
        """A screen fitted to all of `rows`; its centre and scale from scores of rows left out of the fit."""
        folds = np.array_split(np.arange(len(rows[0])), _FOLDS)
        left_out = []
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(rows[0])), fold)
            left_out.append(Mahalanobis.fit(name, *take_rows(*rows, rest)).score(*take_rows(*rows, fold)))
        center, high = np.quantile(np.concatenate(left_out), [0.5, 0.95])
        return Mahalanobis.fit(name, *rows), float(center), max(float(high - center), 1e-6)

    def at_risk(self, risk: float) -> Profile:
        """The same profile with thresholds for another calibration risk."""
        probing = None
        if self.margins is not None:
            probing = self._thresholds(self.margins, self.margin_strata, risk * SHARES[PROBING])
        thresholds = self._thresholds(self.reference, self.reference_strata, risk * SHARES[STRANGE])
        return replace(self, thresholds=thresholds, probing=probing, risk=risk)

    def _thresholds(self, scores: Array, strata: Ints | None, risk: float) -> Thresholds:
        if self.strata is None or strata is None:
            return Thresholds.calibrate(scores, risk=risk)
        return Thresholds.stratified(scores, strata, self.strata.count, risk=risk)

    def score(self, inputs: Any, outputs: Any, xp: Any = np) -> Any:
        """Fused strangeness ``(n,)``; differentiable when `xp` is torch."""
        parts = [
            (screen.score(inputs, outputs, xp) - float(center)) / float(scale)
            for screen, center, scale in zip(self.screens, self.centers, self.scales, strict=True)
        ]
        scores = xp.stack(parts)
        top = xp.amax(scores, axis=0)
        return top + xp.log(xp.sum(xp.exp(SHARPNESS * (scores - top)), axis=0)) / SHARPNESS

    def strangeness(self, inputs: Array, outputs: Outputs) -> Array:
        """`score`, rounded, so that an input gets the same value alone and in a batch."""
        return np.round(np.asarray(self.score(inputs, outputs), np.float64), _DECIMALS)

    def screen_cut(self, rate: float) -> float:
        """What strangeness must exceed to be refused: P(refusing a benign input) <= rate, on average over draws.

        The k-th largest of n reference scores with k = floor(rate (n + 1)); infinite when that is 0. Vovk,
        Gammerman, Shafer 2005, prop. 2.3.
        """
        k = int(rate * (len(self.reference) + 1) + 1e-9)
        return float(self.reference[-k]) if k > 0 else float("inf")

    def to_arrays(self) -> dict[str, Any]:
        """Plain arrays for an npz; no objects."""
        arrays: dict[str, Any] = {
            "screens": np.array([screen.name for screen in self.screens]),
            "centers": self.centers,
            "scales": self.scales,
            "reference": self.reference,
            "risk": np.array(self.risk),
            "rows": np.array(self.rows),
            "patients": np.array(self.patients),
        }
        for screen in self.screens:
            arrays.update({f"{screen.name}.{key}": value for key, value in screen.arrays().items()})
        if self.residuals is not None:
            arrays.update({f"residuals.{key}": value for key, value in self.residuals.arrays().items()})
        if self.embedding is not None:
            arrays.update({f"embedding.{key}": value for key, value in self.embedding.arrays().items()})
        if self.strata is not None:
            arrays.update({f"strata.{key}": value for key, value in self.strata.arrays().items()})
        for part in ("margins", "reference_strata", "margin_strata"):
            if (value := getattr(self, part)) is not None:
                arrays[part] = value
        if self.contents is not None:
            arrays.update({f"contents.{key}": value for key, value in self.contents.arrays().items()})
        if self.codebook is not None:
            arrays.update({f"codebook.{key}": value for key, value in self.codebook.arrays().items()})
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Profile:
        """Read back what `to_arrays` gave; raises `MedwardError` naming what is missing."""
        try:
            screens = tuple(
                Mahalanobis.from_arrays(name, {part: arrays[f"{name}.{part}"] for part in MAHALANOBIS_PARTS})
                for name in map(str, arrays["screens"])
            )
            residuals = None
            if any(key.startswith("residuals.") for key in arrays):
                residuals = NoiseResiduals.from_arrays({part: arrays[f"residuals.{part}"] for part in RESIDUAL_PARTS})
            embedding = None
            if any(key.startswith("embedding.") for key in arrays):
                embedding = KernelFeatures.from_arrays({part: arrays[f"embedding.{part}"] for part in EMBEDDING_PARTS})
            contents = None
            if any(key.startswith("contents.") for key in arrays):
                contents = ContentHash.from_arrays({part: arrays[f"contents.{part}"] for part in CONTENT_PARTS})
            strata = None
            if any(key.startswith("strata.") for key in arrays):
                strata = Strata.from_arrays({part: arrays[f"strata.{part}"] for part in STRATA_PARTS})
            codebook = None
            if any(key.startswith("codebook.") for key in arrays):
                codebook = Prototypes.from_arrays({part: arrays[f"codebook.{part}"] for part in CODE_PARTS})
            return cls(
                screens=screens,
                centers=arrays["centers"],
                scales=arrays["scales"],
                reference=arrays["reference"],
                thresholds=Thresholds((), (), 1.0, 0),
                residuals=residuals,
                codebook=codebook,
                contents=contents,
                embedding=embedding,
                margins=arrays.get("margins"),
                strata=strata,
                reference_strata=arrays.get("reference_strata"),
                margin_strata=arrays.get("margin_strata"),
                rows=int(arrays["rows"]),
                patients=int(arrays["patients"]),
            ).at_risk(float(arrays["risk"]))
        except KeyError as error:
            raise MedwardError(f"profile: array {error} is missing; protect the model again") from None


def check_enough(rows: int, patients: Ints | None, risk: float) -> None:
    """Refuse so few benign `rows`, or `patients (n,)` where known, that they bound nothing at `risk`."""
    known = rows if patients is None else len(np.unique(patients))
    least = math.ceil(max(rows_needed(risk * min(SHARES.values())) / (1 - FIT_SHARE), 2 * _FOLDS / FIT_SHARE))
    if known < least:
        what = "benign rows" if patients is None else "patients"
        raise MedwardError(
            f"calibration: {known} {what} are too few for calibration_risk {risk:g}; give at least {least}, "
            "and far more to notice a thief soon"
        )


def split_rows(patients: Ints, seed: int) -> tuple[Ints, Ints]:
    """Rows to fit on and rows for the reference; a patient is on one side only, with one row in the reference."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(patients))
    known = rng.permutation(np.unique(patients))
    fitted = np.isin(patients[rows], known[: fitted_count(len(known), len(rows))])
    rest = rows[~fitted]
    return rows[fitted], rest[np.unique(patients[rest], return_index=True)[1]]


def fitted_count(known: int, rows: int) -> int:
    """How many of `known` patients, who have `rows` rows, are fitted on; the others are the reference."""
    return int(min(FIT_SHARE, FIT_ROWS / rows) * known)


def idle_screen(profile: Profile, rate: float) -> str:
    """Why no input is refused at `rate`, and how many calibration rows or patients would do; "" where some are."""
    if math.isfinite(profile.screen_cut(rate)):
        return ""
    known, what = (profile.patients, "patients") if profile.patients else (profile.rows, "rows")
    wanted = math.ceil((1 - 1e-9) / rate) - 1
    least, each = max(known, 1), max(profile.rows, 1) / max(known, 1)
    while least - fitted_count(least, round(least * each)) < wanted:
        least += 1
    return (
        f"the screen is idle: {known} calibration {what} leave {len(profile.reference)} for comparison, and refusing "
        f"a share of {rate:g} needs {wanted}; give at least {least} {what}"
    )


def embeddings_for(spec: ModelSpec) -> tuple[str, ...]:
    """Which embeddings suit a model: its features if it shows them, and its input space."""
    own = ("features",) if spec.features else ()
    return (*own, "layout", "texture") if spec.modality == "image" else (*own, "rows")


def forward_batches(model: Model, inputs: Array, batch: int = 256) -> Outputs:
    """The model's outputs for all `inputs`, in batches."""
    parts = [model.predict(inputs[i : i + batch]) for i in range(0, len(inputs), batch)]
    features = [part.features for part in parts if part.features is not None]
    return Outputs(np.concatenate([part.scores for part in parts]), np.concatenate(features) if features else None)


def take_rows(inputs: Array, outputs: Outputs, index: NDArray[np.integer]) -> tuple[Array, Outputs]:
    """The same rows of inputs and outputs."""
    parts = (None if part is None else part[index] for part in (outputs.features, outputs.doubt))
    return inputs[index], Outputs(outputs.scores[index], *parts)


def fit_codebook(task: Task, scores: Array, size: int, temperature: float) -> Prototypes | None:
    """Typical answers for the release level codes, where the task has that level."""
    if not isinstance(task, Classification):
        return None
    return Prototypes.fit(temper_scores(scores, task.output, temperature, task.threshold), size, task.threshold)
