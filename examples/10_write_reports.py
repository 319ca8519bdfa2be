"""A model that writes reports: protected, attacked by thieves of its texts, and served whole and piece by piece."""

import json
import logging
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import uvicorn

import medward
from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.attacks.benchmarks.datasets.phantom import draw_phantoms
from medward.attacks.benchmarks.reports.facts import ImageFacts, normal_parts, stated_findings
from medward.attacks.benchmarks.reports.own_phrases import own_phrase_bank
from medward.attacks.benchmarks.reports.report_data import with_reports
from medward.attacks.benchmarks.reports.report_networks import ReporterSize, save_writer
from medward.attacks.benchmarks.reports.report_training import ReporterTraining, train_reporter
from medward.attacks.extraction import Theft
from medward.attacks.extraction.judge import NO_VICTIM
from medward.attacks.extraction.reports import AdaSteal, SmallStudent, TextDistillation
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.run import run_validation
from medward.integrations.serving import load_app

FINDINGS = ("effusion",)
SIZE = ReporterSize(width=48, tower_layers=1, text_layers=1, heads=2, stages=(16, 32, 32), context=96)
ROWS = {"train": 800, "calibration": 300, "holdout": 30, "test": 100}
PHOTOGRAPHS = 40


def draw_effusions(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Radiographs that are drawn, 32 pixels a side; in every second one fluid has risen at the bases of the lungs."""
    images, _ = draw_phantoms(n, size=32)
    labels = np.random.default_rng(0).integers(2, size=n)
    risen = 0.35 * np.clip(6 * np.linspace(-0.62, 0.38, 32), 0, 1).astype(np.float32)
    images[labels == 1, 0, :, 3:-3] += risen[:, None]
    return images.clip(0, 1), labels


def train_writer(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Your model: a vision encoder with a text decoder, in a folder as `save_pretrained` writes one."""
    draws = np.random.default_rng(0)
    facts = []
    for label in labels.tolist():
        present = frozenset(FINDINGS if label else ())
        stated = stated_findings(present, FINDINGS, draws)
        facts.append(ImageFacts(findings=stated, normal=normal_parts(present, FINDINGS)))
    bank, rows = own_phrase_bank(FINDINGS), {"train": np.arange(len(images))}
    data = with_reports("drawn", FINDINGS, images, facts, rows, bank=bank, seed=0)
    save_writer(train_reporter(data, "encoder-decoder", ReporterTraining(warm_up=6, epochs=4), size=SIZE), folder)


def thieves() -> tuple[Theft, ...]:
    """ADA-STEAL, who has nothing but photographs, and one who has radiographs of his own to ask about."""
    student = SmallStudent(width=48, layers=1)
    strategies = (
        AdaSteal(student=student, step=120, steps=5, epochs=4),
        TextDistillation(student=student, source="in-domain"),
    )
    return tuple(Theft(strategy=each, labels="text", queries=240, epochs=16, points=1) for each in strategies)


@contextmanager
def serving(bundle: Path, state: Path) -> Iterator[str]:
    """As ``medward serve bundle --no-keys`` does."""
    server = uvicorn.Server(uvicorn.Config(load_app(bundle, state=state, anonymous=True), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1/predict"
    server.should_exit = True
    thread.join()


def events(url: str, image: np.ndarray) -> Iterator[tuple[str, dict]]:
    """The events of one report, as they come."""
    asked = {"json": {"inputs": image[None].tolist()}, "headers": {"Accept": "text/event-stream"}}
    with httpx.stream("POST", url, timeout=60, **asked) as response:
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def main() -> None:
    logging.getLogger("medward").setLevel(logging.ERROR)
    images, labels = draw_effusions(sum(ROWS.values()))
    order = np.random.default_rng(1).permutation(len(images))
    parts = dict(zip(ROWS, np.split(order, np.cumsum(list(ROWS.values()))[:-1]), strict=True))
    # Labels of a model that writes reports are a column of 0 and 1 for each finding, or reports that are right.
    splits = {name: medward.Split(images[rows], labels[rows]) for name, rows in parts.items()}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        train_writer(work / "writer", splits["train"].inputs, splits["train"].labels)

        # As `medward protect writer/ --task report --classes effusion --data ... --policy policy.toml` does:
        policy = medward.Policy(on_error="withhold", release={"level": "full"})
        said = {"task": "report", "classes": FINDINGS, "low": 0.0, "high": 1.0}
        bundle = medward.protect(work / "writer", splits["calibration"], policy, work / "bundle", **said)
        print(bundle.card.quality)

        # As `medward validate bundle/ --data ... -o report/` does, with fewer attacks and smaller ones:
        known = {name: splits[name] for name in ("train", "holdout", "test")}
        report = run_validation(Deployment(bundle=bundle), known, work / "report", attacks=thieves(), progress=False)
        for finding in report.findings:
            bare, guarded = finding.undefended.value, finding.guarded.value
            without = finding.curves["undefended"][NO_VICTIM][1][-1]
            print(f"{finding.attack}: {finding.status.value}; agreement {bare:.2f}, guarded {guarded:.2f}, ", end="")
            print(f"of a clone that never saw the model {without:.2f}")
        accuracy = report.clean.site.accuracy
        print(f"right findings: bare {accuracy.undefended.value:.2f}, guarded {accuracy.guarded.value:.2f}")

        with serving(work / "bundle", work / "state") as url:
            image = splits["test"].inputs[0]
            whole = httpx.post(url, json={"inputs": image[None].tolist()}, timeout=60).json()
            print(f"whole: {whole['texts'][0]!r}, findings {whole['labels'][0]}")
            told = list(events(url, image))
            pieces = [data["text"] for name, data in told if name == "text"]
            same = "".join(pieces) == whole["texts"][0]
            print(f"piece by piece: {', '.join(name for name, _ in told)}; the same: {same}")
        with serving(work / "bundle", work / "other state") as url:
            levels = Counter()
            for photograph in natural_images(PHOTOGRAPHS, images.shape[1:], seed=0):
                name, data = list(events(url, photograph))[-1]
                levels[data["levels"][0] if name == "end" else name] += 1
            print(f"a thief's {PHOTOGRAPHS} photographs: {dict(levels)}")


if __name__ == "__main__":
    main()
