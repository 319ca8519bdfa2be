"""Explains a batch of inputs in words: images by what undoes a mistake, tables column by column."""

from __future__ import annotations

import numpy as np

from medward.guard.commissioning.explain_columns import ColumnExplainer
from medward.guard.commissioning.explain_images import ImageExplainer
from medward.guard.commissioning.notes import CommissioningNote
from medward.guard.commissioning.ordinary import OrdinaryColumns, OrdinaryImages
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.profile import Profile, judged_batches
from medward.guard.types import Array


def explain_batch(model: Model, profile: Profile, inputs: Array) -> tuple[CommissioningNote, ...]:
    """Notes on a batch ``(n, *shape)`` of inputs: which mistake explains that they are strange, or what differs.

    None for ordinary batches: P(any note) <= `medward.guard.commissioning.notes.STRANGE_BATCH` for rows that are
    exchangeable with the calibration's. At least `FEWEST_COMPARED` are needed.
    """
    spec, ordinary = model.spec, profile.ordinary

    def strangeness_of(rows: Array) -> Array:
        checked = np.ascontiguousarray(rows, np.float32)
        return profile.strangeness(checked, judged_batches(model, checked)[0])

    if spec.modality == "image":
        if isinstance(ordinary, OrdinaryColumns):
            raise MedwardError("profile: what it knows of ordinary inputs is of tables; protect the model again")
        images = ImageExplainer(
            spec=spec, ordinary=ordinary, reference=profile.reference, strangeness_of=strangeness_of
        )
        return images.explain(inputs)
    if isinstance(ordinary, OrdinaryImages):
        raise MedwardError("profile: what it knows of ordinary inputs is of images; protect the model again")
    columns = ColumnExplainer(spec=spec, ordinary=ordinary, reference=profile.reference, strangeness_of=strangeness_of)
    return columns.explain(inputs)
