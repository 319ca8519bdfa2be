"""What private training and shadow models cost, each against the plain way in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from claim import Claim
from populations import overfitted
from torch import nn

from medward.attacks.benchmarks.networks.architectures import build_network
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.learners.processes import train_all
from medward.attacks.learners.table import learner_of
from medward.attacks.membership.stacked import fit_stacked
from medward.guard.data.split import Split
from medward.guard.harden.private.hazards import mend_normalisation
from medward.guard.harden.private.parts import select_part
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.harden.private.training import train_privately
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

CLAIMS = ("private_step_lora", "private_step_cnn", "stacked_shadows", "parallel_shadows")

SEED, ROUNDS, STEPS = 0, 5, 40
Losses = Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]


def measure() -> Iterator[Claim]:
    """Four ratios of seconds, medians over rounds in turn."""
    torch.set_num_threads(1)
    yield _step("private_step_lora", _lora, 1.3)
    yield _step("private_step_cnn", _cnn, 2.0)
    yield _stacked()
    yield _parallel()


def _step(
    name: str, subject: Callable[[], tuple[nn.Module, dict[str, torch.Tensor], Losses, int]], most: float
) -> Claim:
    """Seconds of a private step over those of a plain one, at the same batch."""
    ratios = []
    for _ in range(ROUNDS):
        module, rows, losses, batch = subject()
        ratios.append(_private_seconds(module, rows, losses, batch) / _plain_seconds(*subject()))
    value = statistics.median(ratios)
    return Claim(
        claim=name,
        value=value,
        target=f"at most {most} times a plain step",
        met=value <= most,
        n=ROUNDS,
        seed=SEED,
        interval=(min(ratios), max(ratios)),
        details={"ratios": ratios, "steps": STEPS},
    )


def _private_seconds(module: nn.Module, rows: dict[str, torch.Tensor], losses: Losses, batch: int) -> float:
    """Seconds of a step of `train_privately`, from the end of the first pass on."""
    count = len(next(iter(rows.values())))
    settings = PrivateSettings(
        target_epsilon=8, epochs=STEPS * batch / count, batch=batch, noise_seed=SEED, rows_at_once=4 * batch
    )
    stamps: list[tuple[int, float]] = []
    train_privately(
        module,
        rows,
        None,
        losses,
        settings,
        progress=lambda done, total, epsilon: stamps.append((done, time.perf_counter())),
    )
    (first, began), (last, ended) = stamps[0], stamps[-1]
    return (ended - began) / (last - first)


def _plain_seconds(module: nn.Module, rows: dict[str, torch.Tensor], losses: Losses, batch: int) -> float:
    module.train()
    optimiser = torch.optim.Adam([each for each in module.parameters() if each.requires_grad], 2e-3)
    count = len(next(iter(rows.values())))
    began = time.perf_counter()
    for _ in range(STEPS):
        index = torch.randint(count, (batch,))
        optimiser.zero_grad()
        losses(module, {name: each[index] for name, each in rows.items()}).mean().backward()
        optimiser.step()
    return (time.perf_counter() - began) / STEPS


def _cnn() -> tuple[nn.Module, dict[str, torch.Tensor], Losses, int]:
    torch.manual_seed(SEED)
    network, _ = mend_normalisation(build_network("cnn", (1, 28, 28), 2), fresh=True)
    rows = {"x": torch.rand(640, 1, 28, 28), "y": torch.randint(0, 2, (640,))}
    return network, rows, _class_losses, 64


def _lora() -> tuple[nn.Module, dict[str, torch.Tensor], Losses, int]:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=500, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256
    )
    module = select_part(BertForSequenceClassification(config), "lora", rank=8, layers=())
    rows = {"ids": torch.randint(0, 500, (160, 64)), "y": torch.randint(0, 2, (160,))}
    return module, rows, _text_losses, 16


def _class_losses(module: nn.Module, rows: dict[str, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(module(rows["x"]), rows["y"], reduction="none")


def _text_losses(module: nn.Module, rows: dict[str, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(module(input_ids=rows["ids"]).logits, rows["y"], reduction="none")


def _stacked() -> Claim:
    """Sixteen table networks at once over one after the other, equal to rounding."""
    rng = np.random.default_rng(SEED)
    spec = ModelSpec(
        name="table", modality="tabular", shape=(64,), task=Classification(classes=("a", "b"), output="logits")
    )
    parts = [Split(rng.normal(size=(400, 64)).astype(np.float32), rng.integers(0, 2, 400)) for _ in range(16)]
    learner, seeds = learner_of(spec), list(range(16))

    def one_by_one() -> list[nn.Module]:
        return [
            learner.fit(spec, part.inputs, learner.known(np.asarray(part.labels)), epochs=15, seed=seed)
            for part, seed in zip(parts, seeds, strict=True)
        ]

    ratios = _ratios(one_by_one, partial(fit_stacked, spec, parts, epochs=15, seeds=seeds))
    return _faster("stacked_shadows", ratios, 2.5, "sixteen MLPs one after the other")


def _parallel() -> Claim:
    """Sixteen CNN shadows in processes over one after the other."""
    task = load_task("pneumoniamnist", seed=SEED)
    parts = [task.splits["train"].take(np.random.default_rng(each).permutation(1000)[:400]) for each in range(16)]
    train = ShadowRecipe(epochs=20)
    ratios = _ratios(
        partial(train_all, train, parts, range(16), processes=1),
        partial(train_all, train, parts, range(16), processes=2, worth=0.0),
        rounds=2,
    )
    return _faster("parallel_shadows", ratios, 1.0, "sixteen CNNs one after the other")


class ShadowRecipe:
    """A recipe that another process can import."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def __call__(self, rows: Split, seed: int) -> nn.Module:
        """Train one CNN."""
        return overfitted(self.epochs)(rows, seed)


def _ratios(slow: Callable[[], object], fast: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    return [_seconds(slow) / _seconds(fast) for _ in range(rounds)]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _faster(name: str, ratios: list[float], least: float, what: str) -> Claim:
    value = statistics.median(ratios)
    return Claim(
        claim=name,
        value=value,
        target=f"at least {least} times as fast as {what}",
        met=value >= least if least > 1 else value > least,
        n=len(ratios),
        seed=SEED,
        interval=(min(ratios), max(ratios)),
        details={"ratios": ratios},
    )
