"""Which plug-ins shaped a bundle: recorded in its card when it is made, and required when it is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from medward.guard.errors import MedwardError
from medward.guard.monitors.table import plugin_monitors
from medward.guard.plugins import Plugin
from medward.guard.profile import Profile
from medward.guard.screens.mahalanobis import plugin_screens

_log = logging.getLogger("medward")


def shaping_plugins(profile: Profile) -> dict[str, str]:
    """The plug-ins that took part in the calibration of `profile`, as a card keeps them."""
    screens = {screen.name for screen in profile.screening.screen.screens}
    found = {f"monitors:{each.name}": each for each in plugin_monitors() if each.name in profile.plugins}
    found |= {f"screens:{each.name}": each for each in plugin_screens() if each.name in screens}
    return {name: plugin.source for name, plugin in found.items()}


def check_installed(plugins: Mapping[str, str]) -> None:
    """Refuse a bundle whose plug-ins, as its card keeps them, are not installed; say where another version is."""
    for key, source in plugins.items():
        group, _, name = key.partition(":")
        found = {each.name: each for each in _installed(group)}
        what, (distribution, _, version) = f"{group.removesuffix('s')} {name!r}", source.partition(" ")
        if name not in found:
            raise MedwardError(
                f"the bundle was calibrated with the {what} of {source}, which is not installed here; "
                f"pip install {distribution}=={version}"
            )
        if found[name].source != source:
            _log.warning("the %s is of %s, the bundle was calibrated with %s", what, found[name].source, source)


def _installed(group: str) -> tuple[Plugin, ...]:
    if group not in ("monitors", "screens"):
        raise MedwardError(f"the bundle was shaped by plug-ins of a kind unknown here, {group!r}; upgrade medward")
    return plugin_monitors() if group == "monitors" else plugin_screens()
