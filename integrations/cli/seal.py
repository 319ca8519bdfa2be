"""``medward seal``: accept an edited policy."""

from __future__ import annotations

from medward.integrations.cli.options import BundlePath, console


def seal_command(bundle: BundlePath) -> None:
    """After editing policy.toml: check it and put its new digest on the card."""
    from medward.guard.bundle.folder import seal_bundle as reseal

    digest = reseal(bundle)
    console.print(f"{bundle}: sealed with the edited policy, digest {digest}; restart servers of it", markup=False)
