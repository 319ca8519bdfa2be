"""The tables of hardening, from the claims of ``tests/benchmarks/`` that measured it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DATA = ("pneumoniamnist", "nih_cxr", "blood")
UNKNOWN = "—"
ATTACKED, PROVEN, PROVEN_OF_TABLES = "10/255", "4/255", "0.25 deviations"
"""The radii that methods were trained for."""
_SINGLE, _TRIED = ("pgd", "trades", "certified, small"), ("pgd", "uap", "membership-loss")


def certified_training() -> str:
    """Each data set and network: clean accuracy and certified shares, mean over the seeds."""
    lines = [
        "| data | network | balanced accuracy | certified within 2/255 | 4/255 | 8/255 | time per epoch |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in DATA:
        details = json.loads((RESULTS / f"certified_training_{name}.json").read_text())["details"]
        seeds = list(details["seeds"].values())
        for network in seeds[0]:
            runs = [seed[network] for seed in seeds]
            columns = [[run["clean"] for run in runs]]
            columns += [[run["radii"][radius]["share"] for run in runs] for radius in ("2", "4", "8")]
            cells = " | ".join(f"{sum(column) / len(column):.3f}" for column in columns)
            ratio = {"certified": details["training_time_ratio_per_epoch"]["mean"], "small, undefended": 1.0}.get(
                network
            )
            lines.append(
                f"| {name.replace('_', '-')} | {network} | {cells} | {'' if ratio is None else f'{ratio:.1f} x'} |"
            )
    return "\n".join(lines) + "\n"


def certified_tables() -> str:
    """Each table and model: clean accuracy, what is certified, what attacks change, and the ceiling; over the seeds."""
    lines = [
        "| data | model | balanced accuracy | certified | attacks change | upper end | not certified, to | ceiling |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, cells in _details("certified_tables")["tables"].items():
        seeds = list(cells.values())
        ceiling = _mean([seed["ceiling"] for seed in seeds])
        for model in seeds[0]["models"]:
            runs = [seed["models"][model] for seed in seeds]
            means = [_mean([run[key] for run in runs]) for key in ("clean", "certified")]
            means.append(_mean([run["fooled"]["value"] for run in runs]))
            ends = [max(run[key]["interval"][1] for run in runs) for key in ("fooled", "not certified")]
            cells_text = " | ".join(f"{each:.3f}" for each in (*means, *ends, ceiling))
            lines.append(f"| {name} | {model} | {cells_text} |")
    return "\n".join(lines) + "\n"


def hardening_methods() -> str:
    """Every method on the data that it was measured on: what it keeps, proves and withstands; a dash where nothing was.

    Figures compare within one radius only. Shares that bounds prove are written as upper bounds, for no attack can
    exceed them.
    """
    lines = [
        "| method | data | trained for | balanced accuracy | certified | PGD changes | one UAP changes "
        "| membership AUC | time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(*row) for name in ("uat_pneumoniamnist", "uat_nih_cxr") for row in _universal_rows(name)]
    lines += [_line(*row) for row in _method_rows()]
    lines += [_line(*_certified_row(name)) for name in DATA]
    lines += [_line(*row) for row in _table_rows()]
    return "\n".join(lines) + "\n"


def _universal_rows(name: str) -> list[tuple[str, ...]]:
    seeds = list(_details(name)["seeds"].values())
    before = _mean([seed["undefended"]["clean"] for seed in seeds])
    return [
        (
            method,
            name.removeprefix("uat_").replace("_", "-"),
            ATTACKED,
            f"{before:.3f} → {_mean([seed[method]['clean'] for seed in seeds]):.3f}",
            *(UNKNOWN, UNKNOWN),
            f"{_mean([seed[method]['fooled'] for seed in seeds]):.3f}",
            *(UNKNOWN, UNKNOWN),
        )
        for method in ("retraining", "uat")
    ]


def _method_rows() -> list[tuple[str, ...]]:
    """The rows of one model, whatever it was hardened by: attacked alike, at the radii of the default policy."""
    methods = _details("hardening_methods")["methods"]
    before = methods["before"]
    return [
        (
            method,
            "pneumoniamnist, 800 rows",
            UNKNOWN if method.startswith("dp") else PROVEN if method in _SINGLE else ATTACKED,
            f"{before['clean']:.3f} → {row['clean']:.3f}",
            UNKNOWN if row["certified"] is None else f"{row['certified']:.3f}",
            *(f"{before[attack]['value']:.3f} → {row[attack]['value']:.3f}" for attack in _TRIED),
            f"{row['cpu_seconds']:.0f} s",
        )
        for method, row in methods.items()
        if method != "before"
    ]


def _certified_row(name: str) -> tuple[str, ...]:
    details = _details(f"certified_training_{name}")
    clean = {key: _mean(values) for key, values in details["clean_balanced_accuracy"].items()}
    share = details["certified_share"]["4"]["mean"]
    ratio = details["training_time_ratio_per_epoch"]["mean"]
    return (
        "certified, small",
        name.replace("_", "-"),
        PROVEN,
        f"{clean['undefended']:.3f} → {clean['certified']:.3f}",
        f"{share:.3f}",
        *[f"≤ {1 - share:.3f}"] * 2,
        UNKNOWN,
        f"{ratio:.1f} x an epoch",
    )


def _table_rows() -> list[tuple[str, ...]]:
    found = []
    for name, cells in _details("certified_tables")["tables"].items():
        for kind, before in (("trees", "forest, undefended"), ("network", "network, undefended")):
            runs = [seed["models"] for seed in cells.values()]
            after = [run[f"{kind}, certified"] for run in runs]
            clean = _mean([run[before]["clean"] for run in runs])
            attacked = f"{_mean([run['fooled']['value'] for run in after]):.3f}"
            found.append(
                (
                    f"certified, {'trees' if kind == 'trees' else 'small'}",
                    name,
                    PROVEN_OF_TABLES,
                    f"{clean:.3f} → {_mean([run['clean'] for run in after]):.3f}",
                    f"{_mean([run['certified'] for run in after]):.3f}",
                    attacked,
                    f"≤ {_mean([run['not certified']['value'] for run in after]):.3f}",
                    *(UNKNOWN, UNKNOWN),
                )
            )
    return found


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _details(claim: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{claim}.json").read_text())["details"]
    return found
