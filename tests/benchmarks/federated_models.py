"""What else a federation leaves in a model: a backdoor in a classifier, and whose images a generator learned from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from claim import Claim

from medward.attacks.benchmarks.federated_classifier import FederatedClassifier
from medward.attacks.benchmarks.generators.gan import ConditionalGan
from medward.attacks.benchmarks.hospitals import Hospitals, deal_hospitals
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.experiments.fedgan.servers import build_rule
from medward.attacks.membership.generator.audit import audit_generator
from medward.attacks.poisoning.federation import Client, federate
from medward.attacks.poisoning.metrics.backdoor_success import backdoor_success
from medward.attacks.poisoning.table import PATCH_TRIGGER, POISONING, Accomplice
from medward.guard.data.split import Split
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.sanitise import UpdateBounds

CLAIMS = ("federated_backdoor", "generator_membership")
CLIENTS, MALICIOUS = 10, 2
ROUNDS = 40
RULES = ("weighted-mean", "norm-clipped-mean", "coordinate-median", "trimmed-mean", "multi-krum", "geometric-median")
BACKDOORS = ("none", "backdoor", "backdoor-scaled", "backdoor-distributed")
GAN_ROUNDS = 30
ROWS = 256


def measure() -> Iterator[Claim]:
    """Both claims; about a quarter of an hour on one core."""
    yield _backdoor()
    yield _membership()


def _backdoor() -> Claim:
    """Accomplices teach a classifier that a patch means class 0."""
    hospitals = deal_hospitals(load_task("pneumoniamnist", size=32), CLIENTS, rows=200, skew="iid", seed=0)
    table = {rule: {name: _opened(hospitals, rule, name) for name in BACKDOORS} for rule in RULES}
    undefended = table["weighted-mean"]["backdoor-scaled"]["success"]
    return Claim(
        claim="federated_backdoor",
        value=undefended,
        target="success at least 0.9 under the weighted mean; every rule's success and clean accuracy are shown (40 "
        "rounds: after 12, while the classifier was young, it was 0.39)",
        met=undefended >= 0.9,
        n=len(RULES) * len(BACKDOORS),
        seed=0,
        details={"table": table, "clients": CLIENTS, "malicious": MALICIOUS, "rounds": ROUNDS},
    )


def _opened(hospitals: Hospitals, rule: str, attack: str) -> dict[str, float]:
    classifier = FederatedClassifier(channels=1, size=32, classes=2)
    clients = [
        Client(
            node=f"hospital-{place}",
            rows=rows,
            malice=POISONING[attack].malice(Accomplice(place=place, malicious=MALICIOUS))
            if attack != "none" and place < MALICIOUS
            else None,
        )
        for place, rows in enumerate(hospitals.clients)
    ]
    server = Aggregator(rule=build_rule(rule, MALICIOUS / CLIENTS), bounds=UpdateBounds())
    *_, last = federate(classifier, clients, server, rounds=ROUNDS, seed=0)
    found = backdoor_success(
        lambda images: classifier.decide(last.result.parameters, images), PATCH_TRIGGER, 0, hospitals.test
    )
    return {"success": found.success, "without_trigger": found.without_trigger, "balanced_accuracy": found.balanced}


def _membership() -> Claim:
    """The global generator of four honest hospitals, asked whose images it learned from."""
    task = load_task("pneumoniamnist", size=32)
    rows = deal_hospitals(task, 12, rows=ROWS, skew="iid", seed=0).clients
    gan = ConditionalGan(channels=1, size=32, classes=2, width=16)
    parameters, reference = (_trained(gan, part) for part in (rows[:4], rows[4:8]))
    candidates = _joined([*rows[:4], *rows[8:]])
    included = np.arange(len(candidates)) < sum(map(len, rows[:4]))
    found = audit_generator(gan, parameters, candidates, included, reference=reference)
    told = {
        row.attack: {
            "auc": [row.evaluation.auc.value, row.evaluation.auc.low, row.evaluation.auc.high],
            "detectable": row.evaluation.detectable,
            "flags": list(row.evaluation.flags),
        }
        for row in found
    }
    highest = max(each.evaluation.auc.high for each in found)
    return Claim(
        claim="generator_membership",
        value=highest,
        target="the upper end of the best score's AUC at most 0.6: such a generator gives nobody away",
        met=highest <= 0.6,
        n=len(candidates),
        seed=0,
        details={"scores": told, "rounds": GAN_ROUNDS},
    )


def _trained(gan: ConditionalGan, rows: tuple[Split, ...]) -> list[np.ndarray]:
    clients = [Client(node=f"hospital-{place}", rows=each) for place, each in enumerate(rows)]
    *_, last = federate(gan, clients, Aggregator(), rounds=GAN_ROUNDS, seed=0)
    return last.result.parameters


def _joined(rows: list[Split]) -> Split:
    return Split(
        np.concatenate([each.inputs for each in rows]), np.concatenate([np.asarray(each.labels) for each in rows])
    )
