"""Poisoned generators under federated training: the attack, FedDetect as published, ours, and every rule beside it.

A finished federation is kept in ``docs/results/fedgan_cells.jsonl``: a killed measurement goes on where it stopped, on
another machine too, as long as the code that decides is the same. The thresholds of RobustFedDetect were chosen on
PneumoniaMNIST.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from claim import Claim

from medward.attacks.experiments.fedgan.cells import NONE, FederationSetting, measure_federation
from medward.attacks.experiments.fedgan.run import GENERATOR_ATTACKS, cell_settings
from medward.attacks.experiments.fedgan.servers import PUBLISHED, ROBUST, SERVERS
from medward.attacks.experiments.fedgan.tables import settled_mean
from medward.attacks.poisoning.table import POISONING, SLOW_START
from medward.guard.federated.robust_feddetect import RobustFedDetect
from medward.guard.federated.rules import RULES

CLAIMS = ("fedgan_attack", "feddetect_published", "fedgan_honest", "fedgan_suppression", "fedgan_rules")
ROOT = Path(__file__).parents[2]
CELLS = ROOT / "docs" / "results" / "fedgan_cells.jsonl"
TASKS = ("pneumoniamnist", "blood")
WIDTHS = {"pneumoniamnist": 16, "blood": 32, "nih-cxr": 16}  # colour photographs need the wider generator
MARKS = {"pneumoniamnist": "trigger", "blood": "trigger-large"}  # the small patch fades in a seed of blood
ROUNDS = {"pneumoniamnist": 30, "blood": 40}  # until the attack has settled under the weighted mean
SEEDS = (0, 1, 2)
LARGEST = 7  # a seed whose malicious hospital is the largest of four unlike ones; so it is with 6, and with 6 of ten
MORE_SEEDS = (3, 4, 5, 6, 7)  # of PneumoniaMNIST without attack: a domain FID differs much from seed to seed
FEDAVG = "weighted-mean"
SLOW = "trigger-slow-start"
LATEST = 3  # watched rounds at the end, over which the attack's success is told too: the curve swings
MARGIN = 1.25  # times the weighted mean's domain FID that ours may have, geometric mean over a set's federations
HELD_AGAINST_RULES = (NONE, "trigger", "scaled-replacement", "sign-flip", "a-little-is-enough", "min-max")
"""Attacks that every server of the table meets."""
NOT_MEASURED = "not measured"
SUPPRESSED = 0.05  # the highest trigger rate that is none
SUPPRESSED_BY = 10  # rounds after the warm-up, or after a later start
_OF_A_ROUND = ("malicious_weight", "effective_clients", "flagged", "true_positive_rate", "false_positive_rate")
SIZES = {4: 256, 10: 200, 20: 128}  # hospitals -> rows of each on average


def measure() -> Iterator[Claim]:
    """The five claims; hours on two cores."""
    yield _attack()
    yield _published()
    yield _honest()
    yield _suppression()
    yield _rules()


def cell(attack: str, server: str, *, clients: int = 4, malicious: int = 1, **given: Any) -> dict[str, Any]:
    """One federation, measured or recalled."""
    task = given.get("task", TASKS[0])
    if attack == "trigger-lying" and server in RULES:
        attack = "trigger"  # the same federation, to the byte: no rule reads what is reported
    told = {"task": task, "width": WIDTHS[task], "rounds": 30, "rows": SIZES[clients], **given}
    setting = FederationSetting(attack=attack, server=server, clients=clients, malicious=malicious, **told)
    settings = cell_settings(setting)
    for line in CELLS.read_text().splitlines() if CELLS.exists() else ():
        if (kept := json.loads(line))["settings"] == settings:
            return {**kept["cell"], "rounds": _rounds(kept["cell"]["rounds"])}
    found = json.loads(json.dumps(measure_federation(setting)))
    _keep(settings, found)
    return dict(found)


def _keep(settings: dict[str, Any], found: dict[str, Any]) -> None:
    """One line of the file, without what no claim reads; figures of rounds by name, which is a third as long."""
    told = {name: value for name, value in found.items() if name != "picture" or _is_shown(settings)}
    told["rounds"] = {name: [each[name] for each in found.get("rounds", ())] for name in _OF_A_ROUND}
    with CELLS.open("a") as file:
        file.write(json.dumps({"settings": settings, "cell": told}, separators=(",", ":")) + "\n")


def _is_shown(settings: dict[str, Any]) -> bool:
    """Whether its images may stand in the documents: those of the undefended server's first seed."""
    marks = (NONE, MARKS.get(settings["task"]))
    return settings["server"] == FEDAVG and settings["seed"] == SEEDS[0] and settings["attack"] in marks


