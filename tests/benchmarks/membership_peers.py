"""Membership scores beside LeakPro's, Privacy Meter's and ART's, on the same targets, shadows and splits.

Populations of overfitted models whose rows were drawn by coin: every model is the target once, with all others as its
shadows, so each attacker sees the same logits. Nothing was tuned on these targets.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from claim import Claim
from membership_peer_scores import MISSING, Observed, art_scores, leakpro_scores, open_leakpro, privacy_meter_scores
from paired_bootstrap import difference_interval
from populations import ModelPopulation, network_logits, overfitted, shadows_of, train_population

from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.membership.evidence import Evidence
from medward.attacks.membership.pool import joined_rows
from medward.attacks.membership.scores import score_evidence
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError

CLAIMS = ("membership_against_peers",)

SEED, MODELS, ROWS = 0, 16, 800
NAMESAKES = {
    "lira-online": ("LeakPro LiRA online",),
    "lira": ("LeakPro LiRA offline",),
    "rmia-online": ("LeakPro RMIA online",),
    "rmia": ("LeakPro RMIA offline", "Privacy Meter RMIA offline"),
    "base-online": ("LeakPro BASE online",),
}
PEERS = ("LeakPro", "Privacy Meter", "ART")
OWN_BEST, PEERS_OWN = "bavaria-online", ("LeakPro LiRA online",)
T_95 = 2.13  # of Student's t with 15 degrees of freedom
MEASURES = ("auc", "tpr_at_1_percent")


def measure() -> Iterator[Claim]:
    """One claim; needs the peers of `membership_peer_scores`, named in MEDWARD_PEERS, and MEDWARD_DATA."""
    sys.path += filter(None, os.environ.get("MEDWARD_PEERS", "").split(os.pathsep))
    try:
        open_leakpro()
        art = version("adversarial-robustness-toolbox")
        __import__("art"), __import__("modules.mia.attacks.rmia")
    except ModuleNotFoundError as error:
        raise MedwardError(MISSING.format(error=error, separator=os.pathsep)) from None
    torch.set_num_threads(1)
    scored = {name: _scored(*subject()) for name, subject in SUBJECTS.items()}
    found = {
        name: {each: _figures(scores, truth) for each, scores in attacks.items()}
        for name, (attacks, truth) in scored.items()
    }
    behind, lower, differences = [], [], []
    for name, runs in found.items():
        attacks, truth = scored[name]
        for ours, peers in rivals_of(runs).items():
            for peer in peers:
                ends = difference_interval(attacks[ours], attacks[peer], truth, roc_figures, seed=SEED)
                for place, measure in enumerate(MEASURES):
                    gap = np.array(runs[ours])[:, place] - np.array(runs[peer])[:, place]
                    said = f"{name}: {ours} {gap.mean():+.3f} beside {peer} ({measure})"
                    upper = gap.mean() + T_95 * gap.std(ddof=1) / math.sqrt(len(gap))
                    low, high = ends[:, place]
                    differences.append(f"{said}, by candidate {low:+.3f} to {high:+.3f}")
                    lower += [said] if gap.mean() < 0 else []
                    behind += [said] if upper < 0 else []
    yield Claim(
        claim="membership_against_peers",
        value=len(behind),
        target="0 measures on which LiRA, RMIA, BASE (beside their namesakes), BaVarIA (beside LiRA), our best (beside "
        "their best) fall behind, by a paired 95 % interval over targets",
        met=not behind,
        n=MODELS * len(found),
        seed=SEED,
        details={
            "subjects": {name: _table(runs) for name, runs in found.items()},
            "behind": behind,
            "below_on_average": lower,
            "differences_with_95_percent_intervals": differences,
            "targets_per_subject": MODELS,
            "peers": {"ART": art, "LeakPro": "c47752fa", "Privacy Meter": "e384af8"},
        },
    )


def rivals_of(runs: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Whom each of our attacks stands beside: its namesakes, and the peers' best for our best."""
    rivals = {OWN_BEST: PEERS_OWN, **NAMESAKES}
    ours, theirs = best_of(runs, ours=True), best_of(runs, ours=False)
    return rivals | {ours: tuple(dict.fromkeys((*rivals.get(ours, ()), theirs)))}


