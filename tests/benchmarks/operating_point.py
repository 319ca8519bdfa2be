"""Effusion at 90 % sensitivity on NIH-64: what is served at every level, and whether hiding the finding counts."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from claim import Claim
from subjects import plain

from medward.attacks.base import AttackData
from medward.attacks.benchmarks.base import BenchmarkTask, data_root, first_seen, read_known, stratified_partition
from medward.attacks.benchmarks.datasets.nih_cxr import NIH_DIGESTS, NIH_FILE, NIH_REMEDY, NIH_SOURCE
from medward.attacks.benchmarks.victims import train_victim
from medward.attacks.evasion import PGD
from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.intervals import rate_interval
from medward.attacks.target import Target, open_oracle
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.run import run_validation
from medward.attacks.whitebox.criterion import ANY_CLASS
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.bundle.folder import Bundle
from medward.guard.bundle.make import protect
from medward.guard.data.pixels import image_batch
from medward.guard.data.split import Split
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.types import Action, Array, Ints, Level, Query

CLAIMS = ("sensitivity_at_every_level", "hidden_findings_counted")

CLASSES = ("no effusion", "effusion")
SIZES = {"train": 440, "selection": 60, "calibration": 250, "test": 250}
EPOCHS = 48
SEEDS = (11, 12, 13)  # of the split, the training and the attack; the bench was written on seed 0
SENSITIVITY = 0.9  # on calibration rows
EPSILON = 4 / 255
ATTACK = PGD(epsilon=EPSILON, steps=20, restarts=1)
ATTACKED = 100  # test rows: every effusion, and others
TEMPERATURE = 3.0
SAMPLE = 64
STRANGE = 300  # noise images at most, until an account is alarmed
SETTINGS: Mapping[str, dict[str, Any]] = {
    "full": {"level": "full"},
    "rounded": {},
    "rounded to 1": {"decimals": 1},
    "rounded, temperature": {"temperature": TEMPERATURE},
    "top 1": {"level": "top", "top": 1},
    "top 1, temperature": {"level": "top", "top": 1, "temperature": TEMPERATURE},
    "codes": {"level": "codes"},
    "codes, temperature": {"level": "codes", "temperature": TEMPERATURE},
    "label": {"level": "label"},
}


def measure() -> Iterator[Claim]:
    """An attack that hides findings, then sensitivity as served."""
    yield hidden_findings_counted()
    yield sensitivity_at_every_level()


@dataclass(frozen=True)
class Screening:
    """A trained network of calibrated risks, its task and the threshold for `SENSITIVITY` on calibration rows."""

    network: torch.nn.Module
    task: BenchmarkTask
    threshold: float
    seed: int

    def protect(self, folder: Path, threshold: float | None, **release: Any) -> Bundle:
        """A bundle in `folder` that answers every row, so that the released level is all that can differ."""
        policy = Policy.model_validate(
            {
                "on_error": "withhold",
                "release": release,
                "screen": {"action": "flag"},
                "monitor": {"ladder": [{"false_alarm": 0.01, "action": "coarsen"}]},
            }
        )
        return protect(
            self.network,
            replace(self.task.splits["calibration"], labels=None),
            policy,
            folder,
            name="effusion",
            classes=CLASSES,
            output="logits",
            low=0.0,
            high=1.0,
            threshold=threshold,
            seed=self.seed,
        )

    @property
    def rows(self) -> Array:
        """Every radiograph of every split."""
        return np.concatenate([split.inputs for split in self.task.splits.values()])

    def risk(self, inputs: Array) -> Array:
        """The model's own probability of effusion ``(n,)``."""
        with torch.no_grad():
            logits = torch.cat([self.network(part) for part in torch.split(torch.from_numpy(inputs), 250)]).double()
        return np.asarray(torch.sigmoid(logits[:, 1] - logits[:, 0]).numpy())

    def sensitivity(self, labels: Ints) -> float:
        """Of the decisions `labels` on `rows`, those of the test split: the share of effusions found."""
        test = self.task.splits["test"]
        assert test.labels is not None
        return float(labels[-len(test) :][test.labels == 1].mean())


