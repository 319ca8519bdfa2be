"""The ledger of a private training: on disk before anything it accounts for, so that a kill never loses a step.

The whole plan is written before the first step, and epsilon is that of the plan: steps accounted are never fewer than
steps run. What was run after the last record and lost is run again with the numbers of the same key, that is, with the
same units and the same noise: the same use of the mechanism, and not another. When training ends the key is erased.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue
from torch import nn

from medward.guard.errors import MedwardError
from medward.guard.files import write_durably
from medward.guard.harden.network import state_digest
from medward.guard.harden.private.per_row import Columns
from medward.guard.harden.private.settings import PrivatePlan, PrivateSettings
from medward.guard.models.base import first_line
from medward.guard.types import Ints

_MODE = 0o600  # it holds the key, which tells noise from signal
_WHERE = ("checkpoint", "save_every", "device", "rows_at_once")  # settings that change no weight


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """A ledger entry is training after `step` steps: the secret `key` of its numbers, and its `state` of tensors."""

    step: int
    key: bytes
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """A ledger is the file at `path` that holds one training of one `plan`: settings, and digests of rows and start."""

    path: Path
    plan: Mapping[str, JsonValue]

    def read(self) -> LedgerEntry | None:
        """The last entry; None without a file. Raises `MedwardError` for a file of another training, or none."""
        if not self.path.exists():
            return None
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            plan, entry = json.loads(found["plan"]), found
            read = LedgerEntry(step=int(entry["step"]), key=bytes.fromhex(entry["key"]), state=entry["state"])
        except Exception as error:  # a damaged file can make torch raise nearly anything
            raise MedwardError(f"{self.path}: is no checkpoint of a private training: {first_line(error)}") from None
        differs = [name for name in {**plan, **self.plan} if plan.get(name) != self.plan.get(name)]
        if differs:
            raise MedwardError(
                f"{self.path}: is of another training, with other {', '.join(sorted(differs))}; both would "
                "be spent, so go on with what it began with, or give another checkpoint (of a command: another "
                "folder) and add both epsilons"
            )
        return read

    def write(self, entry: LedgerEntry) -> None:
        """Put `entry` in the place of the last one, on disk when this returns."""
        held = io.BytesIO()
        torch.save(
            {
                "plan": json.dumps(dict(self.plan), sort_keys=True),
                "step": entry.step,
                "key": entry.key.hex(),
                "state": dict(entry.state),
            },
            held,
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self.path, held.getvalue(), mode=_MODE)


def ledger_plan(
    module: nn.Module, rows: Columns, owners: Ints, settings: PrivateSettings, plan: PrivatePlan
) -> dict[str, JsonValue]:
    """What a ledger must agree in for its training to be gone on with: settings, and digests of rows and start."""
    named = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(PrivateSettings)
        if field.name not in _WHERE
    }
    found: dict[str, JsonValue] = json.loads(json.dumps(named))
    return found | {
        "mechanism": json.loads(json.dumps(dataclasses.asdict(plan.mechanism))),
        "delta": plan.delta,
        "rows": rows_digest(rows, owners),
        "start": state_digest(module),
    }


def rows_digest(rows: Columns, owners: Ints) -> str:
    """SHA-256 of the rows and of whose they are."""
    sha = hashlib.sha256(owners.tobytes())
    for name, each in sorted(rows.items()):
        sha.update(f"{name}{each.dtype}{tuple(each.shape)}".encode())
        sha.update(np.ascontiguousarray(each.cpu().numpy()).tobytes())
    return sha.hexdigest()
