"""What calibration learned from benign data: what every monitor fitted, and what an answer's coarse levels need.

Part of the benign rows fit the screens and the monitors, the rest are the reference that thresholds come from; no row
does both, and where patients are known, no patient, and the reference has one row of each: rows of one patient are not
independent. Inputs of classes that are rare in the reference are judged beside those of their class too
(`guard.statistics.strata`).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from medward.guard.commissioning.ordinary import OrdinaryInputs, fit_ordinary, read_ordinary
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model, is_report_model, unwritten_outputs
from medward.guard.monitors.base import SCREEN, BenignRows, Fitted, Monitor
from medward.guard.monitors.content_hash import ContentHash
from medward.guard.monitors.strangeness import ScreenReference
from medward.guard.monitors.table import calibration_shares, fitting_monitors, plugin_monitors
from medward.guard.release.pooling import ConfidencePools
from medward.guard.release.quantise import Prototypes
from medward.guard.screens.fused import FOLDS, FusedScreen
from medward.guard.screens.joint import JOINT
from medward.guard.screens.mahalanobis import plugin_screens
from medward.guard.screens.markings import can_be_marked, marked_images
from medward.guard.spec import ModelSpec
from medward.guard.statistics.conformal import rows_needed
from medward.guard.statistics.strata import Strata, decided_classes
from medward.guard.tasks.base import ReleaseSettings, Task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.types import Array, Ints, Outputs, take_rows

FIT_SHARE = 0.4
FIT_ROWS = 500  # at most, about: more rows hardly improve the fits, each reference row narrows the tail one can bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile holds what was fitted to benign rows: for monitors by their `source`, `SCREEN` among them.

    `codebook` is what the release level codes chooses from, `pools` what the surest confidences leave as, `contents` by
    what near-duplicates are known (images only), `strata` are the rare classes; each None where there is no such thing.
    `ordinary` is what commissioning compares inputs with, None in profiles of older releases.
    `risk` is the calibration risk of all monitors together, `rows` and `patients` (0 where unknown) what was given.
    `plugins` are the monitors of other packages that took part.
    """

    fitted: Mapping[str, Fitted]
    codebook: Prototypes | None = None
    pools: ConfidencePools | None = None
    contents: ContentHash | None = None
    ordinary: OrdinaryInputs | None = None
    strata: Strata | None = None
    risk: float = 1.0
    rows: int = 0
    patients: int = 0
    plugins: tuple[str, ...] = ()

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
        pooled: float = 0.0,
    ) -> Profile:
        """Learn from benign `inputs` that the model was not trained on; `patients (n,)` says whose they are.

        `secret` seeds the maps of the monitors; without it the system's randomness does, and only that is safe
        against an attacker who knows everything else. `codes` typical answers per class are learned, at `temperature`,
        and pools of the surest share `pooled` of confidences.
        Raises `MedwardError` when there are too few rows for any guarantee at `risk`.
        """
        check_enough(len(inputs), patients, risk)
        plugins = tuple(each.name for each in plugin_monitors())
        outputs, raw = judged_batches(model, inputs)
        fit, reference = split_rows(np.arange(len(inputs)) if patients is None else patients, seed)
        secret = secrets.randbits(64) if secret is None else secret
        classes = decided_classes(outputs)[reference]
        strata = Strata.fit(classes, outputs.scores.shape[1])
        marked = marked_rows(model, inputs[fit], secret)
        benign = BenignRows(
            fit=take_rows(inputs, outputs, fit),
            reference=take_rows(inputs, outputs, reference),
            strata=np.zeros(len(reference), np.int64) if strata is None else strata.members[classes],
            screen=FusedScreen.fit(
                screens_for(model.spec), *take_rows(inputs, outputs, fit), seed=secret, marked=marked
            ),
            seed=secret,
            marked=marked,
        )
        pools = fit_pools(model.spec.task, raw, fit, pooled, temperature)
        found = {monitor.source: monitor.fit(benign) for monitor in fitting_monitors(plugins)}
        return cls(
            fitted={source: each for source, each in found.items() if each is not None},
            strata=strata,
            contents=ContentHash.fit(inputs[fit], seed=secret) if model.spec.modality == "image" else None,
            ordinary=fit_ordinary(model.spec, inputs[fit], inputs[reference]),
            codebook=fit_codebook(model.spec.task, raw, fit, codes, temperature, pools),
            pools=pools,
            rows=len(inputs),
            patients=0 if patients is None else len(np.unique(patients)),
            plugins=plugins,
        ).at_risk(risk)

    def at_risk(self, risk: float) -> Profile:
        """The same profile with thresholds for another calibration risk."""
        strata, shares = 1 if self.strata is None else self.strata.count, calibration_shares(self.plugins)
        fitted = {}
        for monitor in fitting_monitors(self.plugins):
            if (each := self.fitted.get(monitor.source)) is not None:
                fitted[monitor.source] = each.at_risk(risk * shares[monitor.name], strata)
        return replace(self, fitted=fitted, risk=risk)

    @property
    def screening(self) -> ScreenReference:
        """The screens of single inputs, and the benign rows beside which they judge."""
        found = self.fitted[SCREEN]
        if not isinstance(found, ScreenReference):
            raise MedwardError(f"profile: holds a {type(found).__name__} as the screens; protect the model again")
        return found

    @property
    def reference(self) -> Array:
        """The strangeness ``(n,)`` of benign rows, ascending."""
        return self.screening.scores

    def score(self, inputs: Any, outputs: Any, xp: Any = np) -> Any:
        """Fused strangeness ``(n,)``; differentiable when `xp` is torch."""
        return self.screening.screen.score(inputs, outputs, xp)

    def strangeness(self, inputs: Array, outputs: Outputs) -> Array:
        """`score`, rounded: nearly always the same alone and in a batch."""
        return self.screening.see(inputs, outputs)

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
            "risk": np.array(self.risk),
            "rows": np.array(self.rows),
            "patients": np.array(self.patients),
        }
        if self.plugins:
            arrays["plugins"] = np.array(self.plugins)
        for monitor in fitting_monitors(self.plugins):
            if (fitted := self.fitted.get(monitor.source)) is not None:
                arrays.update(_prefixed(monitor.prefix, fitted.arrays()))
        if self.strata is not None:
            arrays.update(_prefixed("strata.", self.strata.arrays()))
        if self.contents is not None:
            arrays.update(_prefixed("contents.", self.contents.arrays()))
        if self.ordinary is not None:
            arrays.update(_prefixed("ordinary.", self.ordinary.arrays()))
        if self.codebook is not None:
            arrays.update(_prefixed("codebook.", self.codebook.arrays()))
        if self.pools is not None:
            arrays.update(_prefixed("pools.", self.pools.arrays()))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Profile:
        """Read back what `to_arrays` gave; raises `MedwardError` naming what is missing."""
        plugins = tuple(map(str, arrays.get("plugins", ())))
        found = {monitor.source: _read(monitor, arrays) for monitor in fitting_monitors(plugins)}
        parts = ("strata.", "contents.", "ordinary.", "codebook.", "pools.")
        strata, contents, ordinary, codebook, pools = (_under(prefix, arrays) for prefix in parts)
        try:
            return cls(
                fitted={source: each for source, each in found.items() if each is not None},
                strata=Strata.from_arrays(strata) if strata else None,
                contents=ContentHash.from_arrays(contents) if contents else None,
                ordinary=read_ordinary(ordinary),
                codebook=Prototypes.from_arrays(codebook) if codebook else None,
                pools=ConfidencePools.from_arrays(pools) if pools else None,
                rows=int(arrays["rows"]),
                patients=int(arrays["patients"]),
                plugins=plugins,
            ).at_risk(float(arrays["risk"]))
        except KeyError as error:
            raise _missing("", error) from None


