"""Rereads the policy of a bundle that is served, whose every other file must be what it was."""

from __future__ import annotations

from dataclasses import replace

from medward.guard.bundle.bounds import open_bounds
from medward.guard.bundle.card import POLICY, PROFILE, site_file
from medward.guard.bundle.folder import Bundle
from medward.guard.bundle.parts import read_card, read_policy, read_profile, verified_parts
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.intake.burned_in_check import check_shows_text
from medward.guard.tasks.base import check_level


def reread_policy(loaded: Bundle, *, expect: str | None = None) -> Bundle:
    """The bundle at ``loaded.path`` as it is now, with the model that is loaded, which is not loaded again.

    Every digest is compared, as `load_bundle` does; `expect` is the digest of the whole bundle as it is now. Raises
    `MedwardError` for a policy that the bundle cannot be served under, and for a bundle that differs by more than it:
    that takes a restart. A policy that was edited and not sealed is an `IntegrityError`.
    """
    card = read_card(loaded.path)
    if expect is not None and card.digest != expect:
        raise IntegrityError(f"{loaded.path}: is bundle {card.digest[:12]}, expected {expect[:12]}")
    parts = verified_parts(loaded.path, card, skip=())
    if card.digest_without(POLICY) != loaded.card.digest_without(POLICY):
        raise MedwardError(
            f"{loaded.path}: differs from the bundle that is served by more than its policy; restart the server"
        )
    policy = read_policy(parts)
    check_level(card.spec.task, policy.release.default)
    check_shows_text(policy.privacy, card.spec)
    open_bounds(card, parts, policy)
    return replace(
        loaded,
        card=card,
        policy=policy,
        profile=read_profile(PROFILE, parts, policy),
        sites={site: read_profile(site_file(site), parts, policy) for site in card.sites},
    )
