"""Training report victims: the tower is warmed up on the facts of images, then the whole network learns to write.

Writing is learned by the cross-entropy of each token of the reference given those before it. Each time an image is seen
it is augmented, and where `reworded` its report is in the words of another author. Images of rare findings are drawn
more often: greedy decoding says what is likelier than not, and would never speak of what is rare.

A training that was stopped goes on from its last epoch, and ends with the same weights as one that was not.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import cos, pi
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.benchmarks.reports.facts import AGE_GROUPS, RADIOGRAPH_VIEWS, ImageFacts
from medward.attacks.benchmarks.reports.report_data import ReportData, ReportSplit
from medward.attacks.benchmarks.reports.report_loss import written_loss
from medward.attacks.benchmarks.reports.report_networks import (
    ReporterKind,
    ReporterSize,
    build_reporter,
    prompt_of,
)
from medward.attacks.learners.report_tokenizer import report_tokenizer
from medward.guard.errors import MedwardError
from medward.guard.files import write_durably
from medward.guard.harden.robust.augment import augment_images, shift_images
from medward.guard.models.greedy_decoding import PretrainedWriter

_WARM_UP = "warm-up"
_RARE = 0.08  # a share below which a finding is too rare to be learned, however often it is drawn
_RISING = 0.15  # the share of a stage in which its rate rises
Sight = Literal["images", "shuffled", "blank"]
"""What a network sees in training: the images, those of others (a no-image baseline), or nothing (another)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterTraining:
    """A reporter's training: epochs of warming up and of writing, each at a rate that rises to `rate` and falls.

    To write, images with findings are drawn in proportion to the inverse share of the rarest one to the power of
    `balance`: 0 draws all alike, as warming up does. While the network learns to write, its tower, which is warm by
    then, learns at `tower_share` of the rate.
    """

    warm_up: int = 50
    epochs: int = 12
    rate: float = 2e-3
    tower_share: float = 0.1
    batch: int = 16
    balance: float = 1.0
    reworded: bool = True
    sight: Sight = "images"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse an unknown sight and counts below one."""
        if self.sight not in get_args(Sight):
            raise MedwardError(f"sight: must be one of {', '.join(get_args(Sight))}, got {self.sight!r}")
        for name, least in {"warm_up": 0, "epochs": 1, "batch": 1}.items():
            if (value := getattr(self, name)) < least:
                raise MedwardError(f"{name}: must be {least} or more, got {value}")


def train_reporter(
    data: ReportData,
    kind: ReporterKind,
    training: ReporterTraining | None = None,
    *,
    size: ReporterSize | None = None,
    checkpoint: Path | None = None,
) -> PretrainedWriter:
    """A network of `kind` trained on "train"; `checkpoint` is a file from which a stopped training goes on.

    The same seed gives the same weights on the same machine with as many threads. Raises `MedwardError` for a
    checkpoint of another training.
    """
    training = training or ReporterTraining()
    wordings = [[author.report(facts) for author in data.authors] for facts in data.splits["train"].facts]
    tokenizer = report_tokenizer(chain.from_iterable(wordings))
    writer = build_reporter(kind, data.shape, tokenizer, size=size, seed=training.seed)
    named = repr((data.name, kind, training, size))
    for stage in _stages(data, kind, training, writer, wordings):
        _learn(stage, writer, training, checkpoint, named)
    writer.network.eval()
    return writer


def seen_images(split: ReportSplit, training: ReporterTraining) -> ReportSplit:
    """The split as the network sees it: with its images, with those of other rows, or with black ones."""
    if training.sight == "images":
        return split
    images = np.zeros_like(split.images)
    if training.sight == "shuffled":
        images = split.images[np.random.default_rng([training.seed, 3]).permutation(len(split))]
    return ReportSplit(images=images, facts=split.facts, reports=split.reports, patients=split.patients)


def sampling_weights(facts: Sequence[ImageFacts], balance: float) -> Tensor:
    """How often an image is drawn ``(n,)``: the inverse share of its rarest finding, 8 % at least, to a power.

    Images with a finding are drawn as often as before in all, and so are those without: else what is rare would make
    what it comes with seem likelier than it is.
    """
    shares = {name: np.mean([name in each.present for each in facts]) for name in _all_present(facts)}
    some = np.array([bool(each.present) for each in facts])
    weights = np.ones(len(facts))
    rarest = [min(shares[name] for name in each.present) for each in facts if each.present]
    weights[some] = np.maximum(rarest, _RARE) ** -balance
    weights[some] /= weights[some].mean() if some.any() else 1.0
    return torch.from_numpy(weights)


def rate_share(step: int, total: int) -> float:
    """The share of the peak rate at a step of so many: it rises, then falls to nothing along a cosine."""
    rising = max(1, round(_RISING * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + cos(pi * (step - rising) / max(1, total - rising)))


def fact_targets(facts: Sequence[ImageFacts], findings: Sequence[str]) -> Tensor:
    """What an image can be asked for, as 0 or 1 ``(n, K)``: each finding, each view, each age group."""
    rows = [
        [
            *(name in each.present for name in findings),
            *(each.view == view for view in RADIOGRAPH_VIEWS),
            *(each.age == age for age in AGE_GROUPS),
        ]
        for each in facts
    ]
    return torch.tensor(rows, dtype=torch.float32)


def _all_present(facts: Sequence[ImageFacts]) -> frozenset[str]:
    return frozenset().union(*(each.present for each in facts))


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage of training: what is learned for how many epochs, at shares of the rate, by which loss of rows that
    are drawn by their weights.
    """

    name: str
    epochs: int
    weights: Tensor
    groups: tuple[tuple[list[nn.Parameter], float], ...]
    loss: Callable[[Tensor, torch.Generator], Tensor]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is learned."""
        return [each for group, _ in self.groups for each in group]


def _stages(
    data: ReportData,
    kind: ReporterKind,
    training: ReporterTraining,
    writer: PretrainedWriter,
    wordings: list[list[str]],
) -> list[_Stage]:
    """Warming up, then writing."""
    train = seen_images(data.splits["train"], training)
    images = torch.from_numpy(train.images)
    targets = fact_targets(train.facts, data.findings)
    placed = torch.tensor([bool(each.places) for each in train.facts])[:, None, None, None]
    tower, prompt = writer.tower, prompt_of(kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        head = nn.Linear(writer.vision_states(images[:1]).shape[-1], targets.shape[1])

    def augmented(rows: Tensor, draws: torch.Generator) -> Tensor:
        plain = images[rows]
        return torch.where(placed[rows], shift_images(plain, draws), augment_images(plain, draws))

    def warm_up(rows: Tensor, draws: torch.Generator) -> Tensor:
        seen = tower(augmented(rows, draws)).last_hidden_state.mean(dim=1)
        return nn.functional.binary_cross_entropy_with_logits(head(seen), targets[rows])

    def writing(rows: Tensor, draws: torch.Generator) -> Tensor:
        reports = [train.reports[row] for row in rows.tolist()]
        if training.reworded:
            authors = torch.randint(len(data.authors), (len(rows),), generator=draws).tolist()
            reports = [wordings[row][author] for row, author in zip(rows.tolist(), authors, strict=True)]
        return written_loss(writer, augmented(rows, draws), prompt, reports)

    alike = sampling_weights(train.facts, 0.0)
    seeing = list(tower.parameters())
    known = set(map(id, seeing))
    telling = [each for each in writer.network.parameters() if id(each) not in known]
    return [
        _Stage(_WARM_UP, training.warm_up, alike, ((seeing, 1.0), (list(head.parameters()), 1.0)), warm_up),
        _Stage(
            "writing",
            training.epochs,
            sampling_weights(train.facts, training.balance),
            ((telling, 1.0), (seeing, training.tower_share)),
            writing,
        ),
    ]


def _learn(
    stage: _Stage,
    writer: PretrainedWriter,
    training: ReporterTraining,
    checkpoint: Path | None,
    named: str,
) -> None:
    """Run the epochs of a stage that are yet to be done, each with draws of its own, and keep the state after each."""
    if stage.epochs == 0:
        return
    steps = max(1, len(stage.weights) // training.batch)
    groups = [{"params": group, "lr": share * training.rate} for group, share in stage.groups]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(rate_share, total=stage.epochs * steps))
    state = {"optimiser": optimiser, "schedule": schedule}
    for epoch in range(_restored(checkpoint, stage, state, named), stage.epochs):
        draws = torch.Generator().manual_seed(zlib.crc32(f"{training.seed} {stage.name} {epoch}".encode()))
        writer.network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draws.initial_seed())  # of dropout
            for _ in range(steps):
                rows = torch.multinomial(stage.weights, training.batch, replacement=True, generator=draws)
                optimiser.zero_grad()
                torch.autograd.backward(stage.loss(rows, draws))
                nn.utils.clip_grad_norm_(stage.parameters, 1.0)
                optimiser.step()
                schedule.step()
        if checkpoint is not None:
            _keep(checkpoint, stage, state, {"training": named, "stage": stage.name, "epochs": epoch + 1})


def _keep(checkpoint: Path, stage: _Stage, state: Mapping[str, Any], done: Mapping[str, Any]) -> None:
    """Write what is learned so far, whole or not at all."""
    buffer = io.BytesIO()
    parts = {name: part.state_dict() for name, part in state.items()}
    torch.save({**done, **parts, "parameters": [each.detach() for each in stage.parameters]}, buffer)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    write_durably(checkpoint, buffer.getvalue())


def _restored(checkpoint: Path | None, stage: _Stage, state: Mapping[str, Any], named: str) -> int:
    """How many epochs of a stage are done, after its parameters and state were read back."""
    if checkpoint is None or not checkpoint.is_file():
        return 0
    kept = torch.load(checkpoint, weights_only=True)
    if kept["training"] != named:
        raise MedwardError(f"{checkpoint}: is of another training, {kept['training']}; give another file, or remove it")
    if kept["stage"] != stage.name:
        return stage.epochs if stage.name == _WARM_UP else 0
    with torch.no_grad():
        for parameter, value in zip(stage.parameters, kept["parameters"], strict=True):
            parameter.copy_(value)
    for name, part in state.items():
        part.load_state_dict(kept[name])
    return int(kept["epochs"])
