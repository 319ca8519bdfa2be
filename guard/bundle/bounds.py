"""Bounds of a bundle's model: built from its own file when it is protected, kept beside it, opened when it is served.

The card says how large a share of the calibration rows they certify. A model that cannot be bounded is refused by the
name of what stands against it, and one of which nothing is certified with what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from medward.guard.answering import RADIUS_UNITS
from medward.guard.bundle.card import BOUNDS_FILES, Card, CertifiedShareOfRows
from medward.guard.certify.bounds import Bounds
from medward.guard.certify.certifier import Certifier, KeptBounds, still_places
from medward.guard.certify.model_mark import ARCHIVE, mark_of, marked
from medward.guard.certify.sklearn_trees import EstimatorModel
from medward.guard.columns import encoded_names, feature_places
from medward.guard.data.split import log
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.models.base import WrappedModel, first_line
from medward.guard.policy import Policy
from medward.guard.profile import forward_batches
from medward.guard.spec import ModelSpec
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array

NETWORK_BOUNDS, TREE_BOUNDS = BOUNDS_FILES


ALIKE_BY_CHANCE = 30
"""Calibration rows that may be decided alike by chance."""


def build_bounds(model: WrappedModel, rows: Array, policy: Policy) -> tuple[KeptBounds, CertifiedShareOfRows] | None:
    """The bounds of `model` as a bundle has it, and what they certify of calibration `rows`; None if nobody asks.

    Raises `MedwardError` for a model that cannot be bounded, where no row is certified at the policy's radius, and
    where all rows are decided alike.
    """
    if not policy.certify.enabled:
        return None
    spec = model.spec
    table = spec.modality == "tabular"
    spread = column_deviations(rows) if table else np.zeros(0)
    kept = KeptBounds(bounds=model_bounds(model), deviations=tuple(spread.tolist()))
    certifier = cast(Certifier, Certifier.of(kept, policy, spec))
    scores = forward_batches(model, rows).scores
    held = certifier.certify(rows, scores).holds
    found = CertifiedShareOfRows(
        radius=certifier.asked,
        certified=int(held.sum()),
        rows=len(rows),
        deviations=kept.deviations,
        constant=constant_columns(spec, kept.deviations, policy),
    )
    said = f"{found.certified} of {found.rows} calibration rows ({held.mean():.1%})"
    within = f"{found.radius:g} {RADIUS_UNITS[spec.modality]}"
    if not held.any():
        raise MedwardError(
            f"certify: {said} are certified at {within}; harden the model with medward harden --method certified, "
            "lower certify.radius, or set certify.enabled = false"
        )
    _check_more_than_one(spec, scores, said)
    log.info("certify: %s are certified at %s", said, within)
    if found.constant:
        log.warning(
            "certify: no change of %s is covered, for calibration rows have one value of it; give other rows, or its "
            "error under threat.measurement_error",
            ", ".join(found.constant),
        )
    return kept, found


def _check_more_than_one(spec: ModelSpec, scores: Array, said: str) -> None:
    """Refuse a model that decides all rows alike: nothing can change what is always said, and nobody is told anything.

    Fewer rows than `ALIKE_BY_CHANCE` may be alike by chance. Raises `MedwardError`.
    """
    decided = spec.decide(scores)
    if isinstance(spec.task, Regression) or len(decided) < ALIKE_BY_CHANCE or (decided != decided[0]).any():
        return
    raise MedwardError(
        f'certify: {said} are certified, and all are decided as "{spec.task.word(int(decided[0]))}": a model with one '
        "answer is certified everywhere. Check its training, the range of its inputs (--low, --high) and the order of "
        "its classes; if these rows are all of one kind, give others, or set certify.enabled = false"
    )


def column_deviations(rows: Array) -> Array:
    """The standard deviation ``(D,)`` of each column, exactly 0 where all `rows (n, D)` have one value."""
    values = np.asarray(rows, np.float64)
    return np.asarray(np.where((values == values[:1]).all(axis=0), 0.0, values.std(axis=0)))


def constant_columns(spec: ModelSpec, deviations: Sequence[float], policy: Policy) -> tuple[str, ...]:
    """The columns that certificates take to stay as they are only because calibration rows have one value of them.

    Not those that stay anyway (`still_places`), nor those whose error of measurement `policy` knows.
    """
    known = feature_places(spec.columns, "threat.measurement_error", list(policy.threat.spreads()))
    still = {*still_places(spec.columns), *known}
    names = encoded_names(spec.columns) or tuple(f"column {place}" for place in range(len(deviations)))
    return tuple(names[place] for place, spread in enumerate(deviations) if spread == 0 and place not in still)


def model_bounds(model: WrappedModel) -> Bounds:
    """The bounds of the file that a bundle keeps of `model`."""
    with TemporaryDirectory() as folder:
        exported = model.export(Path(folder))
        data = (Path(folder) / exported.file).read_bytes()
    if exported.file == "model.onnx":
        return Bounds.of(data, model.spec, exported.options)
    if hasattr(model, "estimator"):
        return Bounds.of_estimator(cast(EstimatorModel, model))
    raise MedwardError(
        f"{model.spec.name}: is a Python function, of which nothing can be proven; export it to ONNX, or set "
        "certify.enabled = false"
    )


def uncounted_radius(card: Card, policy: Policy) -> str:
    """That nobody counted what is certified at the radius of `policy`, or in its units, in a sentence.

    Empty where the card says it.
    """
    if not policy.certify.enabled or card.certified is None:
        return ""
    asked, counted = policy.certify.certified_at(card.spec.modality, policy.threat), card.certified
    if asked == counted.radius and policy.threat.measurement_error:
        return (
            "threat.measurement_error: certificates count in the errors of "
            f"{', '.join(policy.threat.measurement_error)}; if they are other ones than when the model was protected, "
            "nobody has counted how many answers they certify; medward validate says it"
        )
    if asked == counted.radius:
        return ""
    return (
        f"certify.radius: answers are certified at {asked:g} {RADIUS_UNITS[card.spec.modality]} from now on, and how "
        f"many of them was counted at {counted.radius:g} only ({counted.certified} of {counted.rows} calibration "
        "rows); medward validate says it, and fails where they are too few"
    )


def bounds_file(kept: KeptBounds) -> str:
    """What the file of such bounds is called."""
    return TREE_BOUNDS if kept.bounds.data.startswith(ARCHIVE) else NETWORK_BOUNDS


def bounds_data(kept: KeptBounds, digest: str) -> bytes:
    """What that file holds: the bounds, and the SHA-256 `digest` of the model file that they are of."""
    return marked(kept.bounds.data, digest)


def are_made_anew(kept: KeptBounds, model: WrappedModel) -> bool:
    """Whether the bounds that this version builds of `model` are those that a bundle has `kept`, byte for byte.

    Whatever was done to the kept ones then bears on nothing. Needs the library that wrote them.
    """
    data = kept.bounds.data
    try:
        anew, mark = model_bounds(model).data, mark_of(data)
    except Exception:  # of whatever exports the model: then nobody knows
        return False
    return (marked(anew, mark) if mark else anew) == data


def open_bounds(card: Card, parts: Mapping[str, bytes], policy: Policy) -> KeptBounds | None:
    """The bounds among the verified `parts` of a bundle, None without; needs onnxruntime alone.

    Raises `MedwardError` where they cannot be read or are marked as those of another model file, and where `policy`
    asks for some and there are none.
    """
    name = next((each for each in BOUNDS_FILES if each in card.files), None)
    if name is None or card.certified is None:
        kept = None
    else:
        kept = KeptBounds(bounds=_opened(name, parts[name], card), deviations=card.certified.deviations)
    Certifier.of(kept, policy, card.spec)  # refuses what it cannot certify
    return kept


def _opened(name: str, data: bytes, card: Card) -> Bounds:
    try:
        if mark_of(data) != card.files[card.model]:
            raise IntegrityError(f"{name}: holds bounds of another model than {card.model}; protect the model again")
        return Bounds.load(data, card.spec)
    except MedwardError:
        raise
    except Exception as error:  # of any library that reads the file
        raise MedwardError(f"{name}: cannot be read: {first_line(error)}") from error
