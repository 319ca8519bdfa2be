"""One federation: hospitals, some malicious, train a generator under one server; what comes of it is measured."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.generators.base import ImageGenerator
from medward.attacks.benchmarks.generators.diffusion import ConditionalDiffusion
from medward.attacks.benchmarks.generators.gan import ConditionalGan
from medward.attacks.benchmarks.hospitals import Hospitals, Skew, deal_hospitals
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.experiments.fedgan.servers import build_server, rows_for
from medward.attacks.poisoning.federation import Client, FederationRound, Malice, federate
from medward.attacks.poisoning.metrics.detection import detection_rates, effective_clients, malicious_weight
from medward.attacks.poisoning.metrics.domain_extractor import DomainExtractor, train_extractor
from medward.attacks.poisoning.metrics.frechet_distance import frechet_distance
from medward.attacks.poisoning.metrics.kernel_distance import kernel_distance
from medward.attacks.poisoning.metrics.precision_recall import generator_coverage
from medward.attacks.poisoning.metrics.real_floor import real_floor
from medward.attacks.poisoning.metrics.train_on_synthetic import train_on_synthetic
from medward.attacks.poisoning.table import PATCH_TRIGGER, POISONING, Accomplice
from medward.attacks.poisoning.triggers.base import Trigger, trigger_rate
from medward.attacks.poisoning.triggers.distributed import DistributedTrigger
from medward.guard.data.split import Split
from medward.guard.federated.update import ModelParameters

NONE = "none"
"""No attack: every hospital is honest."""
GeneratorName = Literal["gan", "diffusion"]
JUDGED = {"gan": 1024, "diffusion": 128}  # images made for the last measurement, and
WATCHED = {"gan": 256, "diffusion": 64}  # for the trigger rate on the way
WATCH_EVERY = 5  # rounds
_MEASURED = (
    "trigger_rate",
    "domain_fid",
    "domain_fid_floor",
    "domain_kid",
    "precision",
    "recall",
    "synthetic_accuracy",
)
SHOWN = 8  # images in the picture of a cell


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationSetting:
    """A setting names one federation: everything that its outcome depends on, beside the code."""

    task: str
    generator: GeneratorName = "gan"
    size: int = 32
    width: int = 16
    clients: int = 4
    malicious: int = 1
    rows: int = 256
    skew: Skew = "iid"
    attack: str = NONE
    server: str = "weighted-mean"
    rounds: int = 30
    seed: int = 0

    @property
    def name(self) -> str:
        """What a person calls it."""
        return (
            f"{self.task} {self.generator} {self.malicious}/{self.clients} {self.skew} {self.attack} {self.server} "
            f"seed {self.seed}"
        )


def measure_federation(setting: FederationSetting) -> dict[str, Any]:
    """Train the federation of `setting` and measure it, as JSON.

    Of every round: weights, the flagged, losses as reported; of every fifth: the trigger rate; of the last: rates,
    distances and accuracies of the images, and a picture of some. Where the server's rule cannot bear so many malicious
    hospitals nothing is trained, and "refused" says why.
    """
    hospitals, extractor = _prepared(
        setting.task, setting.size, setting.clients, setting.rows, setting.skew, setting.seed
    )
    generator = build_generator(setting, hospitals)
    malicious = setting.malicious if setting.attack != NONE else 0
    clients = [
        Client(
            node=f"hospital-{place}",
            rows=rows,
            malice=_malice(setting, place, generator.classes) if place < malicious else None,
        )
        for place, rows in enumerate(hospitals.clients)
    ]
    server = build_server(
        setting.server, generator, clients=setting.clients, malicious=setting.malicious, seed=setting.seed
    )
    names = [each.node for each in clients[:malicious]]
    rounds: list[dict[str, Any]] = []
    rates: dict[int, float | None] = {}
    own = rows_for(server, hospitals.server)
    for each in federate(generator, clients, server, rounds=setting.rounds, seed=setting.seed, server_rows=own):
        if each.round == 1 and each.result.unchanged is not None:
            return {"setting": asdict(setting), "refused": each.result.unchanged}
        rounds.append(_told(each, names))
        if each.round % WATCH_EVERY == 0 or each.round == setting.rounds:
            rates[each.round] = _rate(setting, generator, each.result.parameters, hospitals, WATCHED[setting.generator])
    final = each.result.parameters
    return {
        "setting": asdict(setting),
        "sizes": [len(rows) for rows in hospitals.clients],
        "rounds": rounds,
        "trigger_rates": rates,
        **_quality(setting, generator, final, hospitals, extractor),
        "picture": picture(generator.images(final, _labels(SHOWN, generator.classes), setting.seed)),
    }


def build_generator(setting: FederationSetting, hospitals: Hospitals) -> ImageGenerator:
    """The generator of `setting` for the images of its hospitals."""
    rows = hospitals.test
    kind = ConditionalGan if setting.generator == "gan" else ConditionalDiffusion
    classes = int(np.asarray(rows.labels).max()) + 1
    return kind(channels=rows.inputs.shape[1], size=setting.size, classes=classes, width=setting.width)


@lru_cache(maxsize=4)
def _prepared(
    task: str, size: int, clients: int, rows: int, skew: Skew, seed: int
) -> tuple[Hospitals, DomainExtractor]:
    """The hospitals of a seed, dealt from one split of the task, and its one extractor."""
    hospitals = deal_hospitals(_split_task(task, size), clients, rows=rows, skew=skew, seed=seed)
    return hospitals, _extractor(task, size)


@lru_cache(maxsize=2)
def _split_task(task: str, size: int) -> BenchmarkTask:
    """The task, split alike under every seed: what is trained on, measured by and tested on never changes places."""
    return load_task(task, seed=0, size=size)


@lru_cache(maxsize=2)
def _extractor(task: str, size: int) -> DomainExtractor:
    """The one network in whose features all images of the task are measured."""
    return train_extractor(_split_task(task, size).splits["calibration"], 0)


def _malice(setting: FederationSetting, place: int, classes: int) -> Malice:
    accomplice = Accomplice(place=place, malicious=setting.malicious, classes=classes)
    return POISONING[setting.attack].malice(accomplice)


def _trigger(setting: FederationSetting) -> Trigger | None:
    """The trigger that is looked for in images, after no attack the patch; None where the attack plants none."""
    if setting.attack == NONE:
        return PATCH_TRIGGER
    trigger = _malice(setting, 0, 2).trigger
    return PATCH_TRIGGER if isinstance(trigger, DistributedTrigger) else trigger


def _told(each: FederationRound, malicious: list[str]) -> dict[str, Any]:
    """What is kept of one round."""
    judgement = each.result.judgement
    flagged = [] if judgement is None else [suspect.node for suspect in judgement.suspects]
    rates = detection_rates(flagged, [update.node for update in each.updates], malicious)
    return {
        "weights": {node: round(weight, 6) for node, weight in each.result.weights.items()},
        "malicious_weight": malicious_weight(each.result.weights, malicious),
        "effective_clients": effective_clients(each.result.weights if judgement is None else judgement.trust),
        "flagged": flagged,
        "peaks": {}
        if judgement is None
        else {each.node: [each.view, round(each.peak, 3)] for each in judgement.suspects},
        "true_positive_rate": rates.true_positive,
        "false_positive_rate": rates.false_positive,
        "losses": {update.node: _finite_or_none(update.metrics.get("loss")) for update in each.updates},
        "refused": [refusal.reason for refusal in each.result.refusals],
    }


def _finite_or_none(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value


def _rate(
    setting: FederationSetting, generator: ImageGenerator, parameters: ModelParameters, hospitals: Hospitals, count: int
) -> float | None:
    """The trigger rate of `count` images; None where no trigger is looked for, or what is made is no image."""
    trigger, made = _trigger(setting), generator.images(parameters, _labels(count, generator.classes), setting.seed + 1)
    return (
        None if trigger is None or not np.isfinite(made).all() else trigger_rate(trigger, made, hospitals.test.inputs)
    )


def _quality(
    setting: FederationSetting,
    generator: ImageGenerator,
    parameters: ModelParameters,
    hospitals: Hospitals,
    extractor: DomainExtractor,
) -> dict[str, Any]:
    """The last model's images against real ones that no hospital and no extractor learned from; None for no images."""
    count, test = JUDGED[setting.generator], hospitals.test
    labels = _drawn_labels(test, count, setting.seed)
    made = generator.images(parameters, labels, setting.seed + 2)
    told: dict[str, Any] = {"images": count, "extractor": extractor.digest}
    if not np.isfinite(made).all():
        return {**dict.fromkeys(_MEASURED), **told}
    real, fake = extractor.features(test.inputs), extractor.features(made)
    trigger = _trigger(setting)
    coverage = generator_coverage(real, fake)
    figures = (
        None if trigger is None else trigger_rate(trigger, made, test.inputs),
        frechet_distance(real, fake),
        real_floor(frechet_distance, real, seed=setting.seed).mean,
        kernel_distance(real, fake),
        coverage.precision,
        coverage.recall,
        train_on_synthetic(Split(made, labels), test, seed=setting.seed).balanced,
    )
    if setting.attack == NONE:
        told["control_rates"] = {name: trigger_rate(each, made, test.inputs) for name, each in _controls().items()}
    return {**dict(zip(_MEASURED, figures, strict=True)), **told}


def _controls() -> dict[str, Trigger]:
    """The triggers of the table by the first attack that plants them: how often each is seen where nobody did."""
    found: dict[str, Trigger] = {}
    for name, attack in POISONING.items():
        trigger = attack.malice(Accomplice()).trigger
        if trigger is not None and not isinstance(trigger, DistributedTrigger) and trigger not in found.values():
            found[name] = trigger
    return found


def _labels(count: int, classes: int) -> np.ndarray:
    return np.arange(count) % classes


def _drawn_labels(rows: Split, count: int, seed: int) -> np.ndarray:
    """Labels drawn in the proportions of real rows, so that distances compare like with like."""
    labels = np.asarray(rows.labels)
    drawn: np.ndarray = labels[np.random.default_rng(seed).integers(0, len(labels), count)]
    return drawn


def picture(images: np.ndarray) -> str:
    """A PNG of images (n, C, S, S) in [0, 1] in one row, in base64."""
    from PIL import Image

    row = np.concatenate(list((np.clip(images, 0, 1) * 255).round().astype(np.uint8)), axis=2)
    pixels = row[0] if len(row) == 1 else row.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
