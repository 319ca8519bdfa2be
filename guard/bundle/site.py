"""From benign rows to a profile: the bundle's own when a model is protected, and a site's own, later.

A site is an organisation, the first level of a principal: all accounts below it are judged against one calibration, its
own or else the bundle's, for the evidence of a path must be of one kind. The bounds are then relative to that site's
ordinary inputs, which another site's scanners and patients need not resemble.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from medward.guard.accounts.names import checked_principal
from medward.guard.bundle import folder as bundle
from medward.guard.bundle.add_site import add_site
from medward.guard.bundle.power import measure_power
from medward.guard.data.objects import as_splits, benign_split
from medward.guard.data.overlap import distinct_rows, repeats_by_nature
from medward.guard.data.pixels import fitting_layout
from medward.guard.data.reading import Reading, spec_reading
from medward.guard.data.resized import resized_inputs
from medward.guard.data.split import (
    Split,
    check_split,
    conformed_split,
    log,
    numbered_split,
    split_digest,
    tell_understanding,
)
from medward.guard.data.task_quality import AnyQuality, task_quality
from medward.guard.errors import MedwardError
from medward.guard.models.base import Model
from medward.guard.monitors.table import plugin_monitors
from medward.guard.policy import Policy
from medward.guard.profile import Profile, check_enough, forward_batches
from medward.guard.screens.embeddings import THUMBNAIL_GRID
from medward.guard.screens.mahalanobis import plugin_screens

FEWEST_CELLS = 3  # of a thumbnail: once brightness and contrast are taken away, fewer tell nothing apart


def learn_profile(model: Model, benign: Split, policy: Policy, *, seed: int = 0) -> tuple[Profile, dict[str, int]]:
    """A profile of `benign`, whose inputs `model` takes as they are, and how many rows it had and used.

    Of copies one is used, and that is said, for the bounds need independent rows; rows of a few answers that repeat by
    nature (`guard.data.overlap`) are none. Raises `MedwardError` for too few rows, and where half of them are copies.
    """
    inputs, shape = benign.inputs, model.spec.shape
    if (
        model.spec.modality == "image"
        and shape[0] * min(shape[1], THUMBNAIL_GRID) * min(shape[2], THUMBNAIL_GRID) < FEWEST_CELLS
    ):
        raise MedwardError(
            f"calibration: images of shape {shape} are too small to have a layout; "
            f"give their values as rows of a table, of shape ({math.prod(shape)},)"
        )
    first, counts = distinct_rows(inputs, benign.patients)
    distinct, given = len(first), len(inputs)
    if distinct < counts.sum() and not repeats_by_nature(inputs[first], counts):
        if 2 * distinct <= counts.sum():
            raise MedwardError(
                f"calibration: only {distinct} of {given} rows are distinct; the bounds need independent rows, "
                "so leave out copies and augmented rows"
            )
        log.warning(
            "calibration: %d of %d rows are copies of others and are left out; the bounds need independent rows",
            given - distinct,
            given,
        )
        benign = benign.take(np.sort(first))
        inputs = benign.inputs
    for group, plugins in {"monitor": plugin_monitors(), "screen": plugin_screens()}.items():
        for plugin in plugins:
            log.info("plug-in: the %s %r of %s takes part", group, plugin.name, plugin.source)
    profile = Profile.fit(
        model,
        inputs,
        risk=policy.monitor.calibration_risk,
        patients=benign.patients,
        seed=seed,
        codes=policy.release.codes,
        temperature=policy.release.temperature,
        pooled=policy.release.pooled,
    )
    return profile, {"benign": given, "distinct": distinct, "reference": len(profile.reference)}


def quality_on(model: Model, rows: Split) -> AnyQuality | None:
    """How well `model` does on labelled `rows`, None without labels.

    Raises `MedwardError` when the class names look exchanged.
    """
    if rows.labels is None:
        return None
    return task_quality(model.spec, forward_batches(model, rows.inputs).scores, rows.labels, rows.patients)


def bundle_reading(loaded: bundle.Bundle, said: Reading) -> Reading:
    """How data for the model of a bundle are read: as its calibration rows were, but for what is `said` anew."""
    card = loaded.card
    recalled = [(card.target, said.target), (card.patient, said.patient)]
    named = replace(
        said,
        target=said.target or card.target,
        patient=said.patient or card.patient,
        recalled=tuple(known for known, own in recalled if known is not None and own is None),
    )
    return spec_reading(card.spec, named)


def calibrate_site(
    path: Path,
    benign: object,
    site: str,
    *,
    split: str | None = None,
    target: str | None = None,
    patient: str | None = None,
    labels: Path | None = None,
    seed: int = 0,
    allow_code: bool = False,
    expect: str | None = None,
) -> bundle.Bundle:
    """Give `site` a calibration of its own in the bundle at `path`, or replace the one it has; the new bundle.

    `benign` are ordinary cases of that site, as for `guard.bundle.make`. What answers look like, what they cost a
    budget, and which images are near-duplicates stay the same for all sites. Labels, where known, say how well the
    model does there. `benign`, `split`, `target` and `patient` are those of `guard.bundle.make`; what the bundle knows
    of a table need not be said again. `allow_code` and `expect` are those of `guard.bundle.folder.load`.
    """
    checked_principal((site,))
    loaded = bundle.load_bundle(path, allow_code=allow_code, expect=expect)
    spec = loaded.model.spec
    splits = as_splits(benign, bundle_reading(loaded, Reading(target=target, patient=patient, labels=labels)))
    given = benign_split(splits, split, benign if isinstance(benign, str | Path) else "data")
    raw = check_split(numbered_split(given, spec))
    raw = replace(raw, inputs=resized_inputs(raw.inputs, spec.prepare, spec.layout))
    rows = conformed_split(raw, spec)
    check_enough(len(rows), rows.patients, loaded.policy.monitor.calibration_risk)
    layout = fitting_layout(raw.inputs, spec) if spec.modality == "image" else None
    found = quality_on(loaded.model, rows)
    tell_understanding({site: rows}, spec.task, low=spec.low, high=spec.high, layout=layout, quality=found)
    profile, sizes = learn_profile(loaded.model, rows, loaded.policy, seed=seed)
    own = replace(profile, codebook=None, pools=None, contents=None)
    power = measure_power(loaded.model, own, loaded.policy, rows.inputs, seed=seed)
    return add_site(loaded, site, own, data_digest=split_digest(raw), sizes=sizes, power=power)
