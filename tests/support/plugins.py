"""Distributions of plug-ins as pip leaves them: modules and a dist-info folder, in a folder that Python looks into."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

from medward.guard.plugins import find_plugins


def install(
    folder: Path,
    name: str,
    modules: Mapping[str, str],
    announced: Mapping[str, Mapping[str, str]],
    version: str = "1.0",
) -> None:
    """Put a distribution of `modules` into `folder`; `announced` are its entry points, by group and name."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in announced.items():
        lines += [f"[medward.{group}]", *(f"{each} = {where}" for each, where in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@contextmanager
def installed(folder: Path):
    """Look into `folder` for packages within this process, and forget what was found there afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    find_plugins.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        find_plugins.cache_clear()
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
