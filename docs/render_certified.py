"""The table of certified hardening, from the claims of ``tests/benchmarks/certified_training.py``."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
DATA = ("pneumoniamnist", "nih_cxr", "blood")


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
