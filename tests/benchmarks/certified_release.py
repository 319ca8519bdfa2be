"""Certified answers from training to the guard: clean accuracy, certified shares, what attackers change and deny, cost.

The small network is trained with bounds as `certified_training` trains it and judged on the same rows, which nothing
was trained, chosen or calibrated on. The bundle is calibrated on rows set aside for that, or where a data set has none
on its selection rows, which are not judged on. Attackers know the guard and attack its certificate; each asks the
guard, with a new account for every row. A run that is flagged shows nothing, so the claim is then not met. Weights and
cells are kept under out/ and recalled, so a killed measurement goes on.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from certified_training import DATA
from claim import Claim
from torch import nn

from medward.attacks.base import Access, Attack, AttackData
from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.victims import accuracy, predict_labels, train_victim
from medward.attacks.evasion import APGD, PGD, Square, UniversalPerturbation, setup
from medward.attacks.evasion.fooled_share import denied_share, fooled_interval
from medward.attacks.intervals import rate_interval
from medward.attacks.validation.deployment import Deployment, fresh_guard, queried_target
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.bundle.folder import Bundle, load_bundle
from medward.guard.bundle.make import protect
from medward.guard.certify.certifier import Certifier
from medward.guard.data.split import Split
from medward.guard.harden.certified.training import CertifiedTraining
from medward.guard.policy import MonitorPolicy, Policy
from medward.guard.profile import forward_batches
from medward.guard.types import Query

CLAIMS = ("certified_release_cost", "certified_release_pneumoniamnist", "certified_release_nih")
NAMES = {"certified_release_pneumoniamnist": "pneumoniamnist", "certified_release_nih": "nih_cxr"}
SEEDS = (0, 1, 2)
GREY, MOST_PASSES, MOST_BESIDES = 4.0, 4.5, 1.1
LEAST = {"pneumoniamnist": {2: 0.94, 4: 0.90}, "nih_cxr": {2: 0.94, 4: 0.86}}
LOST = {"pneumoniamnist": 0.02, "nih_cxr": 0.04}
ROWS, SQUARE_ROWS, ROUNDS, WARM_UP = 300, 60, 600, 20
CELLS = Path(__file__).parents[2] / "out" / "certified_release"
POLICY = Policy(on_error="withhold", certify={"enabled": True, "radius": GREY})
SMALL = {"nih_cxr": 0.01}
"""Risks of calibration where patients are too few for the policy's own; nothing here is monitored."""


def measure() -> Iterator[Claim]:
    """The cost on one model, then what each data set shows over its seeds."""
    yield cost(*deployed("pneumoniamnist", 0))
    for claim, name in NAMES.items():
        yield claimed(claim, name, {str(seed): recalled(name, seed) for seed in SEEDS})


def recalled(name: str, seed: int) -> dict[str, Any]:
    """The cell from disk, else measured and kept."""
    file = CELLS / f"{name}_{seed}.json"
    if not file.is_file():
        found = study(*deployed(name, seed))
        file.write_text(json.dumps(found, indent=1) + "\n")
    kept: dict[str, Any] = json.loads(file.read_text())
    return kept


def deployed(name: str, seed: int) -> tuple[BenchmarkTask, Bundle, dict[str, float]]:
    """The bundle of one seed, trained where it is not kept, and the undefended model's clean accuracy."""
    task, folder, facts = DATA[name](seed), CELLS / f"{name}_{seed}", CELLS / f"{name}_{seed}_before.json"
    if not facts.is_file():
        CELLS.mkdir(parents=True, exist_ok=True)
        victim, splits = train_victim(task, seed=seed), task.splits
        method = CertifiedTraining(architecture="small")
        made = method.harden(victim, splits["train"], splits["selection"], low=task.low, high=task.high, seed=seed)
        protect(
            exported(made.network, splits["train"]),
            benign(task),
            POLICY.model_copy(update={"monitor": MonitorPolicy(calibration_risk=SMALL[name])})
            if name in SMALL
            else POLICY,
            folder,
            classes=task.classes,
            output="logits",
            low=task.low,
            high=task.high,
            overwrite=True,
        )
        facts.write_text(json.dumps({"undefended": clean_accuracy(victim, task)}) + "\n")
    return task, load_bundle(folder), json.loads(facts.read_text())


def benign(task: BenchmarkTask) -> Split:
    """Rows to calibrate on: those set aside for it, else the selection rows."""
    return task.splits.get("calibration", task.splits["selection"])


