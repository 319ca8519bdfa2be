"""Private training as a way to harden: a network and labelled rows in, a network and a privacy certificate out.

No row has a say in when training ends or which weights are kept: what is released is a moving average of the iterates,
which is a function of noisy sums alone.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor, nn

from medward.guard.certificate import CanaryRecord, PrivacyCertificate, PrivacyUnit
from medward.guard.data.canaries import CanarySet
from medward.guard.data.coin_flip import read_manifest
from medward.guard.data.split import Split, split_digest
from medward.guard.errors import MedwardError
from medward.guard.harden.certificate import Hardened, hardening_versions
from medward.guard.harden.losses.base import TaskLosses
from medward.guard.harden.losses.classes import ClassLosses
from medward.guard.harden.losses.table import losses_of
from medward.guard.harden.network import ROWS_PER_BATCH, Rows, Scoring, state_digest, trainable_copy
from medward.guard.harden.private import class_balance as balancing
from medward.guard.harden.private.class_balance import COUNT_NOISE, Balance
from medward.guard.harden.private.hazards import mend_normalisation
from medward.guard.harden.private.measuring import centred_losses, measured_accuracy, measured_losses
from medward.guard.harden.private.parts import TrainedPart, merged_part, select_part
from medward.guard.harden.private.per_row import Columns
from medward.guard.harden.private.randomness import Randomness
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.harden.private.start import PRETRAINED, Start, check_start, draw_weights, kept_buffers
from medward.guard.harden.private.training import PrivateRun, train_privately
from medward.guard.harden.private.units import checked_unit, plant_units
from medward.guard.harden.task import plain_classification
from medward.guard.models.torch_front import own_module
from medward.guard.spec import AnyTask
from medward.guard.statistics.privacy_accounting import ACCOUNTANT
from medward.guard.types import Array, Ints

_log = logging.getLogger("medward.harden")
_LIBRARIES = ("opacus", "dp-accounting", "peft", "transformers")
_UNCOVERED = (
    "the rows kept apart: what was measured on them is stated without noise",
    "what was decided by looking at the rows before training, such as normalisation, columns kept and these settings",
    "other trainings on the same rows, such as that of the model before, whose digest and accuracy are stated here: "
    "their epsilons add up",
    "the number of units, which counts as known to all, and the digest of the rows in this certificate",
    "that training was not refused, and notes on the rows: checks look at them, and say what they found",
)
_MOST_CANARIES = 0.2  # of the units
_MANY_ROWS = "patients of several rows: a patient of k rows has about k times this epsilon"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateTraining(PrivateSettings):
    """Private training hides whether any one `unit` was trained on, within (epsilon, delta).

    `unit` None is the patient where patients are known; where they are not, a row must be said to be the unit. Training
    starts "fresh", from weights drawn anew, or "pretrained" from those given, which their owner states never saw these
    rows; then `part` may be the "head" or "lora" alone. Rare classes count as common ones by their shares as
    `class_balance` says them, or "counted" with noise that is part of epsilon. `augment` makes other views of images
    within ``[low, high]``, each of its own row. `canaries` whose coin says in are trained on as units of their own;
    `manifest` is that of the coin flip which chose the rows.
    """

    name: ClassVar[str] = "dp"

    unit: PrivacyUnit | None = None
    start: Start = "fresh"
    part: TrainedPart = "all"
    lora_rank: int = 8
    lora_layers: tuple[str, ...] = ()
    class_balance: Balance = "counted"
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    canaries: CanarySet | None = None
    manifest: str | None = None

    def harden(
        self,
        network: nn.Module,
        train: Split,
        selection: Split,
        *,
        low: float | None,
        high: float | None,
        seed: int,
        task: AnyTask | None = None,
    ) -> Hardened:
        """See `guard.harden.certificate.Hardener`; the same seed gives the same start, but never the same noise.

        `selection` is measured before and after, and chooses nothing. Raises `MedwardError` besides for patients that
        are unknown or on both sides, for a start that has seen the rows, and for every hazard of `train_privately`.
        """
        self.check()
        if self.start not in ("fresh", "pretrained"):
            raise MedwardError(f'start: must be "fresh" or "pretrained", got {self.start!r}')
        if self.start == "fresh" and self.part != "all":
            raise MedwardError(f'part: "{self.part}" adds to weights that are already good; say start "pretrained"')
        if self.augment is not None and (low is None or high is None or train.inputs.ndim != 4):
            raise MedwardError("augment: is for images whose range is known; give low and high, or leave it out")
        manifest = None if self.manifest is None else read_manifest(self.manifest).digest
        unit = checked_unit(self.unit, train, selection)
        data = split_digest(train, selection)
        train, owners = plant_units(train, self.canaries, unit)
        losses = None if task is None else losses_of(task)
        rows, held = Rows.of(train, "train", low, high, losses), Rows.of(selection, "selection", low, high, losses)
        if rows.x.shape[1:] != held.x.shape[1:]:
            raise MedwardError(
                f"selection: shape {tuple(held.x.shape[1:])} is not that of train, {tuple(rows.x.shape[1:])}"
            )
        sample = rows.x[:ROWS_PER_BATCH]
        task = task or plain_classification(network, sample, self.device)
        losses = losses_of(task)
        given = trainable_copy(network, sample, self.device, losses)
        losses.check(rows.y, "train", trained=True)
        losses.check(held.y, "selection", trained=False)
        before, original = measured_accuracy(given, held, losses), state_digest(own_module(given.net))
        student, notes = self._started(given, rows, held, owners, selection, seed)
        counted = balancing.is_counted(losses, self.class_balance)
        shares = self._shares(rows.y, owners, losses, counted)
        row_losses = balancing.balanced_row_losses(losses, shares)
        run = train_privately(
            student,
            {"x": rows.x, "y": rows.y},
            owners,
            lambda module, some: row_losses(module(some["x"]), some["y"]),
            self,
            other_mechanisms=(COUNT_NOISE,) if counted else (),
            views=None if self.augment is None else self._views(low, high),
            context={"unit": unit, "part": self.part, "shares": None if shares is None else [*shares.tolist()]},
            progress=self._progress,
        )
        net = merged_part(student.net).eval().requires_grad_(False)
        student.net = net
        plan, mechanism = run.plan, run.plan.mechanism
        certificate = PrivacyCertificate(
            epsilon=run.epsilon,
            delta=plan.delta,
            target_epsilon=self.target_epsilon,
            unit=unit,
            units=plan.units,
            rows={"train": len(rows), "selection": len(held)},
            accountant=f"{ACCOUNTANT}; within 1 % of PRV (Opacus)",
            noise_multiplier=mechanism.noise_multiplier,
            sample_rate=mechanism.sample_rate,
            steps=mechanism.steps,
            clip=self.clip,
            other_mechanisms=mechanism.other_mechanisms,
            start=self.start,
            part=self.part,
            trained=run.trained,
            settings=self._plain(),
            not_covered=self._not_covered(unit, student),
            notes=(*notes, *_notes(run, counted), *_crowding(self.canaries, plan.units)),
            measure=losses.measure,
            measured={
                "before": before,
                "after": measured_accuracy(student, held, losses),
                "chance": losses.chance(held.y),
            },
            canaries=None
            if self.canaries is None
            else CanaryRecord(
                count=len(self.canaries),
                included=int(self.canaries.included.sum()),
                digest=self.canaries.digest,
            ),
            manifest=manifest,
            seed=seed,
            data=data,
            original=original,
            hardened=state_digest(own_module(net)),
            versions=hardening_versions() | _private_versions(),
        )
        return Hardened(net, certificate)

    def _started(
        self, given: Scoring, rows: Rows, held: Rows, owners: Ints, selection: Split, seed: int
    ) -> tuple[Scoring, tuple[str, ...]]:
        """The network as training starts from it, and what a reader must know of that."""
        doubt = None
        if self.start == "fresh":
            given.net.requires_grad_(True)
            given.net = draw_weights(given.net, seed)
        else:
            own = [measured_losses(given, some) for some in (rows, held)]
            if isinstance(given.losses, ClassLosses):
                own = centred_losses(own, (rows.y, held.y), given.losses.classes)
            unseen = np.arange(len(held)) if selection.patients is None else selection.patients
            doubt = check_start(own[0], own[1], owners, unseen)
        given.net, told = mend_normalisation(given.net, fresh=self.start == "fresh")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the first low-rank factors
            given.net = select_part(given.net, self.part, rank=self.lora_rank, layers=self.lora_layers)
        given.to(torch.device(self.device))
        return given, (*told, *([doubt] if doubt else []))

    def _shares(self, y: Tensor, owners: Ints, losses: TaskLosses, counted: bool) -> Array | None:
        """The shares of classes that scores are moved by in training; None to move none."""
        if isinstance(self.class_balance, tuple):
            return np.array(self.class_balance, np.float64)
        if not counted:
            return None
        source = Randomness.secret() if self.noise_seed is None else Randomness.seeded(self.noise_seed)
        path = None if self.checkpoint is None else self.checkpoint.with_name(f"{self.checkpoint.name}.shares")
        found = balancing.counted_digest(y, owners, self.noise_seed)
        return balancing.recorded_shares(path, found, lambda: balancing.noisy_shares(y, owners, losses, source))

    def _views(self, low: float | None, high: float | None) -> Callable[[Columns, torch.Generator], Columns]:
        """Views of images scaled to [0, 1] by the range said, which no row has a part in."""
        assert self.augment is not None
        assert low is not None
        assert high is not None
        augment, width = self.augment, high - low

        def views(rows: Columns, generator: torch.Generator) -> Columns:
            return {**rows, "x": augment((rows["x"] - low) / width, generator).clamp(0, 1) * width + low}

        return views

    def _progress(self, done: int, total: int, epsilon: float) -> None:
        _log.info("step %d/%d: epsilon %.3f spent of %g", done, total, epsilon, self.target_epsilon)

    def _plain(self) -> dict[str, JsonValue]:
        """The settings as plain data, without what the certificate holds elsewhere."""
        left_out = ("canaries", "manifest", "checkpoint")
        found = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name not in left_out}
        plain: dict[str, JsonValue] = json.loads(json.dumps(found, default=lambda value: value.__qualname__))
        return plain

    def _not_covered(self, unit: PrivacyUnit, student: Scoring) -> tuple[str, ...]:
        began = (PRETRAINED,) if self.start == "pretrained" else kept_buffers(student)
        return (*_UNCOVERED, *([_MANY_ROWS] if unit == "row" else []), *began)


def _notes(run: PrivateRun, counted: bool) -> tuple[str, ...]:
    """What a reader must know of how it was run."""
    told = []
    if run.randomness == "seeded":
        told.append("noise came from a seed that can be guessed: this training is a test, and protects nobody")
    if counted:
        told.append(f"classes were counted once with noise of {COUNT_NOISE:g} units, which is part of epsilon")
    return tuple(told)


def _crowding(canaries: CanarySet | None, units: int) -> tuple[str, ...]:
    """A sentence where canaries are so many of the units that they cost accuracy."""
    included = 0 if canaries is None else int(canaries.included.sum())
    if included <= _MOST_CANARIES * units:
        return ()
    return (
        f"{included} of {units} units trained on are canaries, which crowd out patients: train without them what is to "
        "be used, and audit a second training with the same settings",
    )


def _private_versions() -> dict[str, str]:
    """What ran besides, as far as it is installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
