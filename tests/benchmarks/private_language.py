"""Low-rank fine-tuning of a report model with differential privacy: perplexity kept, and attacks beside their ceiling.

The base model was trained on other patients' reports; each report of the cohort is its patient's one row, and a coin
said who is in it. Rates were tuned on reports that are no candidates.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from claim import Claim
from membership_language import CONTEXT, Reports, prepare_reports
from private_training import rate_figures
from torch import nn

from medward.attacks.membership.language.attack import score_texts
from medward.attacks.membership.language.readings import LanguageHoldings
from medward.guard.harden.private.parts import merged_part, select_part
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.harden.private.training import train_privately
from medward.guard.statistics.privacy_accounting import true_positive_ceiling

CLAIMS = ("private_language_within_ceilings",)

SEED, SEEDS, LENGTH, RANK = 0, 3, CONTEXT // 3, 8
EPSILONS = (1.0, 3.0, 8.0)
LEARNING_RATES = {1.0: 0.01, 3.0: 0.03, 8.0: 0.1}  # more noise bears shorter steps
SCORES = ("loss", "zlib", "min-k", "min-k++", "reference", "wbc")
RATES = (0.01, 0.1)


def measure() -> Iterator[Claim]:
    """One claim: every score at every epsilon, three trainings each."""
    torch.set_num_threads(1)
    reports = prepare_reports(SEED, base_epochs=1)
    cells: dict[str, Any] = {"base model": {"perplexity": perplexity(reports.base, reports, reports.others)}}
    cells["without privacy"] = _cell(reports, [_plain(reports, seed) for seed in range(SEEDS)], {})
    for epsilon in EPSILONS:
        runs = [fine_tuned_privately(reports, epsilon) for _ in range(SEEDS)]
        mechanism = runs[0][1].plan.mechanism
        ceilings = {str(rate): true_positive_ceiling(mechanism, rate) for rate in RATES}
        cells[f"epsilon {epsilon:g}"] = {
            **_cell(reports, [model for model, _ in runs], ceilings),
            "epsilon": runs[0][1].epsilon,
            "delta": runs[0][1].plan.delta,
        }
    above = [
        f"{name}: {score} {figures[rate]['low']:.3f} > {cell['ceilings'][rate]:.3f} at {rate}"
        for name, cell in cells.items()
        if cell.get("ceilings")
        for score, figures in cell["scores"].items()
        for rate in figures
        if figures[rate]["low"] > cell["ceilings"][rate]
    ]
    yield Claim(
        claim=CLAIMS[0],
        value=len(above),
        target="0 scores whose true positive rate exceeds, by its 95 % lower end, the ceiling of the f-DP curve",
        met=not above,
        n=len(reports.members) + len(reports.others),
        seed=SEED,
        details={"cells": cells, "above": above, "trainings_each": SEEDS},
    )


def fine_tuned_privately(reports: Reports, epsilon: float, **settings: Any) -> tuple[Any, Any]:
    """The base model with low-rank weights trained on the members, and the private run."""
    module = select_part(copy.deepcopy(reports.base), "lora", rank=RANK, layers=())
    chosen = PrivateSettings(target_epsilon=epsilon, **{"rate": LEARNING_RATES[epsilon], "epochs": 10.0, **settings})
    run = train_privately(module, encoded(reports, reports.members), None, text_losses, chosen)
    return merged_part(run.module), run


def encoded(reports: Reports, texts: list[str]) -> dict[str, torch.Tensor]:
    """Token ids and what is no padding, each ``(n, LENGTH)``."""
    ids, mask = torch.zeros(2, len(texts), LENGTH, dtype=torch.long)
    for row, text in enumerate(texts):
        tokens = reports.tokenizer(text)["input_ids"][:LENGTH]
        ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
    return {"ids": ids, "mask": mask}


def text_losses(module: nn.Module, rows: Any) -> torch.Tensor:
    """The mean loss ``(n,)`` of each text's tokens."""
    logits = module(input_ids=rows["ids"], attention_mask=rows["mask"]).logits[:, :-1]
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), rows["ids"][:, 1:], reduction="none")
    real = rows["mask"][:, 1:]
    return (losses * real).sum(dim=1) / real.sum(dim=1)


@torch.no_grad()
def perplexity(model: Any, reports: Reports, texts: list[str]) -> float:
    """The exponential of the mean loss of texts."""
    rows = encoded(reports, texts)
    losses = [text_losses(model, {k: v[i : i + 64] for k, v in rows.items()}) for i in range(0, len(texts), 64)]
    return math.exp(float(torch.cat(losses).mean()))


def _plain(reports: Reports, seed: int) -> Any:
    """The same low-rank weights, trained without privacy for as many passes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = select_part(copy.deepcopy(reports.base), "lora", rank=RANK, layers=()).train()
        rows = encoded(reports, reports.members)
        optimiser = torch.optim.Adam([each for each in module.parameters() if each.requires_grad], 5e-3)
        for _ in range(10):
            for index in torch.split(torch.randperm(len(reports.members)), 32):
                optimiser.zero_grad()
                text_losses(module, {name: each[index] for name, each in rows.items()}).mean().backward()
                optimiser.step()
    return merged_part(module).eval()


def _cell(reports: Reports, models: list[Any], ceilings: dict[str, float]) -> dict[str, Any]:
    texts = [*reports.members, *reports.others]
    truth = np.arange(len(texts)) < len(reports.members)
    held = LanguageHoldings(reference=reports.base)
    runs: dict[str, list[Any]] = {}
    for model in models:
        scores = score_texts(model, reports.tokenizer, texts, holdings=held, names=SCORES, seed=SEED)
        for name, values in scores.items():
            runs.setdefault(name, []).append((np.asarray(values), truth))
    each = [perplexity(model, reports, reports.others) for model in models]
    return {
        "perplexity": statistics.mean(each),
        "each": each,
        "ceilings": ceilings,
        "scores": {name: {str(rate): rate_figures(found, rate) for rate in RATES} for name, found in runs.items()},
    }
