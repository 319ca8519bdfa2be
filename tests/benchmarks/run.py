"""Run the measured claims: ``run.py`` runs all of them, ``run.py NAME`` one, ``run.py --list`` lists them.

Each module beside this one that has a ``measure()`` yields one or more `Claim`s. Every claim is printed as one JSON
line and kept in ``docs/results/<claim>.json``, from which the README's tables are rendered.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "docs" / "results"
HELPERS = {"run", "claim", "subjects"}


def names() -> list[str]:
    """The benchmark modules, by file name."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in HELPERS)


def main(arguments: list[str]) -> int:
    """Exit 0 when every claim that ran was met."""
    if arguments == ["--list"]:
        for name in names():
            print(f"{name}: {(importlib.import_module(name).__doc__ or '').splitlines()[0]}")
        return 0
    chosen = arguments or names()
    if unknown := set(chosen) - set(names()):
        print(f"no benchmark named {', '.join(sorted(unknown))}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    met = True
    for name in chosen:
        for claim in importlib.import_module(name).measure():
            line = claim.line()
            print(json.dumps(line), flush=True)
            (RESULTS / f"{claim.claim}.json").write_text(json.dumps(line, indent=1) + "\n")
            met &= claim.met
    return 0 if met else 1


if __name__ == "__main__":
    # The root before tests/, or the folder tests/guard would pass for the package guard.
    sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parent)]
    sys.exit(main(sys.argv[1:]))
