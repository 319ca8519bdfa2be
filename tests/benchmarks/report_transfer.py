"""Why noise made on a thief's own report model helps a theft or does not: whom it moves, and what a clone learns of it.

Photographs are moved towards enriched reports on three models: the thief's, trained on answers about photographs; one
trained on answers about radiographs; and the victim itself, which no thief holds. Noise that works on the model it was
made on and not on the victim does not transfer. A clone of images that were moved on the victim itself is what a thief
would have if all of it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from claim import Claim
from report_scenes import ReportScene

from medward.attacks.extraction.reports import AdaSteal, TextStudent
from medward.attacks.extraction.reports.clone import found_in
from medward.attacks.extraction.reports.teaching import teach_texts
from medward.attacks.extraction.reports.text_alignment import align_images
from medward.attacks.whitebox.ball import Ball
from medward.guard.models.huggingface_report import HuggingFaceReportModel
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array

RADII = (4, 8, 16, 32)  # grey levels of 255
FEWEST_SEEDS = 3


def transfer(scene: ReportScene, settings: AdaSteal, *, queries: int, epochs: int, seed: int) -> dict[str, Any]:
    """Of images with an aim the share whose report says just the aimed findings, the model's or the victim's.

    Half of the `queries` are photographs as they are, the other half are moved. `agreement` is the share of a model's
    own lessons, and of images it never saw, about which it finds what the victim does; the commonest answer beside it.
    """
    spec, pool, half = scene.spec, scene.data.pool, queries // 2
    assert pool is not None
    task = spec.task
    assert isinstance(task, WrittenReport)
    assert isinstance(scene.model, HuggingFaceReportModel)
    victim = TextStudent(writer=scene.model.writer, mean=0.0, spread=1.0, longest=task.length, prompt=task.prompt)

    def learned(images: Array, texts: list[str]) -> TextStudent:
        begun = settings.student.begin(spec, images, texts, seed=seed)
        return teach_texts(begun, images, texts, found_in(texts, task), epochs=epochs, seed=seed)

    def agreed(reader: TextStudent, images: Array, texts: list[str]) -> float:
        return float(np.mean((scene.read(reader.write(images)) == scene.read(texts)).all(axis=1)))

    known, fresh, own = pool[:half], pool[half:queries], scene.data.craft.inputs[:queries]
    texts, before = victim.write(known), victim.write(fresh)
    aims = settings.oracle.enrich(before, texts, task, seed=seed)
    aimed = np.array([new != old for new, old in zip(aims, before, strict=True)])
    chosen = [text for text, wanted_ in zip(aims, aimed, strict=True) if wanted_]
    wanted = scene.read(chosen)
    told = victim.write(own)
    models = {"thief": learned(known, texts), "in-domain": learned(own, told), "victim": victim}

    def unseen(reader: TextStudent, images: Array, texts: list[str]) -> dict[str, float]:
        _, counts = np.unique(scene.read(texts), axis=0, return_counts=True)
        return {"unseen": agreed(reader, images, texts), "commonest": float(counts.max() / len(texts))}

    def hits(reader: TextStudent, images: Array) -> float:
        return float(np.mean((scene.read(reader.write(images[aimed])) == wanted).all(axis=1)))

    def moved_on(model: TextStudent, epsilon: float) -> Array:
        moved = fresh.copy()
        ball = Ball.of(spec, pool, epsilon)
        moved[aimed] = align_images(model, fresh[aimed], chosen, ball, steps=settings.steps)
        return moved

    found: dict[str, Any] = {name: {} for name in (*models, "noise")}
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], fresh.shape)
    for grey in RADII:
        for name in models if grey / 255 == settings.epsilon else ("thief",):
            moved = moved_on(models[name], grey / 255)
            found[name][str(grey)] = {"own": hits(models[name], moved), "victim": hits(victim, moved)}
        noisy = np.clip(fresh + grey / 255 * signs, 0, 1).astype(np.float32)
        found["noise"][str(grey)] = {"victim": hits(victim, noisy)}
    perfect = moved_on(victim, settings.epsilon)
    lessons = np.concatenate([known, perfect]), texts + victim.write(perfect)
    clone = learned(*lessons)
    clones = {"moved on the victim": clone, "radiographs": models["in-domain"]}
    test = scene.data.test.inputs
    new = victim.write(test)
    return {
        "hits": found,
        "agreement": {
            "thief": {"lessons": agreed(models["thief"], known, texts), **unseen(models["thief"], fresh, before)},
            "in-domain": {"lessons": agreed(models["in-domain"], own, told), **unseen(models["in-domain"], test, new)},
            "moved on the victim": {"lessons": agreed(clone, *lessons), **unseen(clone, test, new)},
        },
        "clone_f1": {name: scene.f1(each.write(test)) for name, each in clones.items()},
        "constant": scene.constant_f1,
        "victim": scene.victim_f1,
        "aims": int(aimed.sum()),
    }


def transfer_claim(claim: str, found: Sequence[Mapping[str, Any]]) -> Claim:
    """Whether images moved at 16/255 yield the aimed findings more often than images with as large a random noise."""
    differences = _more_than_noise(found, "16")
    return Claim(
        claim=claim,
        value=fmean(differences),
        interval=(min(differences), max(differences)),
        target="images moved on the thief's model have the victim write the aimed findings more often than random "
        f"noise, in each of >= {FEWEST_SEEDS} seeds",
        met=min(differences) > 0 and len(differences) >= FEWEST_SEEDS,
        n=int(sum(each["aims"] for each in found)),
        details={"interval_is": "least and largest over seeds", "cells": list(found)},
    )


def radius_claim(claim: str, found: Sequence[Mapping[str, Any]], closed: Mapping[str, Sequence[float]]) -> Claim:
    """The same at the radius where it is most; `closed` is the gap that ADA-STEAL closes, by radius."""
    hits = {str(grey): _more_than_noise(found, str(grey)) for grey in RADII}
    best = max(hits, key=lambda grey: fmean(hits[grey]))
    return Claim(
        claim=claim,
        value=fmean(hits[best]),
        interval=(min(hits[best]), max(hits[best])),
        target=f"at the best radius more hits than random noise has, in each of >= {FEWEST_SEEDS} seeds",
        met=min(hits[best]) > 0 and len(found) >= FEWEST_SEEDS,
        n=int(sum(each["aims"] for each in found)),
        details={
            "interval_is": "least and largest over seeds",
            "best_radius": best,
            "more_hits_than_noise": hits,
            "gap_closed": {grey: list(each) for grey, each in closed.items()},
        },
    )


def _more_than_noise(found: Sequence[Mapping[str, Any]], grey: str) -> list[float]:
    """The victim's hits on images moved on the thief's model less those on noise, seed by seed."""
    return [each["hits"]["thief"][grey]["victim"] - each["hits"]["noise"][grey]["victim"] for each in found]
