"""The contract of a screen's embedding: finite, a row's own, and the same in NumPy and, differentiable, in torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from medward.guard.models.base import Model
from medward.guard.profile import forward_batches
from medward.guard.screens.mahalanobis import Mahalanobis, ScreenEmbedding, find_embedding
from medward.guard.types import Array, Outputs
from medward.integrations.contracts.monitor import MonitorSubject, stored_arrays
from medward.integrations.contracts.subjects import hold_contract

TORCH_TOLERANCE = 1e-3  # of a coordinate, between NumPy and torch


def check_screen(screen: ScreenEmbedding, strange: Array, subject: MonitorSubject | None = None) -> None:
    """Hold `screen`, installed as a plug-in, to all that screens must do; `strange` rows it must find strange.

    `subject` is by default a table of three numbers. Raises `MedwardError` about what does not hold.
    """
    import torch

    subject = subject or MonitorSubject()
    model, rows = subject.model, subject.draw(300, 0)
    hold_contract(
        find_embedding(screen.name) is screen.embed,
        f"the screen {screen.name!r} is not what its entry point in medward.screens announces",
    )
    outputs = subject.judged(rows)
    seen = np.asarray(screen.embed(rows, outputs, np))
    hold_contract(seen.ndim == 2 and len(seen) == len(rows), f"{screen.name!r} gives shape {seen.shape}, not (n, d)")
    hold_contract(bool(np.isfinite(seen).all()), f"{screen.name!r} gives values that are not finite")
    alone = np.concatenate([screen.embed(*_row(rows, outputs, i), np) for i in range(20)])
    hold_contract(
        bool(np.allclose(alone, seen[:20], rtol=1e-4, atol=1e-4)), f"{screen.name!r} sees a row otherwise in a batch"
    )
    x = torch.tensor(rows, requires_grad=True)
    parts = (outputs.scores, outputs.features, outputs.doubt)
    tensors: Any = tuple(None if part is None else torch.tensor(part) for part in parts)
    found = screen.embed(x, Outputs(*tensors), torch)
    hold_contract(
        bool(np.allclose(found.detach().numpy(), seen, rtol=TORCH_TOLERANCE, atol=TORCH_TOLERANCE)),
        f"{screen.name!r} gives other values in torch than in NumPy, so nobody can attack what is deployed",
    )
    if found.requires_grad:
        found.sum().backward()
        hold_contract(
            x.grad is not None and bool(torch.isfinite(x.grad).all()), f"{screen.name!r} has broken gradients"
        )
    _check_strange(screen, model, rows, outputs, strange, subject)


def _check_strange(
    screen: ScreenEmbedding, model: Model, rows: Array, outputs: Outputs, strange: Array, subject: MonitorSubject
) -> None:
    """Strange rows are farther from benign ones than fresh benign rows are, also once read back from disk."""
    fitted = Mahalanobis.fit(screen.name, rows, outputs)
    again = Mahalanobis.from_arrays(screen.name, stored_arrays(fitted.arrays()))
    fresh = subject.draw(300, 1)
    ordinary = again.score(fresh, subject.judged(fresh))
    odd = again.score(strange, model.spec.judged(forward_batches(model, strange)))
    hold_contract(
        bool(np.median(odd) > np.quantile(ordinary, 0.95)), f"{screen.name!r} does not find strange what it must"
    )


def _row(rows: Array, outputs: Outputs, i: int) -> tuple[Array, Outputs]:
    features, doubt = (None if part is None else part[i : i + 1] for part in (outputs.features, outputs.doubt))
    return rows[i : i + 1], Outputs(outputs.scores[i : i + 1], features, doubt)
