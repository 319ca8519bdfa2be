"""Your own torch model and data through the whole journey: harden it, put it behind a guard, attack both."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medward.attacks.benchmarks.base import stratified_partition
from medward.attacks.benchmarks.datasets.phantom import draw_phantoms
from medward.attacks.validate import validate
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split, load_npz, save_npz
from medward.guard.harden import HARDENERS
from medward.guard.harden.folder import harden
from medward.guard.harden.robust.augment import augment_images
from medward.guard.policy import Policy

SIZES = {"train": 1200, "selection": 250, "calibration": 250, "test": 320}


def my_images(path: Path) -> None:
    """What you bring: labelled images, windowed as for reading lungs."""
    images, labels = draw_phantoms(sum(SIZES.values()), size=32)
    window = np.clip(2.5 * (images - images.mean()) + 0.5, 0, 1)
    save_npz(path, stratified_partition(Split(window, 1 - labels), SIZES, seed=0))


def my_model(train: Split) -> nn.Module:
    """And your model: any module from images to logits, trained as usual."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.BatchNorm2d(1),
        *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)),
    )
    x, y = torch.from_numpy(train.inputs), torch.from_numpy(np.asarray(train.labels))
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, epochs=24, steps_per_epoch=len(x) // 50)
    generator = torch.Generator().manual_seed(0)
    for _ in range(24):
        for rows in torch.randperm(len(x)).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(augment_images(x[rows], generator)), y[rows]).backward()
            optimiser.step()
            rate.step()
    return network.eval()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        my_images(work / "mine.npz")
        splits = load_npz(work / "mine.npz")
        method = HARDENERS["uat"]
        method = replace(method, epsilon=10 / 255, training=replace(method.training, epochs=20))
        # As `medward harden mypackage:model --data mine.npz --low 0 --high 1 -o hardened`:
        certificate, _ = harden(my_model(splits["train"]), splits, work / "hardened", method, low=0.0, high=1.0)
        print(f"{certificate.method}, radius {certificate.epsilon:.3f}; {certificate.guarantee}")
        for what in ("clean", "universal"):
            before, after = getattr(certificate.before, what), getattr(certificate.after, what)
            print(f"balanced accuracy, {what}: {before:.2f} -> {after:.2f}")
        bundle = protect(
            str(work / "hardened" / "model.onnx"),
            splits["calibration"],
            Policy(on_error="withhold"),
            work / "bundle",
            classes=("opacity", "clear"),
            output="logits",
            low=0.0,
            high=1.0,
        )
        # As `medward validate bundle --data mine.npz --before hardened/original.onnx -o report`:
        report = validate(
            bundle,
            {name: splits[name] for name in ("train", "test")},
            work / "report",
            names=("uap-targeted",),
            before=work / "hardened" / "original.onnx",
            progress=False,
        )
        (uap,) = report.findings
        print(f"one perturbation brings into its class: {uap.undefended} before, {uap.adaptive} hardened and guarded")
        print(f"verdict: {uap.status.value}")


if __name__ == "__main__":
    main()
