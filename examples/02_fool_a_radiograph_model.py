"""Fool an unguarded radiograph classifier with one perturbation for all images, beside random noise."""

from medward.attacks.base import AttackData
from medward.attacks.benchmarks.base import BenchmarkTask, stratified_partition
from medward.attacks.benchmarks.datasets.phantom import draw_phantoms
from medward.attacks.benchmarks.victims import accuracy, classifier_spec, predict_labels, train_victim
from medward.attacks.evasion.uap import UniversalPerturbation
from medward.attacks.target import Target, open_oracle
from medward.guard.data.split import Split
from medward.guard.models import wrap


def main() -> None:
    splits = stratified_partition(
        Split(*draw_phantoms(1100, size=32)), {"train": 700, "selection": 200, "test": 200}, seed=0
    )
    task = BenchmarkTask(
        name="phantom-32",
        modality="image",
        shape=(1, 32, 32),
        low=0.0,
        high=1.0,
        classes=("clear", "opacity"),
        splits=splits,
        source="drawn",
    )
    network = train_victim(task, epochs=12)
    test = splits["test"]
    correct, _ = accuracy(test.labels, predict_labels(network, test.inputs))
    print(f"accuracy: {correct:.2f} on {len(test)} images")
    model = wrap(network, spec=classifier_spec(task, "logits"), sample=test.inputs[:8])
    attack = UniversalPerturbation(epsilon=10 / 255, epochs=5, restarts=1)
    target = Target(model.spec, open_oracle(model), attack.threat, network=network)
    result = attack.run(target, AttackData(craft=splits["selection"], test=test), seed=0)
    print(f"fooled by the perturbation: {result.outcome.mean():.2f}")
    print(f"fooled by random signs:     {result.baseline.mean():.2f}")


if __name__ == "__main__":
    main()
