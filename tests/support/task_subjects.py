"""Small models of every task on data that hospitals know: trained in seconds, with the rows to guard and attack them.

Chest radiographs with several findings, one logit, a screening model, a number from a table, a mask, four sequences of
an image, blood cells, cardiotocograms.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, sobel
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from medward.attacks.benchmarks.base import data_root
from medward.attacks.benchmarks.networks.architectures import build_network
from medward.attacks.benchmarks.tasks import load_task
from medward.guard.data.split import Split

FINDINGS = ("Pneumonia", "Infiltration", "Atelectasis", "Edema", "Effusion")
SHARES = {"train": 0.5, "calibration": 0.25, "holdout": 0.1, "test": 0.15}
IMAGE = {"low": 0.0, "high": 1.0}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained model, rows by split as a user has them, options of `protect`, the model's own outputs on rows.

    `attacks` are what is asked of `validate`, None for its default; `decide` reads opaque outputs, and so
    many rows are attacked.
    """

    model: object
    splits: Mapping[str, Split]
    own: Callable[[np.ndarray], np.ndarray]
    options: Mapping[str, Any] = field(default_factory=dict)
    attacks: tuple[str, ...] | None = None
    decide: Callable[[np.ndarray], np.ndarray] | None = None
    attacked: int = 100


def by_patient(inputs: np.ndarray, labels: Any, patients: np.ndarray, seed: int = 0) -> dict[str, Split]:
    """Splits of about `SHARES`, no patient in two."""
    known = np.random.default_rng(seed).permutation(np.unique(patients))
    ends = np.cumsum([round(share * len(known)) for share in SHARES.values()])[:-1]
    groups = dict(zip(SHARES, np.split(known, ends), strict=True))
    rows = {name: np.flatnonzero(np.isin(patients, group)) for name, group in groups.items()}
    return {
        name: Split(inputs[index], None if labels is None else labels[index], patients[index].astype(np.int64))
        for name, index in rows.items()
    }


def fit(
    net: nn.Module, split: Split, loss: Callable[[Tensor, Tensor], Tensor], epochs: int, seed: int = 0
) -> nn.Module:
    """`net` after so many epochs of Adam on a split, in eval mode."""
    torch.manual_seed(seed)
    x, y = torch.as_tensor(split.inputs, dtype=torch.float32), torch.as_tensor(np.asarray(split.labels))
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            loss(net(x[rows]), y[rows]).backward()
            optimiser.step()
    return net.eval()


