"""Tables of the documents about poisoned federations, from ``docs/results/*.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def attacks() -> str:
    """The attacks that malicious hospitals can make on generators, by name."""
    from medward.attacks.experiments.fedgan.run import GENERATOR_ATTACKS
    from medward.attacks.poisoning.table import POISONING

    return _table(
        ("attack", "what each accomplice does"),
        [(f"`{name}`", POISONING[name].summary) for name in GENERATOR_ATTACKS if name in POISONING],
    )


def attack() -> str:
    """What the trigger attack does to an undefended federation, set by set."""
    told = _details("fedgan_attack")
    rows = [
        (
            task,
            _spread(told["trigger_rate"][task]),
            _spread(told["trigger_rate_of_the_latest_rounds"][task]),
            _spread(told["trigger_rate_without_attack"][task]),
            _spread(told["domain_fid"][task], "{:.1f}"),
            _spread(told["domain_fid_without_attack"][task], "{:.1f}"),
        )
        for task in told["trigger_rate"]
    ]
    return _table(
        ("images", "trigger rate", "mean of three watched rounds", "without attack", "domain FID", "without attack"),
        rows,
    )


def published() -> str:
    """FedDetect as published: against attackers who say their loss, who lie, and without any."""
    told = _details("feddetect_published")
    weights, rates = told["malicious_weight_at_the_end"], told["trigger_rate"]
    rows = [
        ("says its loss", _spread(weights["trigger"], "{:.3f}"), _spread(rates["trigger"]), ""),
        ("lies", _spread(weights["trigger-lying"], "{:.3f}"), _spread(rates["trigger-lying"]), ""),
        ("there is none", "", "", _spread(told["effective_clients_without_attack"], "{:.1f}")),
    ]
    return _table(("attacker", "its weight at the end", "trigger rate", "effective clients of 4"), rows)


def suppression() -> str:
    """RobustFedDetect beside the weighted mean, on the rows that the claim is about."""
    return _suppression("rows")


def beside() -> str:
    """The same for attacks that are shown and not claimed."""
    return _suppression("beside")


def _suppression(which: str) -> str:
    rows = [_suppressed(each) for each in _details("fedgan_suppression")[which]]
    heads = (
        "attack",
        "federation",
        "trigger rate, weighted mean",
        "ours",
        "highest from then on",
        "malicious weight",
        "first flagged in round",
    )
    return _table(heads, rows)


def rules() -> str:
    """Each server's worst case over the attacks on a generator."""
    told = _details("fedgan_rules")
    rates, distances = told["worst_trigger_rate"], told["worst_domain_fid_times_the_best_clean"]
    rows = [
        (f"`{server}`", f"{rate:.2f}", distance if isinstance(distance, str) else f"{distance:.1f}")
        for server, rate in sorted(rates.items(), key=lambda each: each[1])
        for distance in (distances[server],)
    ]
    return _table(("server", "worst trigger rate", "worst domain FID, times the best without attack"), rows)


def _suppressed(row: dict[str, Any]) -> tuple[str, ...]:
    federation = f"{row.get('malicious', 1)} of {row.get('clients', 4)}"
    where = [row.get("task", "pneumoniamnist"), federation, row.get("skew", "iid"), row.get("generator", "GAN")]
    where += [f"seed {row['seed']}"] if "seed" in row else []
    return (
        row["attack"],
        ", ".join(where),
        _rate(row["trigger_rate_of_the_weighted_mean"]),
        _rate(row["trigger_rate"]),
        _rate(row["highest_rate_from_then_on"]),
        f"{row['highest_weight_from_then_on']:.3f}",
        "never" if row["first_flagged_in_round"] is None else str(row["first_flagged_in_round"]),
    )


def _rate(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return "no images" if value is None else f"{value:.2f}"


def _spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    mean = sum(values) / len(values)
    return f"{form.format(mean)} ({form.format(min(values))} to {form.format(max(values))})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _details(name: str) -> dict[str, Any]:
    details: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())["details"]
    return details
