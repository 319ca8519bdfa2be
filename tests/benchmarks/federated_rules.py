"""Rules of aggregation and crafted updates beside byzfl and byzpy, and how far a small site moves the model.

Both peers count n - f - 1 neighbours in Krum where its paper counts n - f - 2, so Krum is compared with their number.
Neither has FoolsGold, FLTrust, Bulyan, divide-and-conquer or min-max; min-max is compared with the paper's own search.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claim import Claim

from medward.attacks.poisoning.a_little_is_enough import ALittleIsEnough
from medward.attacks.poisoning.inner_product_manipulation import InnerProductManipulation
from medward.attacks.poisoning.mimic import Mimic
from medward.attacks.poisoning.min_max import MinMax
from medward.attacks.poisoning.sign_flip import SignFlip
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.geometry import matrix_geometry, squared_distances
from medward.guard.federated.rules.base import Reference, Rule
from medward.guard.federated.rules.bucketing import bucket_matrix
from medward.guard.federated.rules.centred_clipping import CentredClipping
from medward.guard.federated.rules.coordinate_median import CoordinateMedian
from medward.guard.federated.rules.geometric_median import GeometricMedian
from medward.guard.federated.rules.krum import Krum, krum_order
from medward.guard.federated.rules.norm_clipped_mean import NormClippedMean
from medward.guard.federated.rules.trimmed_mean import TrimmedMean
from medward.guard.federated.rules.weighted_mean import WeightedMean
from medward.guard.federated.update import ClientUpdate
from medward.guard.types import Array

CLAIMS = ("federated_oracles", "federated_large_site")

SEED, DRAWS = 0, 200
CLOSE = 1e-6  # of differences, on updates of length about 10; iterative rules stop at less
MOST_MOVED = 0.05
CLAIMED = 10_000_000  # rows, of a site that has 600
MISSING = (
    "federation peers: {error}; install byzfl==0.0.11 and byzpy==0.1.4 elsewhere and name the folder in MEDWARD_PEERS"
)
Case = tuple[Array, int]
Pairs = dict[str, tuple[Array, Array]]


def measure() -> Iterator[Claim]:
    """Two claims; the first needs byzfl and byzpy in a folder named in MEDWARD_PEERS."""
    yield _large_site()
    yield _oracles()


def _oracles() -> Claim:
    peers = _peers()
    worst: dict[str, float] = {}
    for case in _cases():
        for name, (ours, theirs) in {**_rules(peers, *case), **_attacks(peers, *case)}.items():
            worst[name] = max(worst.get(name, 0.0), float(np.abs(ours - np.asarray(theirs)).max()))
    return Claim(
        claim="federated_oracles",
        value=max(worst.values()),
        target=f"largest difference of a number at most {CLOSE:g}, over all rules and attacks that a peer has",
        met=max(worst.values()) <= CLOSE,
        n=DRAWS,
        seed=SEED,
        details={
            "largest_difference": worst,
            "peers": {"byzfl": "0.0.11", "byzpy": "0.1.4"},
            "krum": "peers count n - f - 1 neighbours, paper and rule n - f - 2; compared with the peers' number",
            "a little is enough": "byzpy takes z of all clients, the paper that of the honest; compared with its z",
            "coordinate median": "byzpy takes the lower of two middle numbers; compared on odd numbers of clients",
            "no peer": ["foolsgold", "fltrust", "bulyan", "divide-and-conquer"],
        },
    )


def _cases() -> Iterator[Case]:
    """Updates (n, d) of unequal length, and how many of them may be malicious."""
    generator = np.random.default_rng(SEED)
    for _ in range(DRAWS):
        clients, size = int(generator.integers(9, 21)), int(generator.integers(2, 60))
        updates = generator.normal(size=(clients, size)) * generator.lognormal(size=(clients, 1))
        yield updates, int(generator.integers(1, (clients - 3) // 2 + 1))


def _rules(peers: dict[str, Any], updates: Array, malicious: int) -> Pairs:
    clients = len(updates)
    share, rows = malicious / clients, [torch.from_numpy(each) for each in updates]
    order, fewer = krum_order(squared_distances(updates @ updates.T), malicious - 1), (malicious - 1) / clients
    lengths = np.linalg.norm(updates, axis=1)
    bound = float(np.sort(lengths)[(clients - 1) // 2])
    drawn = np.random.default_rng(malicious).permutation(clients)
    grouped = bucket_matrix(drawn, 2, np.full(clients, 1 / clients)) @ updates
    median, trimmed = _aggregate(CoordinateMedian(), updates), _aggregate(TrimmedMean(malicious_share=share), updates)
    middle = _aggregate(GeometricMedian(steps=20000, smoothing=1e-12), updates)
    centred = _aggregate(CentredClipping(radius=2.0, steps=5), updates)
    fl, py = peers["byzfl"], peers["byzpy"]
    return {
        "weighted mean, byzfl": (_aggregate(WeightedMean(), updates), fl.Average()(updates)),
        "coordinate median, byzfl": (median, fl.Median()(updates)),
        "coordinate median, byzpy": (
            _aggregate(CoordinateMedian(), updates[: clients - 1 + clients % 2]),
            py["median"]().aggregate(rows[: clients - 1 + clients % 2]),
        ),
        "trimmed mean, byzfl": (trimmed, fl.TrMean(malicious)(updates)),
        "trimmed mean, byzpy": (trimmed, py["trimmed"](malicious).aggregate(rows)),
        "krum, byzfl": (_aggregate(Krum(malicious_share=fewer), updates), fl.Krum(malicious)(updates)),
        "krum, byzpy": (_aggregate(Krum(malicious_share=fewer), updates), py["krum"](malicious).aggregate(rows)),
        "multi-krum, byzfl": (updates[order[: clients - malicious]].mean(axis=0), fl.MultiKrum(malicious)(updates)),
        "multi-krum, byzpy": (
            updates[order[: clients - malicious]].mean(axis=0),
            py["multi-krum"](malicious, clients - malicious).aggregate(rows),
        ),
        "geometric median, byzfl": (middle, fl.GeometricMedian(nu=1e-12, T=20000)(updates)),
        "geometric median, byzpy": (middle, py["geometric"](tol=1e-13, max_iter=20000).aggregate(rows)),
        "centred clipping, byzfl": (centred, fl.CenteredClipping(L=5, tau=2.0)(updates)),
        "centred clipping, byzpy": (centred, py["centred"](c_tau=2.0, M=5, init="zero").aggregate(rows)),
        "norm-clipped mean, byzfl": (
            _aggregate(NormClippedMean(), updates),
            peers["byzfl before"].Clipping(c=bound)(updates.copy()).mean(axis=0),  # it clips in place
        ),
        "bucketing, byzpy": (grouped, np.stack(py["bucketing"](2, perm=drawn).pre_aggregate(rows))),
    }


def _attacks(peers: dict[str, Any], honest: Array, malicious: int) -> Pairs:
    clients = len(honest) + malicious
    counts = {"clients": clients, "malicious": malicious}
    fl, py, rows = peers["byzfl attacks"], peers["byzpy"], [torch.from_numpy(each) for each in honest]
    more = clients + 2  # with two malicious more its z is above zero
    z = py["z"]((more - (more // 2 + 1 - malicious - 2)) / more) * np.sqrt(1 - 1 / len(honest))
    little = ALittleIsEnough(deviations=1.5).craft(honest, **counts)
    little_upwards = -ALittleIsEnough(deviations=float(z)).craft(-honest, **counts)
    flip = SignFlip().craft(honest, **counts)
    return {
        "sign flip, byzfl": (flip, fl.SignFlipping()(honest)),
        "sign flip, byzpy": (flip, py["sign flip"]().apply(base_grad=torch.from_numpy(honest.mean(axis=0)))),
        "a little is enough, byzfl": (little, fl.ALittleIsEnough(tau=-1.5)(honest)),
        "a little is enough, byzpy": (little_upwards, py["little"](malicious + 2).apply(honest_grads=rows)),
        "inner-product manipulation, byzfl": (
            InnerProductManipulation(factor=2.0).craft(honest, **counts),
            fl.InnerProductManipulation(tau=2.0)(honest),
        ),
        "inner-product manipulation, byzpy": (
            InnerProductManipulation(factor=0.5).craft(honest, **counts),
            py["empire"](scale=-0.5).apply(honest_grads=rows),
        ),
        "mimic, byzfl": (Mimic(victim=3).craft(honest, **counts), fl.Mimic(epsilon=3)(honest)),
        "mimic, byzpy": (Mimic(victim=3).craft(honest, **counts), py["mimic"](epsilon=3).apply(honest_grads=rows)),
        "min-max, the paper's search": (MinMax().craft(honest, **counts), _searched_min_max(honest)),
    }


def _searched_min_max(honest: Array) -> Array:
    """Algorithm 1 of Shejwalkar and Houmansadr: a step that halves until it is close."""
    mean, away = honest.mean(axis=0), -honest.std(axis=0, ddof=1)
    widest = max(float(np.linalg.norm(one - other)) for one in honest for other in honest)
    step, factor, best = 10.0, 10.0, 0.0
    while step > 1e-12:
        inside = float(np.linalg.norm(mean + factor * away - honest, axis=1).max()) <= widest
        best, factor = (factor, factor + step / 2) if inside else (best, factor - step / 2)
        step /= 2
    found: Array = mean + best * away
    return found


def _aggregate(rule: Rule, updates: Array) -> Array:
    rows = updates if rule.reference is Reference.NONE else np.vstack([updates, np.zeros(updates.shape[1])])
    plan = rule.plan(matrix_geometry(rows), np.full(len(updates), 1 / len(updates)))
    return plan.combine(plan.mixing @ rows)


def _peers() -> dict[str, Any]:
    """The peers' classes; byzfl without its own `__init__`, which imports torchvision."""
    sys.path += filter(None, os.environ.get("MEDWARD_PEERS", "").split(os.pathsep))
    try:
        home = Path(str(importlib.util.find_spec("byzfl").origin)).parent  # type: ignore[union-attr]
        importlib.import_module("byzpy.aggregators.coordinate_wise")
    except (AttributeError, ModuleNotFoundError) as error:
        raise MedwardError(MISSING.format(error=error)) from None
    for name in ("byzfl", "byzfl.utils"):
        module = types.ModuleType(name)
        module.__path__ = [str(home.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module
    loaded = {name: _loaded(f"byzfl.aggregators.{name}", home) for name in ("aggregators", "preaggregators")}
    attacks = home / "attacks" / "attacks.py"
    together = types.ModuleType("byzfl.aggregators")
    together.__dict__.update(vars(loaded["aggregators"]) | vars(loaded["preaggregators"]))
    sys.modules["byzfl.aggregators"] = together
    return {
        "byzfl": loaded["aggregators"],
        "byzfl before": loaded["preaggregators"],
        "byzfl attacks": _loaded("byzfl.attacks.attacks", attacks.parents[1]),
        "byzpy": {
            "median": _byzpy("aggregators.coordinate_wise.median", "CoordinateWiseMedian"),
            "trimmed": _byzpy("aggregators.coordinate_wise.trimmed_mean", "CoordinateWiseTrimmedMean"),
            "krum": _byzpy("aggregators.geometric_wise.krum", "Krum"),
            "multi-krum": _byzpy("aggregators.geometric_wise.krum", "MultiKrum"),
            "geometric": _byzpy("aggregators.geometric_wise.geometric_median", "GeometricMedian"),
            "centred": _byzpy("aggregators.norm_wise.center_clipping", "CenteredClipping"),
            "bucketing": _byzpy("pre_aggregators.bucketing", "Bucketing"),
            "sign flip": _byzpy("attacks.sign_flip", "SignFlipAttack"),
            "little": _byzpy("attacks.little", "LittleAttack"),
            "z": _byzpy("attacks.little", "_ndtri"),
            "empire": _byzpy("attacks.empire", "EmpireAttack"),
            "mimic": _byzpy("attacks.mimic", "MimicAttack"),
        },
    }


def _loaded(name: str, home: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, home.joinpath(*name.split(".")[1:]).with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[name] = module
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def _byzpy(module: str, name: str) -> Callable[..., Any]:
    made: Callable[..., Any] = getattr(importlib.import_module(f"byzpy.{module}"), name)
    return made


def _large_site() -> Claim:
    """Nine sites and one of 0.6 % of the rows that sends its update a thousand times as long, either way round."""
    moved: dict[str, list[float]] = {}
    lying: dict[str, list[float]] = {}
    for seed in range(DRAWS // 10):
        for rule in (NormClippedMean(), WeightedMean(), GeometricMedian(), CoordinateMedian()):
            moved.setdefault(rule.name, []).append(max(_moved(rule, seed, factor) for factor in (-1000, 1000)))
            lying.setdefault(rule.name, []).append(_moved(rule, seed, 1000, claimed=CLAIMED))
    worst = {name: max(each) for name, each in moved.items()}
    return Claim(
        claim="federated_large_site",
        value=worst[NormClippedMean.name],
        target=f"at most {MOST_MOVED:g} times the length of an honest round, by the default rule, of a site that says "
        "its true number of rows",
        met=worst[NormClippedMean.name] <= MOST_MOVED < worst[WeightedMean.name],
        n=DRAWS // 10,
        seed=SEED,
        details={
            "largest_move_in_honest_rounds": worst,
            "largest_move_when_it_claims_most_rows": {name: max(each) for name, each in lying.items()},
            "claimed": CLAIMED,
            "rows_of_the_site": 0.006,
            "factor": 1000,
            "sites": 10,
        },
    )


def _moved(rule: Rule, seed: int, factor: float, claimed: int | None = None) -> float:
    """How far the site moves the model from where it ends when the site is honest, in lengths of that honest round."""
    generator = np.random.default_rng(seed)
    start, common = [generator.normal(size=20_000).astype(np.float32)], generator.normal(size=20_000)
    steps = [0.01 * (common + generator.normal(size=20_000)) for _ in range(10)]
    rows = [*np.round(99_400 * generator.dirichlet(np.full(9, 3.0)) + 1), 600]
    ends = []
    for scale in (1, factor):
        sent = [
            ClientUpdate(
                node=str(place),
                parameters=[(start[0] + (scale if place == 9 else 1) * step).astype(np.float32)],
                examples=claimed if claimed is not None and place == 9 and scale == factor else count,
            )
            for place, (step, count) in enumerate(zip(steps, rows, strict=True))
        ]
        _, result = Aggregator(rule=rule).step(FederationState(), start, sent, [each.node for each in sent])
        ends.append(result.parameters[0].astype(np.float64) - start[0])
    return float(np.linalg.norm(ends[1] - ends[0]) / np.linalg.norm(ends[0]))
