"""Run the measured claims: ``run.py`` lists and runs them all, ``run.py NAME`` one claim or one module of claims.

Each module beside this one names its `CLAIMS` and has a ``measure()`` that yields them. Every claim is printed as one
JSON line and kept in ``docs/results/<claim>.json``, from which the README's tables are rendered.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "docs" / "results"


def names() -> list[str]:
    """The modules beside this one that name their claims; the others help them."""
    return sorted(path.stem for path in HERE.glob("*.py") if "\nCLAIMS = " in path.read_text())


def main(arguments: list[str]) -> int:
    """Exit 0 when every claim that ran was met."""
    modules = {name: importlib.import_module(name) for name in names()}
    homes = {claim: name for name, module in modules.items() for claim in module.CLAIMS}
    if not arguments or arguments == ["--list"]:
        for name, module in modules.items():
            print(f"{name}: {module.__doc__.splitlines()[0]} ({', '.join(module.CLAIMS)})", flush=True)
        if arguments:
            return 0
    if unknown := [each for each in arguments if each not in homes and each not in modules]:
        print(f"no claim named {unknown[0]!r}; there are: {', '.join(sorted(homes))}", file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    met = True
    for wanted in arguments or modules:
        for claim in modules[homes.get(wanted, wanted)].measure():
            line = claim.line()
            print(json.dumps(line), flush=True)
            (RESULTS / f"{claim.claim}.json").write_text(json.dumps(line, indent=1) + "\n")
            met &= claim.met
            if claim.claim == wanted and wanted not in modules:
                break
    return 0 if met else 1


if __name__ == "__main__":
    # The root before tests/, or the folder tests/guard would pass for the package guard.
    sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parent)]
    sys.exit(main(sys.argv[1:]))
