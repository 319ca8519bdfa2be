"""Tables of the documents about poisoned federations, from ``docs/results/*.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
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
    """RobustFedDetect beside the weighted mean, on the federations that the claim is about."""
    return _suppression("rows")


def further() -> str:
    """The same for attacks that are shown and not claimed."""
    return _suppression("beside")


def honest() -> str:
    """RobustFedDetect without an attacker, beside the weighted mean."""
    told = _details("fedgan_honest")
    found: dict[tuple[str, ...], list[tuple[float, ...]]] = {}
    names = ("effective_share", "honest_flagged", "domain_fid", "domain_fid_of_the_weighted_mean")
    names += ("synthetic_accuracy", "synthetic_accuracy_of_the_weighted_mean")
    for row, *values in zip(told["rows"], *(told[name] for name in names), strict=True):
        images, hospitals = _federation(row)
        found.setdefault((images, hospitals.partition(" of ")[2]), []).append(tuple(values))
    rows = [
        (*federation, str(len(cells)), f"{min(share):.3f}", f"{max(flagged):.3f}", *map(_middle, rest))
        for federation, cells in found.items()
        for share, flagged, *rest in (zip(*cells, strict=True),)
    ]
    heads = ("images", "hospitals", "seeds", "effective share, least", "honest flagged, most", "domain FID")
    return _table((*heads, "weighted mean", "accuracy of synthetic training", "weighted mean"), rows)


def _suppression(which: str) -> str:
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in _details("fedgan_suppression")[which]:
        found.setdefault((row["attack"], *_federation(row)), []).append(row)
    rows = [
        (
            *federation,
            _range([each["trigger_rate_of_the_weighted_mean"] for each in cells]),
            _range([each["highest_rate_from_then_on"] for each in cells]),
            _range([each["highest_weight_from_then_on"] for each in cells], "{:.3f}"),
            _flagged([each["first_flagged_in_round"] for each in cells]),
        )
        for federation, cells in found.items()
    ]
    heads = (
        "attack",
        "images",
        "malicious hospitals",
        "trigger rate, weighted mean",
        "ours, highest",
        "malicious weight",
    )
    return _table((*heads, "first flagged in round"), rows)


def rules() -> str:
    """Each server's worst case over the attacks on a generator, and the patch where hospitals are unlike."""
    told = _details("fedgan_rules")
    rates, distances = told["worst_trigger_rate"], told["worst_domain_fid_times_the_best_clean"]
    rows = [
        (
            f"`{server}`",
            "all" if server in told["met_every_mark"] else "some",
            f"{rate:.3f}",
            _rate(told["unlike_hospitals"].get(server)),
            distances[server] if isinstance(distances[server], str) else f"{distances[server]:.1f}",
        )
        for server, rate in sorted(rates.items(), key=lambda each: each[1])
    ]
    heads = ("server", "marks met", "worst trigger rate", "patch, unlike hospitals")
    return _table((*heads, "worst domain FID, times the best without attack"), rows)


def backdoors() -> str:
    """How often a classifier decides as the patch says, by rule, and its balanced accuracy without one."""
    table = _details("federated_backdoor")["table"]
    attacks = next(iter(table.values()))
    rows = [
        (f"`{rule}`", *(f"{cells[name]['success']:.2f}, {cells[name]['balanced_accuracy']:.2f}" for name in attacks))
        for rule, cells in table.items()
    ]
    return _table(("rule", *attacks), rows)


def _federation(row: dict[str, Any]) -> tuple[str, str]:
    """Whose images by which generator, and who takes part."""
    images = row.get("task", "pneumoniamnist") + (f", {row['size']} pixels" if "size" in row else "")
    images += ", diffusion" if "generator" in row else ""
    skew = ", Dirichlet" if row.get("skew") == "dirichlet" else ""
    return images, f"{row.get('malicious', 1)} of {row.get('clients', 4)}{skew}"


def _range(values: Sequence[float | str], form: str = "{:.2f}") -> str:
    """What was measured, from the least to the most."""
    measured = sorted(form.format(value) for value in values if not isinstance(value, str))
    return " to ".join(dict.fromkeys((measured[0], measured[-1]))) if measured else "not measured"


def _rate(cell: dict[str, Any] | None) -> str:
    return "not measured" if cell is None else f"{cell['trigger_rate']:.2f}"


def _flagged(rounds: Sequence[int | None]) -> str:
    return ", ".join("never" if each is None else str(each) for each in rounds)


def _middle(values: Sequence[float]) -> str:
    """The geometric mean, which swings of a distance by factors do not rule, from the least to the most."""
    mean = prod(values) ** (1 / len(values))
    return f"{mean:.2f} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else f"{mean:.2f}"


def _spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    mean = sum(values) / len(values)
    return f"{form.format(mean)} ({form.format(min(values))} to {form.format(max(values))})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _details(name: str) -> dict[str, Any]:
    details: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())["details"]
    return details
