"""What a guard is made of before it answers: its parts, made once, and checked against what the policy asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from medward.guard.accounts.monitors import check_monitors
from medward.guard.accounts.names import by_folded, checked_principal
from medward.guard.answering import check_pools, release_name
from medward.guard.certify.certifier import Certifier, KeptBounds
from medward.guard.errors import MedwardError
from medward.guard.intake.burned_in_check import BurnedInCheck
from medward.guard.intake.deidentify.reading import TextReader
from medward.guard.models.base import Model
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.report_filter import ReportFilter
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import check_level
from medward.guard.types import Level

if TYPE_CHECKING:  # needs the extra `text`
    from medward.guard.release.memory.memory_filter import MemoryFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardParts:
    """Guard parts are what a guard makes of its settings once, and every answer uses.

    `policy` is the policy's fingerprint, `release_name` what budgets know an answer by, `sites` the calibrations of
    organisations as principals spell them, `bounds` those that the model was compared with. `certifier` and `burned_in`
    are None where the policy asks for neither, `reports` where no text leaves.
    """

    policy: str
    release_name: str
    sites: Mapping[str, Profile]
    bounds: KeptBounds | None
    certifier: Certifier | None
    burned_in: BurnedInCheck | None
    reports: ReportFilter | None

    @classmethod
    def of(
        cls,
        model: Model,
        policy: Policy,
        profile: Profile,
        sites: Mapping[str, Profile],
        reader: TextReader | None,
        bounds: KeptBounds | None,
        memory: MemoryFilter | None,
    ) -> Self:
        """The parts that `policy` asks for.

        Raises `MedwardError` where one is asked for and cannot be had, for bounds that the model answers a random row
        outside of, and for a `memory` filter that no text would meet.
        """
        certifier = Certifier.of(bounds, policy, model.spec)
        if certifier is not None and bounds is not None:
            bounds = bounds.checked_against(model)
        fingerprint = policy.fingerprint
        return cls(
            policy=fingerprint,
            release_name=release_name(model.spec, profile.screening.fingerprint, fingerprint),
            sites=by_folded(sites, "sites"),
            bounds=bounds,
            certifier=certifier,
            burned_in=BurnedInCheck.of(policy.privacy, model.spec, reader),
            reports=ReportFilter.of(policy.privacy, policy.release.default, model.spec, memory),
        )


def check_profiles(spec: ModelSpec, policy: Policy, profile: Profile, sites: Mapping[str, Profile]) -> None:
    """Refuse, with `MedwardError`, profiles that lack what `policy` asks for, and a site that is no organisation."""
    for site in sites:
        checked_principal((site,))
    check_level(spec.task, policy.release.default)
    if policy.release.default is Level.CODES and profile.codebook is None:
        raise MedwardError("profile: has no codebook; protect the model again, or set another release.level")
    check_pools(policy.release, profile.pools)
    check_monitors(policy, profile, "profile", "set {switch} = false")
    for site, own in sites.items():
        check_monitors(policy, own, f"site {site!r}", "set {switch} = false")