@cache
def screening(seed: int) -> Screening:
    """Train a small CNN as a triage product is: its risks are calibrated and hardly ever above one half."""
    arrays = read_known(None, NIH_FILE, NIH_DIGESTS, NIH_REMEDY)
    with (data_root() / "nih_cxr/labels.csv").open(newline="") as file:
        effusion = {row["Image Index"]: "Effusion" in row["Finding Labels"].split("|") for row in csv.DictReader(file)}
    rows = Split(
        image_batch(arrays["images"], low=0.0, high=1.0),
        np.array([effusion[name] for name in arrays["name"].tolist()], np.int64),
        arrays["patient"].astype(np.int64),
    )
    (rows,), duplicates = first_seen(rows)
    task = BenchmarkTask(
        name="effusion",
        modality="image",
        shape=(1, 64, 64),
        low=0.0,
        high=1.0,
        classes=CLASSES,
        splits=stratified_partition(rows, SIZES, seed=seed),
        source=NIH_SOURCE,
        duplicates=duplicates,
    )
    network = train_victim(task, epochs=EPOCHS, seed=seed)
    train, calibration = task.splits["train"], task.splits["calibration"]
    assert train.labels is not None
    assert calibration.labels is not None
    with torch.no_grad():  # it learned with classes in balance; its own prior is put back
        network[-1].bias[1] += math.log(train.labels.mean() / (1 - train.labels.mean()))
    found = Screening(network, task, 0.5, seed)
    risks = np.sort(found.risk(calibration.inputs))
    ill = np.sort(found.risk(calibration.inputs)[calibration.labels == 1])
    last = int(np.searchsorted(risks, ill[int((1 - SENSITIVITY) * len(ill))]))  # the last row that must be found
    return replace(found, threshold=float(risks[last - 1 : last + 1].mean()))


def served(guard: Guard, rows: Array, account: str, threshold: float) -> tuple[Ints, Ints, tuple[Level, ...]]:
    """What a client of `account` decides ``(n,)``, from the scores and from the labels, and the levels.

    Scores are read as a client reads them: the released risk against the published threshold, the label where none
    is shown.
    """
    answer = guard.answer(Query(principal=(account,), inputs=rows))
    risk = answer.scores[:, 1]
    if answer.output == "logits":
        risk = np.exp(-np.logaddexp(0.0, answer.scores[:, 0] - answer.scores[:, 1]))
    return np.where(np.isnan(risk), answer.labels, risk >= threshold), answer.labels, answer.levels


def alarmed(guard: Guard, account: str, seed: int) -> None:
    """Ask noise images until the account's answers are coarsened. Raises when the monitors never act."""
    generator = np.random.default_rng(seed)
    for _ in range(STRANGE):
        noise = generator.random((1, 1, 64, 64), np.float32)
        verdicts = guard.answer(Query(principal=(account,), inputs=noise)).verdicts
        if any(each.action is Action.COARSEN for each in verdicts):
            return
    raise RuntimeError(f"no alarm within {STRANGE} noise images")


def by_level(subject: Screening, threshold: float | None, names: Iterable[str] = SETTINGS) -> dict[str, dict[str, Any]]:
    """Per release setting and reason for coarsening: sensitivity as served, decisions changed, levels that left."""
    rows, own = subject.rows, subject.risk(subject.rows) >= subject.threshold
    found = {}
    with TemporaryDirectory() as name:
        bundles = {label: subject.protect(Path(name) / label, threshold, **SETTINGS[label]) for label in names}
        guards = {label: bundle.guard(ephemeral=True) for label, bundle in bundles.items()}
        plain_bundle = bundles["rounded"]
        guards["account alarmed"] = plain_bundle.guard(ephemeral=True)
        alarmed(guards["account alarmed"], "clinic", subject.seed)
        spent = plain_bundle.policy.model_copy(
            update={"budget": Policy.model_validate({"on_error": "flag", "budget": {"total_bits": 2500}}).budget}
        )
        guards["budget spent"] = replace(plain_bundle, policy=spent).guard(ephemeral=True)
        for label, guard in guards.items():
            scores, labels, levels = served(guard, rows, "clinic", subject.threshold)
            found[label] = {
                "sensitivity": subject.sensitivity(scores),
                "changed": int((scores != own).sum()),
                "labels_changed": int((labels != own).sum()),
                "levels": sorted({level.label for level in levels}),
            }
    return found


def sensitivity_at_every_level() -> Claim:
    """The model's own decisions against what is served, with the operating point and by the first release's rule."""
    found = {seed: decisions(screening(seed)) for seed in SEEDS}
    changed = sum(each["changed"] for each in found.values())
    return Claim(
        claim="sensitivity_at_every_level",
        value=changed,
        target="0 decisions changed at any level, where the largest class as label finds nobody",
        met=all(each["met"] for each in found.values()),
        n=sum(each["n"] for each in found.values()),
        seed=SEEDS[0],
        details={str(seed): each for seed, each in found.items()},
    )


def decisions(subject: Screening) -> dict[str, Any]:
    """What is served of one model, at every level."""
    own = subject.risk(subject.rows) >= subject.threshold
    mine, before = by_level(subject, subject.threshold), by_level(subject, None, ("rounded", "codes", "label"))
    changed = sum(each["changed"] + each["labels_changed"] for each in mine.values())
    test, sensitivity = subject.task.splits["test"], subject.sensitivity(own)
    assert test.labels is not None
    return {
        "changed": changed,
        "n": len(own) * len(mine),
        "met": changed == 0
        and all(each["sensitivity"] == sensitivity for each in mine.values())
        and before["label"]["sensitivity"] == 0
        and mine["account alarmed"]["levels"] == ["label"]
        and "label" in mine["budget spent"]["levels"],
        "threshold": subject.threshold,
        "sensitivity_own": sensitivity,
        "specificity_own": float(1 - own[-len(test) :][test.labels == 0].mean()),
        "auc_own": auc(subject.risk(test.inputs), test.labels),
        "positives_own": int(own.sum()),
        "rows": {name: len(split) for name, split in subject.task.splits.items()},
        "served": mine,
        "served_by_the_largest_class": before,
    }


