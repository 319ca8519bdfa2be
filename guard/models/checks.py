"""What every wrapped model must satisfy: its scores are what its specification claims."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from medward.guard.accounts.names import first_alike, folded_name
from medward.guard.errors import MedwardError
from medward.guard.models.kinds import check_output_shape
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Outputs

_TOLERANCE = 1e-3  # how far a row of probabilities may sum from 1
AGREEMENT = 1e-5  # how far an exported model may be from the original, relative to scores above 1


def check_spec(spec: ModelSpec) -> None:
    """Refuse a specification that contradicts itself."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", spec.name):
        raise MedwardError(f"spec: a name is 1 to 64 letters, digits, '.', '_' and '-', got {spec.name!r}")
    axes = 3 if spec.modality == "image" else 1
    if len(spec.shape) != axes or min(spec.shape) < 1:
        wanted = "(C, H, W)" if axes == 3 else "(D,)"
        hint = "; add the channel axis: reshape to (n, 1, H, W)" if axes == 3 and len(spec.shape) == 2 else ""
        raise MedwardError(f"spec: the shape of {spec.modality} inputs is {wanted}, got {spec.shape}{hint}")
    fewest = 2 if isinstance(spec.task, Classification) else 0
    if len(spec.classes) < fewest or first_alike(spec.classes):
        raise MedwardError(
            f"spec: classes must be two or more names that a reader can tell apart, got {list(spec.classes)}"
        )
    if not all(np.isfinite(bound) for bound in (spec.low, spec.high) if bound is not None):
        raise MedwardError(f"spec: bounds must be finite or None, got low = {spec.low}, high = {spec.high}")
    if spec.low is not None and spec.high is not None and not spec.low < spec.high:
        raise MedwardError(f"spec: low must be below high, got low = {spec.low:g} and high = {spec.high:g}")


def check_names(name: str, said: Sequence[str], known: Sequence[str] | None) -> None:
    """Refuse class names that are the model's own in another order, which would swap every answer.

    Names are compared as a reader sees them: without case, spaces around and Unicode forms. Numbers may be given anew
    (classes 0, 1, 2 may be called grades 1, 2, 3), but not the same numbers in another order.
    """
    if known is None or len(said) != len(known):
        return
    own, new = [folded_name(str(each)) for each in known], [folded_name(str(each)) for each in said]
    moved = [said[i] for i, each in enumerate(new) if each in own and each != own[i]]
    if moved and (set(own) == set(new) or not all(str(each).strip().isdigit() for each in moved)):
        raise MedwardError(
            f"{name}: the model itself calls its classes {', '.join(map(str, known))}, in this order, and the names "
            f"given put {moved[0]!r} in another place; leave --classes out, or give new names in the model's own order"
        )


def check_scores(scores: object, spec: ModelSpec) -> None:
    """Refuse `scores` of a probe batch that are not what `spec` claims.

    Probabilities lie in [0, 1] and each row sums to 1 within `_TOLERANCE`. Logits for which every row does so
    too are refused: they are probabilities, and taking their softmax would flatten every answer.
    """
    if isinstance(spec.task, WrittenReport):  # whose texts were read when they were written
        return
    task = replace(spec.task, one_column=False) if isinstance(spec.task, Classification) else spec.task
    s = _read(scores, replace(spec, task=task))
    if not np.isfinite(s).all():
        raise MedwardError("scores: every value must be finite, got NaN or infinity on the sample")
    if not isinstance(spec.task, Classification) or spec.output == "probabilities" or spec.task.one_column:
        return
    if (s >= 0).all() and (np.abs(s.sum(axis=1) - 1) <= _TOLERANCE).all():
        raise MedwardError(
            "scores: the spec claims logits, but every row of the sample is non-negative and sums to 1; "
            'use output = "probabilities"'
        )


def checked_outputs(scores: object, features: Array | None, spec: ModelSpec) -> Outputs:
    """What `predict` returns: the shape, and for probabilities the sums, are checked each time."""
    s = _read(scores, spec)
    return Outputs(s, None if features is None else features.reshape(len(s), -1))


def check_agreement(original: Outputs, exported: Outputs, what: str) -> None:
    """Refuse an exported model whose scores or features differ from the original's on the sample."""
    pairs = [("scores", original.scores, exported.scores)]
    if original.features is not None and exported.features is not None:
        pairs.append(("features", original.features, exported.features))
    for name, a, b in pairs:
        bound = AGREEMENT * max(1.0, float(np.abs(a).max(initial=0.0)))
        difference = float(np.abs(a - b).max()) if a.shape == b.shape else np.inf
        if not difference <= bound:
            raise MedwardError(f"{what}: {name} differ from the model's own by {difference:.3g}, bound {bound:.3g}")


def check_decisions(original: Outputs, exported: Outputs, spec: ModelSpec, what: str) -> None:
    """Refuse an exported model that decides any row otherwise: equal probabilities of a forest round to either side.

    Opaque outputs decide nothing that could be compared but their numbers (`check_agreement`).
    """
    if isinstance(spec.task, Opaque):
        return
    differ = int((~spec.task.unchanged(original.scores, exported.scores)).sum())
    if differ:
        raise MedwardError(
            f"{what}: {differ} of {len(original.scores)} decisions differ from the model's own, where its scores tie "
            "but for rounding; break ties in the model (a little more for one class), or guard it as a function"
        )


def in_batches(forward: Callable[[Array], list[Array]], inputs: Array, size: int, *, pad: bool = False) -> list[Array]:
    """Apply `forward` to at most `size` rows at a time and join each of its arrays again.

    With `pad` every batch has exactly `size` rows: the last is filled by repeating its last row.
    """
    parts = []
    for start in range(0, len(inputs), size):
        batch = inputs[start : start + size]
        n = len(batch)
        if pad and n < size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - n, axis=0)])
        parts.append([array[:n] for array in forward(batch)])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _read(scores: object, spec: ModelSpec) -> Array:
    check_output_shape(spec.name, scores, spec.task)
    return spec.task.read(scores, spec.name)