def called(net: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """The user's own call of a network."""

    def own(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(net(torch.as_tensor(rows, dtype=torch.float32)).numpy())

    return own


def radiographs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NIH-64 images in [0, 1], their findings as a table, and whose they are."""
    folder = data_root() / "nih_cxr"
    arrays = np.load(folder / "nih_cxr_64.npz")
    with (folder / "labels.csv").open() as file:
        said = {row["Image Index"]: row["Finding Labels"].split("|") for row in csv.DictReader(file)}
    names = [str(each) for each in arrays["name"]]
    table = np.array([[finding in said[name] for finding in FINDINGS] for name in names], np.int64)
    return arrays["images"][:, None].astype(np.float32) / 255, table, arrays["patient"]


def several_findings(epochs: int = 25) -> Subject:
    """Five findings of a chest radiograph at once."""
    images, table, patients = radiographs()
    splits = by_patient(images, table, patients)
    torch.manual_seed(0)
    net = build_network("cnn", images.shape[1:], len(FINDINGS))
    fit(net, splits["train"], lambda z, y: F.binary_cross_entropy_with_logits(z, y.float()), epochs)
    options = {**IMAGE, "classes": FINDINGS, "output": "logits", "sensitivity": 0.8}
    attacks = ("pgd", "pgd-hide", "pgd-raise", "knockoff-soft", "membership-loss")
    return Subject(model=net, splits=splits, own=called(net), options=options, attacks=attacks)


def one_logit(epochs: int = 12) -> Subject:
    """Pneumonia by a single logit."""
    task = load_task("pneumoniamnist", seed=0)
    torch.manual_seed(0)
    net = build_network("cnn", task.shape, 1)
    fit(net, task.splits["train"], lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.float()), epochs)
    options = {**IMAGE, "classes": task.classes, "output": "logits"}
    attacks = ("uap", "pgd", "knockoff-soft", "membership-loss")
    return Subject(model=net, splits=task.splits, own=called(net), options=options, attacks=attacks)


def screening(epochs: int = 25) -> Subject:
    """Effusion at a sensitivity of 90 % on calibration rows."""
    images, table, patients = radiographs()
    splits = by_patient(images, table[:, FINDINGS.index("Effusion")], patients)
    torch.manual_seed(0)
    net = build_network("cnn", images.shape[1:], 2)
    fit(net, splits["train"], F.cross_entropy, epochs)
    options = {**IMAGE, "classes": ("no effusion", "effusion"), "output": "logits", "sensitivity": 0.9}
    attacks = ("pgd", "knockoff-soft", "membership-loss")
    return Subject(model=net, splits=splits, own=called(net), options=options, attacks=attacks)


def progression() -> Subject:
    """The progression of diabetes after a year, a number in which 40 matter and 150 divides."""
    x, y = load_diabetes(return_X_y=True)
    splits = by_patient(x.astype(np.float32), y, np.arange(len(x)))
    model = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(32,), alpha=1.0, max_iter=3000, random_state=0)
    )
    model.fit(splits["train"].inputs, splits["train"].labels)
    options = {"tolerance": 40.0, "cut_points": (150.0,), "classes": ("progression",)}
    attacks = ("pgd", "knockoff-soft", "membership-loss")
    return Subject(model=model, splits=splits, own=model.predict, options=options, attacks=attacks)


class UNet(nn.Module):
    """A mask of an image by two scales and a skip: logits ``(n, 1, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.low = nn.Sequential(
            nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1)
        )
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.ReLU())
        self.last = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Mask logits."""
        fine = self.down(x)
        return self.last(torch.cat([fine, self.up(self.low(fine))], dim=1))


def mask_area(outputs: np.ndarray) -> np.ndarray:
    """The share of an image that a mask covers, in tenths."""
    return np.round(10 * (outputs > 0).reshape(len(outputs), -1).mean(axis=1)).astype(np.int64)


def mask(epochs: int = 8) -> Subject:
    """The bright parts of a smoothed radiograph, as a mask."""
    images, _, patients = radiographs()
    smooth = gaussian_filter(images, (0, 0, 2, 2))
    bright = (smooth > np.quantile(smooth, 0.7, axis=(2, 3), keepdims=True)).astype(np.float32)
    splits = by_patient(images, bright, patients)
    torch.manual_seed(0)
    net = fit(UNet(), splits["train"], F.binary_cross_entropy_with_logits, epochs)
    bare = {name: Split(split.inputs, None, split.patients) for name, split in splits.items()}
    options = {**IMAGE, "task": "opaque", "classes": ("mask",)}
    return Subject(
        model=net,
        splits=bare,
        own=called(net),
        options=options,
        attacks=("pgd",),
        attacked=16,
        decide=mask_area,
    )


def four_sequences(epochs: int = 8) -> Subject:
    """Pneumonia from four channels made of one image: itself, blurred, its edges, its negative."""
    task = load_task("pneumoniamnist", seed=1)

    def sequences(split: Split) -> Split:
        grey = split.inputs
        edges = np.hypot(sobel(grey, 2), sobel(grey, 3)) / 6
        channels = np.concatenate([grey, gaussian_filter(grey, (0, 0, 2, 2)), edges.clip(0, 1), 1 - grey], axis=1)
        return Split(channels.astype(np.float32), split.labels, split.patients)

    splits = {name: sequences(split) for name, split in task.splits.items()}
    torch.manual_seed(0)
    net = fit(build_network("cnn", (4, 28, 28), 2), splits["train"], F.cross_entropy, epochs)
    options = {**IMAGE, "classes": task.classes, "output": "logits"}
    attacks = ("uap", "pgd", "knockoff-soft")
    return Subject(model=net, splits=splits, own=called(net), options=options, attacks=attacks)


def blood_cells(epochs: int = 6) -> Subject:
    """Red cells, white cells and platelets in colour, split by slide."""
    arrays = np.load(data_root() / "bccd_blood" / "bccd_crops_32.npz")
    images = arrays["X"].transpose(0, 3, 1, 2).astype(np.float32) / 255
    splits = by_patient(images, arrays["Y"].astype(np.int64), arrays["P"])
    torch.manual_seed(0)
    net = fit(build_network("cnn", images.shape[1:], 3), splits["train"], F.cross_entropy, epochs)
    options = {**IMAGE, "classes": ("red cell", "white cell", "platelet"), "output": "logits", "layout": "NCHW"}
    attacks = ("pgd", "knockoff-soft", "membership-loss")
    return Subject(model=net, splits=splits, own=called(net), options=options, attacks=attacks)


def cardiotocograms() -> Subject:
    """The state of a foetus, normal, suspect or pathological, from a table by a forest."""
    table = np.unique(np.loadtxt(data_root() / "fetal_ctg" / "fetal_health.csv", delimiter=",", skiprows=1), axis=0)
    table = np.random.default_rng(0).permutation(table)
    splits = by_patient(table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64) - 1, np.arange(len(table)))
    model = RandomForestClassifier(60, random_state=0).fit(splits["train"].inputs, splits["train"].labels)
    options = {"classes": ("normal", "suspect", "pathological"), "task": "classification"}
    attacks = ("pgd", "knockoff-soft", "membership-loss")
    return Subject(model=model, splits=splits, own=model.predict_proba, options=options, attacks=attacks)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "several findings": several_findings,
    "one logit": one_logit,
    "screening at 90 % sensitivity": screening,
    "a number": progression,
    "a mask": mask,
    "four sequences": four_sequences,
    "blood cells": blood_cells,
    "cardiotocograms": cardiotocograms,
}