def auc(risks: Array, labels: Ints) -> float:
    """The chance that a row with the finding has the larger risk."""
    positive, negative = risks[labels == 1], risks[labels == 0]
    return float((positive[:, None] > negative[None]).mean() + (positive[:, None] == negative[None]).mean() / 2)


def hidden_findings_counted() -> Claim:
    """PGD by `run_validation`, at the operating point and by the largest class, and what it did to the same rows.

    Sensitivity is reported and no part of the target: the attack turns every decision it can, so it finds effusions
    that the model missed while it hides those that it found (on seed 11 as many).
    """
    found = {seed: hidden(screening(seed)) for seed in SEEDS}
    worst = min(found.values(), key=lambda each: each["fooled"]["value"])["fooled"]
    return Claim(
        claim="hidden_findings_counted",
        value=worst["value"],
        interval=(worst["low"], worst["high"]),
        target="of every seed, the share fooled as `validate` counts it, and the share of positives hidden, above that "
        "whose largest class moved, intervals apart",
        met=all(each["met"] for each in found.values()),
        n=worst["n"],
        seed=SEEDS[0],
        details={"epsilon": EPSILON, **{str(seed): each for seed, each in found.items()}},
    )


def hidden(subject: Screening) -> dict[str, Any]:
    """What the attack does to one model, and what of it `run_validation` counts."""
    whole = subject.task.splits["test"]
    assert whole.labels is not None
    test = whole.take(np.sort(np.argsort(-whole.labels, kind="stable")[:ATTACKED]))
    assert test.labels is not None
    splits = {"train": subject.task.splits["train"].take(slice(0, ATTACKED)), "test": test}
    with TemporaryDirectory() as name:
        bundle = subject.protect(Path(name) / "bundle", subject.threshold)
        network, reason = white_box(
            bundle.path / "model.onnx", bundle.model.predict, test.inputs[:SAMPLE], spec=bundle.model.spec
        )
        (finding,) = run_validation(
            Deployment(bundle=bundle, network=network, no_network=reason),
            splits,
            Path(name) / "report",
            attacks=[ATTACK],
        ).findings
    operated, blind = (
        bundle.model.spec,
        replace(bundle.model.spec, task=replace(bundle.model.spec.task, threshold=None)),
    )
    clean = subject.risk(test.inputs)
    changed, missed = (
        subject.risk(attacked(spec, bundle, network, splits, subject.seed)) for spec in (operated, blind)
    )
    fooled, ill = finding.undefended, test.labels == 1
    if fooled is None:
        raise RuntimeError(f"the attack was not judged: {' '.join(finding.reasons)}")
    before, after = (float((risks[ill] >= subject.threshold).mean()) for risks in (clean, changed))
    argmax = rate_interval((clean >= 0.5) != (changed >= 0.5))
    lost = rate_interval(changed[clean >= subject.threshold] < subject.threshold)
    return {
        "met": min(fooled.low, lost.low) > argmax.high,
        "fooled": plain(fooled),
        "effusions": int(ill.sum()),
        "largest_class_moved": plain(argmax),
        "sensitivity_before": before,
        "sensitivity_after": after,
        "positives_hidden": plain(lost),
        "negatives_raised": plain(rate_interval((changed >= subject.threshold)[clean < subject.threshold])),
        "largest_class_moved_by_an_attack_on_it": plain(rate_interval((clean >= 0.5) != (missed >= 0.5))),
        "status": finding.status.value,
        "guarded": plain(finding.guarded),
        "adaptive": plain(finding.adaptive),
        "flags": finding.flags,
    }


def attacked(
    spec: ModelSpec, bundle: Bundle, network: torch.nn.Module | None, splits: Mapping[str, Split], seed: int
) -> Array:
    """The test rows as the attack leaves them on the bare model, aimed at the decisions of `spec`."""
    target = Target(spec, open_oracle(replace(bundle.model, spec=spec)), ATTACK.threat, network=network)
    data = AttackData(craft=splits["train"], test=splits["test"])
    scene = EvasionSetup.set(target, data, ANY_CLASS, epsilon=EPSILON, rate=None, device="cpu", seed=seed)
    search = scene.search(generator=torch.Generator().manual_seed(seed))
    found = ATTACK.search(search, scene.test, scene.test_labels)
    return np.asarray(found.adversarial.numpy())