def _read(monitor: Monitor, arrays: Mapping[str, Any]) -> Fitted | None:
    try:
        return monitor.read(_under(monitor.prefix, arrays))
    except KeyError as error:
        raise _missing(monitor.prefix, error) from None


def _under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays whose names begin with `prefix`, by what follows it."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _prefixed(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in arrays.items()}


def _missing(prefix: str, error: KeyError) -> MedwardError:
    return MedwardError(f"profile: array '{prefix}{error.args[0]}' is missing; protect the model again")


def check_enough(rows: int, patients: Ints | None, risk: float) -> None:
    """Refuse so few benign `rows`, or `patients (n,)` where known, that they bound nothing at `risk`."""
    known = rows if patients is None else len(np.unique(patients))
    smallest = risk * min(calibration_shares([each.name for each in plugin_monitors()]).values())
    least = math.ceil(max(rows_needed(smallest) / (1 - FIT_SHARE), 2 * FOLDS / FIT_SHARE))
    if known < least:
        what = "benign rows" if patients is None else "patients"
        raise MedwardError(
            f"calibration: {known} {what} are too few for calibration_risk {risk:g}; give at least {least}, "
            "and far more to notice a thief soon"
        )


def marked_rows(model: Model, images: Array, seed: int) -> tuple[Array, Outputs] | None:
    """Copies of `images` as hospitals mark them, and what `model` shows of these; None for what can't be marked."""
    if model.spec.modality != "image" or not can_be_marked(images):
        return None
    low, high = model.spec.low, model.spec.high
    bounds = images.min() if low is None else low, images.max() if high is None else high
    marked = marked_images(images, float(bounds[0]), float(bounds[1]), np.random.default_rng(seed))
    return marked, judged_batches(model, marked)[0]


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


