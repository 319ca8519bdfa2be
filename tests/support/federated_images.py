"""Small images for federations: two classes that a bright spot tells apart, drawn in milliseconds."""

from __future__ import annotations

import numpy as np

from medward.guard.data.split import Split


def spotted_images(rows: int, seed: int, size: int = 16) -> Split:
    """Images (rows, 1, size, size) in [0, 1]: the spot of class 0 is at the left, that of class 1 at the right."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    down, across = np.indices((size, size)) / size
    places = np.where(labels == 0, 0.3, 0.7) + rng.normal(0, 0.03, rows)
    away = (down[None] - 0.45 - rng.normal(0, 0.05, rows)[:, None, None]) ** 2 + (
        across[None] - places[:, None, None]
    ) ** 2
    images = 0.15 + 0.7 * np.exp(-away / 0.02) + rng.normal(0, 0.04, (rows, size, size))
    return Split(np.clip(images, 0, 1).astype(np.float32)[:, None], labels.astype(np.int64))
