"""Attacks and defenses from other packages: what installed distributions announce under Medward's entry-point groups.

A distribution announces in its ``pyproject.toml``, say::

    [project.entry-points."medward.monitors"]
    level = "medward_level:LEVEL"

Importing a plug-in runs its code with all rights of this process, as any import does. So only distributions that are
installed where Python looks for packages are read, never a bundle, a data file or a text of a policy; who may install
packages decides which plug-ins there are. One that cannot be imported, or takes a name that is taken, stops whoever
looks into its group with a sentence: a defense that is silently missing is worse than none.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from medward.guard.errors import MedwardError

Group = Literal["monitors", "screens", "hardeners", "attacks", "families"]
"""What other packages may add; the entry-point group is ``medward.`` and this."""
NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plug-in is what an installed distribution announced: `value` under `name`."""

    name: str
    value: Any
    distribution: str
    version: str

    @property
    def source(self) -> str:
        """The distribution and its version, as cards and reports keep them."""
        return f"{self.distribution} {self.version}"


@cache
def find_plugins(group: Group) -> tuple[Plugin, ...]:
    """What installed distributions announce under `group`, imported, by name; looked for once a process.

    Raises `MedwardError` for one that cannot be imported, is named twice, or has a name that could not be a file's.
    """
    found: dict[str, Plugin] = {}
    for entry in sorted(importlib.metadata.entry_points(group=f"medward.{group}"), key=lambda each: each.name):
        dist = entry.dist
        name, version = (dist.name, dist.version) if dist else (entry.module, "")
        what = f"plug-in {entry.name!r} of {name} {version} (medward.{group})"
        if not NAME.fullmatch(entry.name):
            raise MedwardError(f"{what}: a name is lower-case letters, digits and '-'; uninstall it")
        if entry.name in found:
            raise MedwardError(f"{what}: the name is taken by {found[entry.name].source}; uninstall one of them")
        try:
            value = entry.load()
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise MedwardError(f"{what}: cannot be imported: {said[0]}; repair or uninstall {name}") from error
        found[entry.name] = Plugin(name=entry.name, value=value, distribution=name, version=version)
    return tuple(found.values())


def checked_plugins(group: Group, taken: Iterable[str], check: Callable[[Any], str]) -> tuple[Plugin, ...]:
    """The plug-ins of `group` whose values `check` has nothing to say against and whose names are not `taken`.

    Raises `MedwardError` otherwise.
    """
    known, plugins = set(taken), find_plugins(group)
    for plugin in plugins:
        what = f"plug-in {plugin.name!r} of {plugin.source} (medward.{group})"
        if plugin.name in known:
            raise MedwardError(f"{what}: Medward has one of that name; ask its authors for another, or uninstall it")
        if wrong := check(plugin.value) or _misnamed(plugin):
            raise MedwardError(f"{what}: {wrong}; ask its authors, or uninstall it")
    return plugins


def plugin_versions(plugins: Iterable[Plugin]) -> dict[str, str]:
    """The distributions of `plugins` and their versions."""
    return {plugin.distribution: plugin.version for plugin in plugins}


def _misnamed(plugin: Plugin) -> str:
    own = getattr(plugin.value, "name", plugin.name)
    return "" if own == plugin.name else f"calls itself {own!r} and not as it is announced"