def best_of(runs: Mapping[str, Any], *, ours: bool) -> str:
    """The attack of the largest mean AUC, of ours or of the peers."""
    names = [name for name in runs if name.startswith(PEERS) != ours]
    return max(names, key=lambda name: float(np.mean([auc for auc, _ in runs[name]])))


def _table(runs: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Means and spreads over targets."""
    return {
        name: {
            "auc": statistics.mean(auc for auc, _ in each),
            "auc_spread": statistics.stdev(auc for auc, _ in each),
            "tpr_at_1_percent": statistics.mean(rate for _, rate in each),
            "tpr_spread": statistics.stdev(rate for _, rate in each),
        }
        for name, each in sorted(runs.items())
    }


def _pneumonia() -> tuple[ModelPopulation, Split]:
    """The small CNN on 400 of 800 images, 30 epochs without augmentation."""
    task = load_task("pneumoniamnist", seed=SEED)
    pool = joined_rows([task.splits["train"], task.splits["calibration"]])
    return train_population(pool.take(np.arange(ROWS)), MODELS, overfitted(30), seed=SEED), task.splits["holdout"]


def _wdbc() -> tuple[ModelPopulation, Split]:
    """An MLP of 64 on half of 369 tumours, 150 epochs; 200 others are the population."""
    task = load_task("wdbc", seed=SEED)
    rows = joined_rows(list(task.splits.values()))
    order = np.random.default_rng(SEED).permutation(len(rows))
    train = overfitted(150, hidden=64)
    return train_population(rows.take(np.sort(order[200:])), MODELS, train, seed=SEED), rows.take(order[:200])


SUBJECTS = {"pneumoniamnist, CNN": _pneumonia, "wdbc, MLP": _wdbc}


def _scored(population: ModelPopulation, others: Split) -> tuple[dict[str, Any], Any]:
    """Scores ``(targets, n)`` of each attack, NaN where it was fitted, and the truth of each target."""
    z_logits = np.stack([network_logits(network, others.inputs) for network in population.networks])
    z_labels = np.asarray(others.labels, np.int64)
    found: dict[str, list[Any]] = {}
    for target in range(MODELS):
        rest = shadows_of(target, MODELS)
        seen = Observed(
            labels=population.labels,
            target=population.logits[target],
            shadows=population.logits[rest],
            shadow_members=population.members[rest],
            truth=population.members[target],
            population_labels=z_labels,
            population_target=z_logits[target],
            population_shadows=z_logits[rest],
        )
        fitted, left = art_scores(seen, SEED + target)
        scored = {**leakpro_scores(seen), **privacy_meter_scores(seen), **score_evidence(evidence_of(seen))}
        scored |= {name: np.where(left, scores, np.nan) for name, scores in fitted.items()}
        for name, scores in scored.items():
            found.setdefault(name, []).append(scores)
    return {name: np.stack(each) for name, each in found.items()}, population.members


def _figures(scores: Any, truth: Any) -> list[tuple[float, float]]:
    """AUC and TPR at 1 % on every target."""
    known = ~np.isnan(scores)
    return [roc_figures(scores[target, rows], truth[target, rows]) for target, rows in enumerate(known)]


def evidence_of(seen: Observed) -> Evidence:
    """What our scores read of the same logits."""
    population = Evidence(
        phi=log_odds_of(seen.population_target, seen.population_labels),
        shadows=log_odds_of(seen.population_shadows, seen.population_labels),
        included=np.zeros(seen.population_shadows.shape[:2], bool),
    )
    return Evidence(
        phi=log_odds_of(seen.target, seen.labels),
        shadows=log_odds_of(seen.shadows, seen.labels),
        included=seen.shadow_members,
        population=population,
    )


def log_odds_of(logits: Any, labels: Any) -> Any:
    """log p_y - log of the rest ``(..., n)``, from logits in double precision."""
    true = np.eye(logits.shape[-1], dtype=bool)[labels]
    own = np.where(true, logits, 0).sum(axis=-1)
    return own - np.logaddexp.reduce(np.where(true, -np.inf, logits), axis=-1)


def roc_figures(scores: Any, truth: Any) -> tuple[float, float]:
    """AUC, and the true positive rate at a false positive rate of at most 1 %, read from the scores themselves."""
    from sklearn.metrics import roc_auc_score, roc_curve

    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return float(roc_auc_score(truth, scores)), float(true[false <= 0.01].max())