def exported(network: nn.Module, rows: Split) -> str:
    """The network as a file, as `medward harden` writes it."""
    place, stream = CELLS / "model.onnx", io.BytesIO()
    sample = torch.as_tensor(rows.inputs[:2], dtype=torch.float32)
    torch.onnx.export(
        network.cpu().eval(),
        (sample,),
        stream,
        input_names=["rows"],
        output_names=["scores"],
        dynamic_axes={"rows": {0: "n"}, "scores": {0: "n"}},
        dynamo=False,
    )
    place.write_bytes(stream.getvalue())
    return str(place)


def clean_accuracy(network: nn.Module, task: BenchmarkTask) -> float:
    """Balanced, on the rows that judge."""
    split = task.splits["test"]
    return float(accuracy(np.asarray(split.labels), predict_labels(network, split.inputs))[1])


def study(task: BenchmarkTask, bundle: Bundle, before: dict[str, float]) -> dict[str, Any]:
    """One seed: clean accuracy, shares, and each attacker behind the guard."""
    test, spec = task.splits["test"], bundle.model.spec
    scores = forward_batches(bundle.model, test.inputs).scores
    decided, labels = spec.decide(scores), np.asarray(test.labels)
    certifier = Certifier.of(bundle.bounds, bundle.policy, spec)
    assert certifier is not None
    radius = certifier.certify(test.inputs, scores).radius
    shares = {str(grey): interval(radius >= grey) for grey in (1, 2, 4, 8)}
    by_class = {name: float((radius >= GREY)[labels == i].mean()) for i, name in enumerate(task.classes)}
    kept = radius >= GREY
    return {
        **before,
        "n": len(test),
        "clean": float(accuracy(labels, decided)[1]),
        "clean_of_certified": float(accuracy(labels[kept], decided[kept])[1]),
        "certified": shares,
        "certified_by_class": by_class,
        "deniable_at_most": float(((radius >= GREY) & (radius < 2 * GREY)).mean()),
        "attacks": attacked(task, bundle, decided),
    }


def attackers() -> dict[str, tuple[Attack, int]]:
    """Attackers within the certified radius, one beyond it, and on how many rows each."""
    near = GREY / 255
    return {
        "PGD": (PGD(epsilon=near, steps=20, restarts=1), ROWS),
        "APGD": (APGD(epsilon=near, steps=20, restarts=1), ROWS),
        "UAP": (UniversalPerturbation(epsilon=near), ROWS),
        "transfer": (PGD(epsilon=near, steps=20, restarts=1, access=Access.SCORES), ROWS),
        "Square": (Square(epsilon=near, queries=200, rows=SQUARE_ROWS), SQUARE_ROWS),
        "UAP at 10": (UniversalPerturbation(epsilon=10 / 255), ROWS),
    }


def attacked(task: BenchmarkTask, bundle: Bundle, decided: np.ndarray) -> dict[str, Any]:
    """Changed answers among certified ones, by who knows the guard, and rows whose certificate is taken away."""
    setup.FACTORS = (1.0,)  # within the whole radius: a smaller one is covered by it
    drawn = np.random.default_rng(0).permutation(len(decided))
    network, reason = white_box(
        bundle.path / "model.onnx",
        bundle.model.predict,
        task.splits["test"].inputs[:64],
        bundle.card.options,
        spec=bundle.model.spec,
    )
    assert network is not None, reason
    found = {}
    for name, (attack, count) in attackers().items():
        rows = task.splits["test"].take(drawn[:count])
        data = AttackData(craft=task.splits["train"].take(slice(0, 400)), test=rows, reference=decided[drawn[:count]])
        knowing = attack.adaptive(bundle.policy) if attack.threat.access is Access.GRADIENTS else attack
        assert knowing is not None  # who has no gradients cannot follow the screens
        start = time.process_time()
        result = knowing.run(
            queried_target(Deployment(bundle=bundle, network=network), "adaptive", knowing), data, seed=0
        )
        plain = attack.run(
            queried_target(Deployment(bundle=bundle, network=network), "undefended", attack), data, seed=0
        )
        denied = denied_share(result.attempts)
        found[name] = {
            "changed": int(max(each.fooled.sum() for each in result.attempts)),
            "changed_high": fooled_interval(result.attempts).high,
            "bare": fooled_interval(plain.attempts).value,
            "denied": None if denied is None else (denied.value, denied.low, denied.high),
            "n": len(result.attempts[0].fooled),
            "flags": result.flags,
            "cpu_seconds": time.process_time() - start,
        }
    return found