def _rounds(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The rounds of a kept cell, each with its figures by name."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _attack() -> Claim:
    found, clean = (
        {
            task: [cell(mark[task], FEDAVG, task=task, rounds=ROUNDS[task], seed=seed) for seed in SEEDS]
            for task in TASKS
        }
        for mark in (MARKS, dict.fromkeys(TASKS, NONE))
    )
    rates = {task: [each["trigger_rate"] for each in cells] for task, cells in found.items()}
    least = min(float(np.mean(each)) for each in rates.values())
    _save_pictures([*(clean[task][0] for task in TASKS), *(found[task][0] for task in TASKS)])
    return Claim(
        claim="fedgan_attack",
        value=least,
        target="trigger rate at least 0.9 under the weighted mean on two real sets, 1 of 4 malicious, mean of 3 seeds; "
        "the larger patch and the 40 rounds of blood were chosen after the small one faded and 30 rounds gave 0.885",
        met=least >= 0.9,
        n=len(TASKS) * len(SEEDS),
        details={
            "attack": MARKS,
            "trigger_rate": rates,
            "trigger_rate_without_attack": _each(clean, "trigger_rate"),
            "trigger_rate_of_the_latest_rounds": {
                task: [float(np.mean([*each["trigger_rates"].values()][-LATEST:])) for each in cells]
                for task, cells in found.items()
            },
            "trigger_rates_by_round": {
                task: [each["trigger_rates"] for each in cells] for task, cells in found.items()
            },
            "domain_fid": _each(found, "domain_fid"),
            "domain_fid_without_attack": _each(clean, "domain_fid"),
            "domain_fid_floor": _each(clean, "domain_fid_floor"),
            "synthetic_accuracy": _each(found, "synthetic_accuracy"),
            "synthetic_accuracy_without_attack": _each(clean, "synthetic_accuracy"),
            "extractors": _each(clean, "extractor"),
        },
    )


def _published() -> Claim:
    found = {
        attack: [cell(attack, PUBLISHED, seed=seed) for seed in SEEDS] for attack in (NONE, "trigger", "trigger-lying")
    }
    weights = {attack: [each["rounds"][-1]["malicious_weight"] for each in cells] for attack, cells in found.items()}
    effective = [each["rounds"][-1]["effective_clients"] for each in found[NONE]]
    flagged = [settled_mean(each, "false_positive_rate") for each in found[NONE]]
    suppressed = sum(weight <= 0.01 for weight in weights["trigger"])
    return Claim(
        claim="feddetect_published",
        value=float(np.mean(effective)),
        target="shown: an attacker who reports its loss ends without weight in most seeds, one who lies keeps its "
        "share, and without attacker effective clients are fewer than 0.9 of all",
        met=suppressed > len(SEEDS) / 2 and min(weights["trigger-lying"]) >= 0.2 and max(effective) < 3.6,
        n=3 * len(SEEDS),
        details={
            "malicious_weight_at_the_end": {name: weights[name] for name in ("trigger", "trigger-lying")},
            "trigger_rate": _each(found, "trigger_rate"),
            "attacker_flagged": {
                name: [settled_mean(each, "true_positive_rate") for each in found[name]]
                for name in ("trigger", "trigger-lying")
            },
            "effective_clients_without_attack": effective,
            "honest_flagged_without_attack": flagged,
            "domain_fid": _each(found, "domain_fid"),
        },
    )


def _honest() -> Claim:
    rows = [
        *({"task": task, "rounds": ROUNDS[task], "seed": seed} for task in TASKS for seed in SEEDS),
        *({"seed": seed} for seed in MORE_SEEDS),
        *({"skew": "dirichlet", "seed": seed} for seed in SEEDS),
        {"task": "blood", "rounds": ROUNDS["blood"], "skew": "dirichlet", "seed": 0},
        {"skew": "dirichlet", "clients": 10, "malicious": 2},
        {"skew": "dirichlet", "clients": 20, "malicious": 5},
    ]
    ours, theirs = ([cell(NONE, server, **row) for row in rows] for server in (ROBUST, FEDAVG))
    shares = [settled_mean(each, "effective_clients") / each["setting"]["clients"] for each in ours]
    ratios = [float(np.log(one["domain_fid"] / two["domain_fid"])) for one, two in zip(ours, theirs, strict=True)]
    by_set, by_skew = (
        {
            value: [ratio for ratio, one in zip(ratios, ours, strict=True) if one["setting"][name] == value]
            for value in values
        }
        for name, values in (("task", TASKS), ("skew", ("iid", "dirichlet")))
    )
    accuracy = [one["synthetic_accuracy"] - two["synthetic_accuracy"] for one, two in zip(ours, theirs, strict=True)]
    worse = max(float(np.mean(each)) for each in by_set.values())
    return Claim(
        claim="fedgan_honest",
        value=min(shares),
        target="without attack effective clients (by trust) at least 0.9 of all; on each set the domain FID on average "
        f"at most {MARGIN} times that of the weighted mean; accuracy of training on synthetic images at most 0.02 less",
        met=min(shares) >= 0.9 and worse <= np.log(MARGIN) and float(np.mean(accuracy)) >= -0.02,
        n=len(rows),
        details={
            "rows": rows,
            "effective_share": shares,
            "honest_flagged": [settled_mean(each, "false_positive_rate") for each in ours],
            "domain_fid": [each["domain_fid"] for each in ours],
            "domain_fid_of_the_weighted_mean": [each["domain_fid"] for each in theirs],
            "log_ratio_of_domain_fid_and_its_error": {
                name: [float(np.mean(each)), float(np.std(each, ddof=1) / len(each) ** 0.5)]
                for name, each in {**by_set, **by_skew}.items()
            },
            "flagged_in_the_first_rounds": [
                sum(each["false_positive_rate"] > 0 for each in found["rounds"][:10]) for found in ours
            ],
            "mean_difference_of_synthetic_accuracy": float(np.mean(accuracy)),
            "synthetic_accuracy": [each["synthetic_accuracy"] for each in ours],
            "synthetic_accuracy_of_the_weighted_mean": [each["synthetic_accuracy"] for each in theirs],
        },
    )


def _suppression() -> Claim:
    honest, lying = "trigger", "trigger-lying"
    blood = {"task": "blood", "rounds": ROUNDS["blood"]}
    rows = [
        *({"attack": attack, "seed": seed} for attack in (honest, lying, SLOW) for seed in SEEDS),
        *({"attack": "trigger-large", **blood, "seed": seed} for seed in SEEDS),
        {"attack": "trigger-large-slow-start", **blood, "seed": 0},
        *({"attack": attack, "clients": 10, "malicious": 2} for attack in (honest, lying, SLOW, "trigger-distributed")),
        *({"attack": attack, "clients": 20, "malicious": 5} for attack in (honest, lying, SLOW)),
    ]
    told = [_told(**row) for row in rows]
    beside = [
        _told(**row)
        for row in (
            {"attack": "trigger-claiming"},
            {"attack": "trigger-either-way", "seed": 1},  # the view that sees it was chosen on seed 0
            {"attack": "trigger-faint"},
            {"attack": "scaled-replacement"},
            {"attack": "frequency-strong"},
            {"attack": "frequency"},
            {"attack": "trigger-lying", "skew": "dirichlet"},
            {"attack": "trigger-lying", "skew": "dirichlet", "clients": 10, "malicious": 2},
            *({"attack": "trigger-lying", "skew": "dirichlet", "seed": seed} for seed in (LARGEST, 6)),
            {"attack": "trigger-lying", "skew": "dirichlet", "clients": 10, "malicious": 2, "seed": 6},
            {"attack": "trigger-lying", "task": "nih-cxr", "size": 64, "rows": 128},
            {"attack": "trigger-lying", "generator": "diffusion"},
        )
    ]
    worst = max(each["highest_rate_from_then_on"] for each in told)
    return Claim(
        claim="fedgan_suppression",
        value=worst,
        target="from 10 rounds after the warm-up or a later start on, trigger rate at most 0.05 whenever measured and "
        "malicious weight at most 0.01, on every row (federations of 10 and 20: one seed); the rows beside are shown",
        met=worst <= SUPPRESSED and all(each["highest_weight_from_then_on"] <= 0.01 for each in told),
        n=len(rows),
        details={"rows": told, "beside": beside, "rates_of_controls": cell(NONE, FEDAVG)["control_rates"]},
    )


def _told(*, attack: str, **row: Any) -> dict[str, Any]:
    """Ours against one attack, from the round on by which it must be suppressed, beside the weighted mean.

    A slow start is measured under the weighted mean once for each set of images."""
    ours = cell(attack, ROBUST, **row)
    shown = "slow-start" not in attack or (row.get("clients") is None and not row.get("seed"))
    theirs = cell(attack, FEDAVG, **row) if shown else None
    begin = SLOW_START - 1 if "slow-start" in attack else RobustFedDetect().warm_up
    by = begin + SUPPRESSED_BY
    flagged = [number + 1 for number, each in enumerate(ours["rounds"]) if each["true_positive_rate"]]
    later = [rate for number, rate in ours["trigger_rates"].items() if int(number) >= by]
    return {
        "attack": attack,
        **row,
        "trigger_rate": ours["trigger_rate"],
        "highest_rate_from_then_on": max([*later, ours["trigger_rate"]]),
        "highest_weight_from_then_on": max(each["malicious_weight"] for each in ours["rounds"][by - 1 :]),
        "first_flagged_in_round": flagged[0] if flagged else None,
        "honest_flagged": settled_mean(ours, "false_positive_rate"),
        "domain_fid": ours["domain_fid"],
        "trigger_rate_of_the_weighted_mean": NOT_MEASURED if theirs is None else theirs["trigger_rate"],
        "domain_fid_of_the_weighted_mean": NOT_MEASURED if theirs is None else theirs["domain_fid"],
    }


def _rules() -> Claim:
    """Every server against some attacks, 1 of 4 malicious; who lets no mark through there meets every mark.

    Ours and the weighted mean meet every attack. Rules that must be told how many are malicious are told the truth.
    """
    everything = [name for name in GENERATOR_ATTACKS if name not in ("trigger-distributed", "trigger-large-slow-start")]
    marks = [name for name in everything if name != NONE and POISONING[name].aim == "trigger"]
    table = {server: {attack: _figures(cell(attack, server)) for attack in HELD_AGAINST_RULES} for server in SERVERS}
    bears = {server: row for server, row in table.items() if all(row.values())}
    holding = [server for server, row in bears.items() if server != ROBUST and _worst_rate(row) <= SUPPRESSED]
    for server in bears:
        further = everything if server in (ROBUST, FEDAVG) else marks if server in holding else ()
        bears[server] |= {attack: _figures(cell(attack, server)) for attack in further}
    clean = min(row[NONE]["domain_fid"] for row in bears.values())
    rates = {server: _worst_rate(row) for server, row in bears.items()}
    distances = {server: max(map(_distance, row.values())) / clean for server, row in bears.items()}
    unlike = {
        server: _figures(cell("trigger-lying", server, skew="dirichlet", seed=LARGEST))
        for server in (*holding, ROBUST, FEDAVG)
    }
    others = [server for server in bears if server != ROBUST]
    return Claim(
        claim="fedgan_rules",
        value=rates[ROBUST],
        target="over all marks, a worst trigger rate below every other rule's, and a worst domain FID no higher "
        "(PneumoniaMNIST, 1 of 4, i.i.d., one seed; what cannot bear 1 of 4 is left out)",
        met=all(rates[ROBUST] < rates[each] and distances[ROBUST] <= distances[each] for each in others),
        n=sum(map(len, bears.values())),
        details={
            "attacks_every_server_met": HELD_AGAINST_RULES,
            "marks": marks,
            "met_every_mark": [*holding, ROBUST, FEDAVG],
            "worst_trigger_rate": rates,
            "worst_domain_fid_times_the_best_clean": {
                server: each if np.isfinite(each) else "no images" for server, each in distances.items()
            },
            "unlike_hospitals": unlike,
            "refused": sorted(set(table) - set(bears)),
            "table": bears,
        },
    )


def _worst_rate(row: dict[str, Any]) -> float:
    """The highest trigger rate under an attack; attacks that draw no mark have none."""
    return max(each["trigger_rate"] or 0.0 for name, each in row.items() if name != NONE)


def _distance(found: dict[str, Any]) -> float:
    """The domain FID; endless where the model no longer makes images."""
    return float("inf") if found["domain_fid"] is None else float(found["domain_fid"])


def _figures(found: dict[str, Any]) -> dict[str, Any] | None:
    if "refused" in found:
        return None
    names = ("trigger_rate", "domain_fid", "domain_kid", "precision", "recall", "synthetic_accuracy")
    last = found["rounds"][-1]
    return {
        "attack": found["setting"]["attack"],
        **{name: found[name] for name in names},
        "malicious_weight": last["malicious_weight"],
    }


def _each(found: dict[str, list[dict[str, Any]]], name: str) -> dict[str, list[Any]]:
    return {key: [each[name] for each in cells] for key, cells in found.items()}


def _save_pictures(cells: Iterable[dict[str, Any]]) -> None:
    """One image of the cells' pictures below each other, as the documents show it."""
    from PIL import Image

    rows = [Image.open(io.BytesIO(base64.b64decode(each["picture"]))).convert("RGB") for each in cells]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)))
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    sheet.resize((3 * sheet.width, 3 * sheet.height), Image.Resampling.NEAREST).save(
        ROOT / "docs" / "images" / "fedgan.png", optimize=True
    )