def counted_in(profile: Profile) -> tuple[int, str]:
    """How many calibration rows a profile was given, or patients where these are known, and which of the two."""
    return (profile.patients, "patients") if profile.patients else (profile.rows, "rows")


def calibration_size(profile: Profile, reference: int) -> int:
    """How many calibration rows, counted as `counted_in` does, leave at least so many `reference` rows.

    No fewer than there are; each has as many rows as on average now.
    """
    least = max(counted_in(profile)[0], 1)
    each = max(profile.rows, 1) / least
    while least - fitted_count(least, round(least * each)) < reference:
        least += 1
    return least


def idle_screen(profile: Profile, rate: float) -> str:
    """Why no input is refused at `rate`, and how many calibration rows or patients would do; "" where some are."""
    if math.isfinite(profile.screen_cut(rate)):
        return ""
    known, what = counted_in(profile)
    wanted = math.ceil((1 - 1e-9) / rate) - 1
    return (
        f"the screen is idle: {known} calibration {what} leave {len(profile.reference)} for comparison, and refusing "
        f"a share of {rate:g} needs {wanted}; give at least {calibration_size(profile, wanted)} {what}"
    )


def idle_screens(profile: Profile, sites: Mapping[str, Profile], rate: float) -> tuple[str, ...]:
    """Where no input is refused at `rate`, a sentence each, in the profile and in those of `sites`."""
    own = idle_screen(profile, rate)
    instead = "" if own else "; until then the bundle's own screen judges its inputs"
    idle = {site: idle_screen(each, rate) for site, each in sites.items()}
    return (*filter(None, [own]), *(f"site {site!r}: {said}{instead}" for site, said in idle.items() if said))


def screens_for(spec: ModelSpec) -> tuple[str, ...]:
    """Which screens suit a model: of its features if it shows them, and of its input space."""
    own = ("features",) if spec.features else ()
    added = (each.name for each in plugin_screens() if each.value.modality == spec.modality)
    return (*own, "layout", "texture", *added) if spec.modality == "image" else (*own, "rows", JOINT, *added)


def forward_batches(model: Model, inputs: Array, batch: int = 256) -> Outputs:
    """The model's outputs for all `inputs`, in batches."""
    return _joined([model.predict(inputs[i : i + batch]) for i in range(0, len(inputs), batch)])


def judged_batches(model: Model, inputs: Array, batch: int = 256) -> tuple[Outputs, Array | None]:
    """What defenses judge of all `inputs`, in batches, and a classifier's or finder's own scores."""
    parts, scores = [], []
    for start in range(0, len(inputs), batch):
        rows = inputs[start : start + batch]
        if is_report_model(model):  # nothing needs to be written to be judged
            outputs = unwritten_outputs(model.spec, model.prefill(rows))
        else:
            outputs = model.predict(rows)
        parts.append(model.spec.judged(outputs))
        if isinstance(model.spec.task, Classification | Multilabel):
            scores.append(outputs.scores)
    return _joined(parts), np.concatenate(scores) if scores else None


def _joined(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of batches, one after the other."""
    columns = zip(*((part.scores, part.features, part.doubt) for part in parts), strict=True)
    scores, features, doubt = (None if column[0] is None else np.concatenate(column) for column in columns)
    assert scores is not None
    return Outputs(scores, features, doubt, tuple(chain.from_iterable(part.texts for part in parts)))


def fit_codebook(
    task: Task,
    scores: Array | None,
    rows: Ints,
    size: int,
    temperature: float,
    pools: ConfidencePools | None = None,
) -> Prototypes | None:
    """Typical answers for the release level codes, of `rows` of all `scores (n, K)`, where the task has that level."""
    if not isinstance(task, Classification) or scores is None:
        return None
    likely = task.likely(scores[rows], ReleaseSettings(temperature=temperature, pools=pools))
    return Prototypes.fit(likely, size, task.threshold)


def fit_pools(task: Task, scores: Array | None, rows: Ints, share: float, temperature: float) -> ConfidencePools | None:
    """Pools of the surest `share` of `rows` of all `scores (n, K)`, where the task has probabilities; None for 0."""
    if not share or scores is None or not isinstance(task, Classification | Multilabel):
        return None
    return task.fit_pools(scores[rows], share, temperature)
