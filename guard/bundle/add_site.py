"""The calibration of a site, an organisation with ordinary inputs of its own, is written into a bundle folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace

from medward.guard.accounts.names import checked_principal, first_alike
from medward.guard.bundle.card import CARD, PROFILE, Site, sha256, site_file
from medward.guard.bundle.folder import Bundle
from medward.guard.bundle.parts import built_folder, profile_bytes, read_card, read_profile, verified_parts
from medward.guard.bundle.power import Power
from medward.guard.bundle.shaping import shaping_plugins
from medward.guard.errors import MedwardError
from medward.guard.profile import Profile


def add_site(
    bundle: Bundle,
    site: str,
    profile: Profile,
    *,
    data_digest: str,
    sizes: Mapping[str, int],
    power: Power | None = None,
) -> Bundle:
    """Write the calibration of `site` into the folder of `bundle`, replacing one of that name; the new bundle.

    `site` is the first level of a principal; names that differ in spelling only are one. The folder is built anew from
    verified bytes and renamed, as `save_bundle` does.
    Raises `MedwardError` when the folder is no longer what was loaded.
    """
    checked_principal((site,))
    site = next((known for known in bundle.sites if first_alike((known, site))), site)
    path, file = bundle.path.resolve(), site_file(site)
    if read_card(path).digest != bundle.digest:
        raise MedwardError(f"{path}: was changed since it was loaded; try again")
    parts = {**verified_parts(path, bundle.card, skip=()), file: profile_bytes(profile)}
    read = read_profile(file, parts, bundle.policy)
    described = Site(data_digest=data_digest, sizes=dict(sizes), power=power)
    files = {**bundle.card.files, file: sha256(parts[file])}
    changed = {
        "files": files,
        "sites": {**bundle.card.sites, site: described},
        "plugins": {**bundle.card.plugins, **shaping_plugins(profile)},
    }
    card = bundle.card.model_copy(update=changed).sealed()
    with built_folder(path) as build:
        for name, data in {**parts, CARD: card.to_bytes()}.items():
            (build / name).write_bytes(data)
            shutil.copymode(path / (PROFILE if name == file else name), build / name)
        shutil.copymode(path, build)
    return replace(bundle, card=card, sites={**bundle.sites, site: read})
