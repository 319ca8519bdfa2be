"""Small tables and networks of every task, trained on the spot; those of contracts and two more."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from medward.integrations.contracts.attack import findings_model, number_model
from medward.integrations.contracts.subjects import task_rows as table
from medward.integrations.contracts.subjects import trained_task

__all__ = ["column_model", "findings_model", "mask_model", "number_model", "table"]


def mask_model(task):
    return trained_task(task, 4, F.mse_loss, lambda v: v, nn.Unflatten(1, (1, 2, 2)))


def column_model(task):
    last = nn.Sequential(nn.Sigmoid(), nn.Flatten(0)) if task.output == "probabilities" else None
    return trained_task(task, 1, F.binary_cross_entropy_with_logits, lambda v: (v[:, :1] > 0.5).astype("float32"), last)
