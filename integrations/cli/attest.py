"""``medward attest``: a report signed over its bundle, and whether a bundle is the one that was signed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from medward.integrations.cli.options import console


class _SignsByDefault(typer.core.TyperGroup):
    """A group that takes what is none of its commands for the report to sign: ``medward attest report/ --key ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as Typer does, with "sign" put first where nothing else is said."""
        named = not args or args[0] in {*self.commands, *ctx.help_option_names}
        rest: list[str] = super().parse_args(ctx, args if named else ["sign", *args])
        return rest


attest_app = typer.Typer(
    no_args_is_help=True, cls=_SignsByDefault, help="Sign a report over its bundle: attest REPORT --key; verify it."
)


@attest_app.command("sign")
def attest_sign(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="the report's folder, or its report.json")],
    key: Annotated[Path, typer.Option(help="the private key, PEM: Ed25519 or ECDSA P-256")],
    bundle: Annotated[Path | None, typer.Option(help="the bundle's folder, if not where the report says")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="the envelope; default: attestation.json beside the report")
    ] = None,
) -> None:
    """Sign which attacks were kept out of which files: an in-toto test result in a DSSE envelope."""
    from medward.guard.files import write_durably
    from medward.integrations.evidence.attest import attest_report
    from medward.integrations.evidence.signing_keys import load_signing_key

    signing = load_signing_key(key)
    envelope = attest_report(report, signing, bundle)
    path = out or (report if report.is_dir() else report.parent) / "attestation.json"
    write_durably(path, envelope)
    console.print(f"{path}: signed by key {signing.public.key_id}", markup=False)


@attest_app.command("verify")
def attest_verify(
    envelope: Annotated[Path, typer.Argument(metavar="ENVELOPE", help="the file that `medward attest` wrote")],
    key: Annotated[Path, typer.Option(help="the public key, PEM, which you have from whom you trust")],
    bundle: Annotated[Path, typer.Option(help="the bundle's folder")],
    report: Annotated[Path | None, typer.Option(help="the report, or its folder, to compare as well")] = None,
) -> int:
    """Check, offline, that a key signed the result and that bundle and report are those signed; exit 0 if it passes."""
    from medward.integrations.evidence.signing_keys import load_public_key
    from medward.integrations.evidence.verify import verify_attestation

    today = datetime.now(UTC).date()
    found = verify_attestation(envelope, load_public_key(key), bundle, report)
    for sentence in found.sentences(today):
        console.print(sentence, markup=False)
    return 0 if found.passes(today) else 1
