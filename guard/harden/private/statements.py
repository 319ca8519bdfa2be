"""What a privacy certificate says in words: what its claim leaves out, and what a reader must know of the run."""

from __future__ import annotations

from torch import nn

from medward.guard.certificate import CanaryRecord, PrivacyUnit
from medward.guard.data.canaries import CanarySet
from medward.guard.harden.method import CHANCE, COLLAPSED
from medward.guard.harden.private.class_balance import COUNT_NOISE
from medward.guard.harden.private.start import PRETRAINED, Start, kept_buffers
from medward.guard.harden.private.training import PrivateRun

_UNCOVERED = (
    "the rows kept apart: what was measured on them is stated without noise",
    "what was decided by looking at the rows before training, such as normalisation, columns kept and these settings",
    "other trainings on the same rows, such as that of the model before, whose digest and accuracy are stated here: "
    "their epsilons add up",
    "the number of units, which counts as known to all, and the digest of the rows in this certificate",
    "that training was not refused, and notes on the rows: checks look at them, and say what they found",
)
_MANY_ROWS = "patients of several rows: a patient of k rows has about k times this epsilon"
_MOST_CANARIES = 0.2  # of the units


def uncovered_sentences(unit: PrivacyUnit, start: Start, trained: nn.Module) -> tuple[str, ...]:
    """What the claim of a training of `unit`s from `start` does not cover, a sentence each."""
    began = (PRETRAINED,) if start == "pretrained" else kept_buffers(trained)
    return (*_UNCOVERED, *([_MANY_ROWS] if unit == "row" else []), *began)


def run_notes(run: PrivateRun, canaries: CanarySet | None, *, counted: bool) -> tuple[str, ...]:
    """What a reader must know of how it was run, a sentence each; `counted` says that classes were, with noise."""
    told = []
    if run.randomness == "seeded":
        told.append("noise came from a seed that can be guessed: this training is a test, and protects nobody")
    if counted:
        told.append(f"classes were counted once with noise of {COUNT_NOISE:g} units, which is part of epsilon")
    if run.plan.mechanism.sample_rate == 1:
        told.append("every step looked at every unit (a sampling rate of 1), so drawing units added no privacy")
    included = 0 if canaries is None else int(canaries.included.sum())
    if included > _MOST_CANARIES * run.plan.units:
        told.append(
            f"{included} of {run.plan.units} units trained on are canaries, which crowd out patients: train without "
            "them what is to be used, and audit a second training with the same settings"
        )
    return tuple(told)


def accuracy_notes(measure: str, after: float, chance: float) -> tuple[str, ...]:
    """What a reader must know of how well the trained model decides: that it is hardly better than chance."""
    if after > chance + CHANCE:
        return ()
    return (
        f"the private model is hardly better than chance on the selection rows ({measure} {after:.3f}, of chance "
        f"{chance:.3f}): {COLLAPSED}; give it more rows or --epochs, or a larger --target-epsilon",
    )


def canary_record(canaries: CanarySet | None) -> CanaryRecord | None:
    """What an audit must know of the canaries that coins were flipped for."""
    if canaries is None:
        return None
    return CanaryRecord(count=len(canaries), included=int(canaries.included.sum()), digest=canaries.digest)
