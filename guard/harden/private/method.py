"""Private training as a way to harden: a network and labelled rows in, a network and a privacy certificate out.

No row has a say in when training ends or which weights are kept: what is released is a moving average of the iterates,
which is a function of noisy sums alone.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from pydantic import JsonValue
from torch import nn

from medward.guard.certificate import PrivacyCertificate, PrivacyUnit
from medward.guard.data.canaries import CanarySet
from medward.guard.data.coin_flip import read_manifest
from medward.guard.data.split import Split, split_digest
from medward.guard.errors import MedwardError
from medward.guard.harden.certificate import Hardened, hardening_versions
from medward.guard.harden.losses.classes import ClassLosses
from medward.guard.harden.losses.table import losses_of
from medward.guard.harden.network import ROWS_PER_BATCH, Rows, Scoring, state_digest, trainable_copy
from medward.guard.harden.private.class_balance import (
    COUNT_NOISE,
    Balance,
    balanced_row_losses,
    is_counted,
    training_shares,
)
from medward.guard.harden.private.hazards import mend_normalisation
from medward.guard.harden.private.measuring import centred_losses, measured_accuracy, measured_losses
from medward.guard.harden.private.parts import TrainedPart, merged_part, select_part
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.harden.private.start import Start, check_start, draw_weights
from medward.guard.harden.private.statements import accuracy_notes, canary_record, run_notes, uncovered_sentences
from medward.guard.harden.private.training import train_privately
from medward.guard.harden.private.units import checked_unit, plant_units
from medward.guard.harden.private.views import Augment, image_views
from medward.guard.harden.task import plain_classification
from medward.guard.models.torch_front import own_module
from medward.guard.spec import AnyTask
from medward.guard.statistics.privacy_accounting import ACCOUNTANT
from medward.guard.types import Ints

_log = logging.getLogger("medward.harden")
_LIBRARIES = ("opacus", "dp-accounting", "peft", "transformers")


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
    augment: Augment | None = None
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
        views = None
        if self.augment is not None:
            if low is None or high is None or train.inputs.ndim != 4:
                raise MedwardError("augment: is for images whose range is known; give low and high, or leave it out")
            views = image_views(self.augment, low, high)
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
        counted = is_counted(losses, self.class_balance)
        shares = training_shares(rows.y, owners, losses, self.class_balance, self)
        row_losses = balanced_row_losses(losses, shares)
        run = train_privately(
            student,
            {"x": rows.x, "y": rows.y},
            owners,
            lambda module, some: row_losses(module(some["x"]), some["y"]),
            self,
            other_mechanisms=(COUNT_NOISE,) if counted else (),
            views=views,
            context={"unit": unit, "part": self.part, "shares": None if shares is None else [*shares.tolist()]},
            progress=self._progress,
        )
        net = merged_part(student.net).eval().requires_grad_(False)
        student.net = net
        after, chance = measured_accuracy(student, held, losses), losses.chance(held.y)
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
            not_covered=uncovered_sentences(unit, self.start, student),
            notes=(
                *notes,
                *run_notes(run, self.canaries, counted=counted),
                *accuracy_notes(losses.measure, after, chance),
            ),
            measure=losses.measure,
            measured={
                "before": before,
                "after": after,
                "chance": chance,
            },
            canaries=canary_record(self.canaries),
            manifest=manifest,
            seed=seed,
            data=data,
            original=original,
            hardened=state_digest(own_module(net)),
            versions=hardening_versions(*_LIBRARIES),
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

    def _progress(self, done: int, total: int, epsilon: float) -> None:
        _log.info("step %d/%d: epsilon %.3f spent of %g", done, total, epsilon, self.target_epsilon)

    def _plain(self) -> dict[str, JsonValue]:
        """The settings as plain data, without what the certificate holds elsewhere."""
        left_out = ("canaries", "manifest", "checkpoint")
        found = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name not in left_out}
        plain: dict[str, JsonValue] = json.loads(json.dumps(found, default=lambda value: value.__qualname__))
        return plain