def claimed(claim: str, name: str, cells: dict[str, Any]) -> Claim:
    """From the cells of all seeds, against what must be shown."""
    runs = list(cells.values())
    shares = {grey: float(np.mean([each["certified"][str(grey)][0] for each in runs])) for grey in (2, 4)}
    lost = float(np.mean([each["undefended"] - each["clean"] for each in runs]))
    within = {
        f"{attack}, seed {seed}": found
        for seed, each in cells.items()
        for attack, found in each["attacks"].items()
        if attack != "UAP at 10"
    }
    changed, tried = (sum(found[key] for found in within.values()) for key in ("changed", "n"))
    flagged = [run for run, found in within.items() if found["flags"]]
    enough = all(shares[grey] >= least for grey, least in LEAST[name].items()) and lost <= LOST[name]
    return Claim(
        claim=claim,
        value=shares[4],
        target=(
            f"mean of seeds ({len(runs)}): certified share of clean rows at 4/255 >= {LEAST[name][4]} and at 2/255 "
            f">= {LEAST[name][2]}; clean balanced accuracy lost <= {LOST[name]}; no changed answer among certified "
            "ones, and no attacker flagged"
        ),
        met=enough and not changed and not flagged,
        n=distinct_rows(name, cells),
        details={
            "certified_share": shares,
            "clean_balanced_accuracy_lost": lost,
            "changed_among_certified": {"changed": changed, "tries": tried},
            "flagged": flagged,
            "seeds": cells,
        },
    )


def distinct_rows(name: str, seeds: Iterable[str]) -> int:
    """How many different rows judge, over all seeds."""
    return len({row.tobytes() for seed in seeds for row in DATA[name](int(seed)).splits["test"].inputs})


def cost(task: BenchmarkTask, bundle: Bundle, _: dict[str, float]) -> Claim:
    """Medians of CPU time of rows that are asked in turn: two guards, and the forward pass and certificate within."""
    rows = task.splits["test"].inputs
    plain = replace(bundle, policy=bundle.policy.model_copy(update={"certify": Policy(on_error="flag").certify}))
    guards = {"guard": fresh_guard(plain), "guard with certificates": fresh_guard(bundle)}
    seconds: dict[str, list[float]] = {"forward": [], "certificate": [], **{name: [] for name in guards}}
    with timed(type(bundle.model), "predict", seconds["forward"]), timed(Certifier, "certify", seconds["certificate"]):
        for turn in range(ROUNDS):
            row = rows[[turn % len(rows)]]
            for name, guard in guards.items():
                start = time.process_time()
                guard.answer(Query(principal=("site",), inputs=row))
                seconds[name].append(time.process_time() - start)
    medians = {name: float(np.median(each[WARM_UP:])) for name, each in seconds.items()}
    passes = medians["certificate"] / medians["forward"]
    besides = (medians["guard with certificates"] - medians["certificate"]) / medians["guard"]
    return Claim(
        claim=CLAIMS[0],
        value=passes,
        target=(
            f"<= {MOST_PASSES:g} forward passes for the certificate of an answer, and the guard's own time besides <= "
            f"{MOST_BESIDES:g} times what it is without; medians of CPU time, rows one by one"
        ),
        met=passes <= MOST_PASSES and besides <= MOST_BESIDES,
        n=ROUNDS,
        seed=0,
        details={
            "median_microseconds": {name: 1e6 * each for name, each in medians.items()},
            "mean_certificate_in_forward_passes": float(
                np.mean(seconds["certificate"][WARM_UP:]) / np.mean(seconds["forward"][WARM_UP:])
            ),
            "guard_besides": besides,
        },
    )


@contextmanager
def timed(kind: type, method: str, seconds: list[float]) -> Iterator[None]:
    """CPU time of each call of a `method` goes to `seconds` for a while."""
    own = getattr(kind, method)

    def call(*given: Any) -> Any:
        start = time.process_time()
        found = own(*given)
        seconds.append(time.process_time() - start)
        return found

    setattr(kind, method, call)
    try:
        yield
    finally:
        setattr(kind, method, own)


def interval(rows: np.ndarray) -> tuple[float, float, float]:
    """A share with its 95 % interval."""
    found = rate_interval(rows)
    return found.value, found.low, found.high
