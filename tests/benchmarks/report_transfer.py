"""Why noise made on a thief's own report model helps a theft or does not: whom it moves, and what a clone learns of it.

Photographs are moved towards enriched reports on three models: the thief's, trained on answers about photographs; one
trained on answers about radiographs; and the victim itself, which no thief holds. Noise that works on the model it was
made on and not on the victim does not transfer. A clone of images that were moved on the victim itself is what a thief
would have if all of it did.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from report_scenes import ReportScene

from medward.attacks.extraction.reports import AdaSteal, TextStudent
from medward.attacks.extraction.reports.student import teach_texts
from medward.attacks.extraction.reports.text_alignment import align_images
from medward.attacks.whitebox.ball import Ball
from medward.guard.models.huggingface_report import HuggingFaceReportModel
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array


def transfer(scene: ReportScene, settings: AdaSteal, *, queries: int, epochs: int, seed: int) -> dict[str, Any]:
    """Of images with an aim the share whose report says just the aimed findings, to the model and to the victim.

    Half of the `queries` are photographs as they are, the other half are moved.
    """
    spec, pool, half = scene.spec, scene.data.pool, queries // 2
    assert pool is not None
    assert isinstance(spec.task, WrittenReport)
    assert isinstance(scene.model, HuggingFaceReportModel)
    victim = TextStudent(
        writer=scene.model.writer, mean=0.0, spread=1.0, longest=spec.task.length, prompt=spec.task.prompt
    )

    def learned(images: Array, texts: list[str]) -> TextStudent:
        begun = settings.student.begin(spec, images, texts, seed=seed)
        return teach_texts(begun, images, texts, epochs=epochs, seed=seed)

    known, fresh, own = pool[:half], pool[half:queries], scene.data.craft.inputs[:queries]
    texts, before = victim.write(known), victim.write(fresh)
    aims = settings.oracle.enrich(before, texts, spec.task, seed=seed)
    aimed = np.array([new != old for new, old in zip(aims, before, strict=True)])
    wanted = scene.read([text for text, wanted_ in zip(aims, aimed, strict=True) if wanted_])
    ball = Ball.of(spec, pool, settings.epsilon)
    models = {"thief": learned(known, texts), "in-domain": learned(own, victim.write(own)), "victim": victim}

    def hits(reader: TextStudent, images: Array) -> float:
        return float(np.mean((scene.read(reader.write(images[aimed])) == wanted).all(axis=1)))

    found: dict[str, dict[str, float]] = {}
    clones = {"photographs": scene.f1(learned(pool[:queries], texts + before).write(scene.data.test.inputs))}
    for name, model in models.items():
        moved = fresh.copy()
        chosen = [text for text, wanted_ in zip(aims, aimed, strict=True) if wanted_]
        moved[aimed] = align_images(model, fresh[aimed], chosen, ball, steps=settings.steps)
        found[name] = {"own": hits(model, moved), "victim": hits(victim, moved)}
        if name != "in-domain":
            told = texts + victim.write(moved)
            clone = learned(np.concatenate([known, moved]), told)
            clones[f"moved on the {name}"] = scene.f1(clone.write(scene.data.test.inputs))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], fresh.shape)
    noisy = np.clip(fresh + settings.epsilon * signs, 0, 1).astype(np.float32)
    found["noise"] = {"victim": hits(victim, noisy)}
    found["unmoved"] = {"victim": hits(victim, fresh)}
    clones["radiographs"] = scene.f1(models["in-domain"].write(scene.data.test.inputs))
    return {
        "hits": found,
        "clone_f1": clones,
        "constant": scene.constant_f1,
        "victim": scene.victim_f1,
        "aims": int(aimed.sum()),
    }
