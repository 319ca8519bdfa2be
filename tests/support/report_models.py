"""Report models made on the spot: images of noise, about which a function writes by how bright their corners are."""

from __future__ import annotations

import os
import re
import time

import numpy as np

from medward.guard import models
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport

FINDINGS = ("effusion", "cardiomegaly", "pneumothorax")
SHAPE = (1, 16, 16)
LENGTH = 400


def report_images(n, seed=0):
    return np.random.default_rng(seed).random((n, *SHAPE)).astype(np.float32)


class CornerWriter:
    """Writes of an effusion, an enlarged heart and a pneumothorax by the means of three corners of an image."""

    def __init__(self, extra="", piecewise=True):
        self.extra, self.piecewise, self.written = extra, piecewise, 0

    def corners(self, images):
        blocks = images[:, 0].reshape(len(images), 2, 8, 2, 8)
        return blocks.mean(axis=(2, 4)).reshape(len(images), 4)

    def sentences(self, image):
        left, right, low, _ = self.corners(image[None])[0]
        yield "Pleural effusion is seen. " if left > 0.51 else "No pleural effusion. "
        yield "The heart is enlarged. " if right > 0.51 else "Possible cardiomegaly. " if right > 0.49 else ""
        yield "Small pneumothorax." if low > 0.52 else "No pneumothorax."
        yield from re.findall(r"\s*\S+\s*", self.extra)

    def __call__(self, images):
        self.written += len(images)
        texts = [self.sentences(image) for image in images]
        return texts if self.piecewise else ["".join(each) for each in texts]


def report_labels(images, wrong=0):
    """The findings of each image as a table of 0 and 1; of the first `wrong` the effusion is the other way round."""
    left, right, low, _ = CornerWriter().corners(images).T
    found = np.stack([left > 0.51, right > 0.49, low > 0.52], axis=1)
    found[:wrong, 0] ^= True
    return found.astype(np.int64)


def report_spec(**settings):
    task = WrittenReport(**{"findings": FINDINGS, "length": LENGTH, **settings})
    return ModelSpec(name="reporter", modality="image", shape=SHAPE, task=task, low=0.0, high=1.0)


def report_model(extra="", *, piecewise=True, features="corners", **settings):
    spec = report_spec(**settings)
    return models.wrap(CornerWriter(extra, piecewise), spec=spec, sample=report_images(20), features=features)


def report_policy(**sections):
    release = {"level": "full", **sections.pop("release", {})}
    return Policy.model_validate({"on_error": "withhold", "release": release, **sections})


def report_guard(model, policy=None, **parts):
    profile = Profile.fit(model, report_images(400, 1), risk=0.001, secret=0)
    return Guard(model=model, profile=profile, policy=policy or report_policy(), salt=b"s", **parts)


class PacedWriter(CornerWriter):
    """Writes a word at a time, and waits ``REPORT_PAUSE`` seconds before each, so that a reader can leave meanwhile."""

    def sentences(self, image):
        for piece in super().sentences(image):
            time.sleep(float(os.environ.get("REPORT_PAUSE", "0")))
            yield piece


corner_writer = CornerWriter(" Read by Dr. John Smith.")
paced_writer = PacedWriter(" The trachea is midline." * 100)
"""What bundles name."""
