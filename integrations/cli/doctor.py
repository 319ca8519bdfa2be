"""``medward doctor``: what is missing or wrong on a host or with a deployment, and the remedy."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from medward.integrations.cli.options import console, see_working_directory
from medward.integrations.cli.serve import archive_source, serve_command
from medward.integrations.cli.setting_options import chosen_settings, with_parameters
from medward.integrations.doctor.libraries import host_remarks
from medward.integrations.doctor.remark import Remark
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.limits import Limits

ExaminedBundle = Annotated[
    Path | None, typer.Argument(metavar="BUNDLE", help="the folder that `medward protect` wrote; without it the host")
]


def _options_of_serve(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with every option of ``medward serve``, so that a unit file's line can be examined as it stands."""
    own, theirs = (inspect.signature(each, eval_str=True).parameters.values() for each in (command, serve_command))
    first = [each for each in own if each.kind is not each.VAR_KEYWORD]
    taken = {each.name for each in first}
    parameters = [*first, *(each.replace(kind=each.KEYWORD_ONLY) for each in theirs if each.name not in taken)]

    return with_parameters(command, parameters)


@_options_of_serve
def doctor_command(
    bundle: ExaminedBundle = None,
    as_json: Annotated[bool, typer.Option("--json", help="everything, for a program")] = False,
    **served: Any,
) -> None:
    """Say what is missing or wrong on this host or with a deployment, and the remedy; takes the options of serve.

    Exits 0 when all is well, 1 when there is something to mend.
    """
    try:
        remarks = _examined(bundle, served)
    except ModuleNotFoundError:  # of what serving needs: the host's remarks say which
        remarks = tuple(host_remarks({"serve": "needed to serve a bundle"}))
    mended = [each for each in remarks if each.state == "mend"]
    if as_json:
        said = {"well": not mended, "remarks": [each.content for each in remarks]}
        sys.stdout.write(json.dumps(said, indent=2) + "\n")
    else:
        for each in remarks:
            remedy = f"; {each.remedy}" if each.remedy else ""
            console.print(f"{each.state:<4}  {each.part}: {each.said}{remedy}", markup=False)
        console.print(f"{len(mended)} to mend" if mended else "all is well")
    raise typer.Exit(1 if mended else 0)


def _examined(bundle: Path | None, served: Mapping[str, Any]) -> tuple[Remark, ...]:
    """What there is to say of the deployment that ``medward serve`` makes of `served`; refuses what serve refuses."""
    from medward.integrations.doctor.examination import ExaminedDeployment, examine
    from medward.integrations.serving.alarm_notices import syslog, webhook
    from medward.integrations.serving.cross_origin import checked_origins

    chosen_settings(Limits, served)
    checked_origins(served["allow_origin"] or ())
    if served["alarm_webhook"]:
        webhook(served["alarm_webhook"], os.environ.get("MEDWARD_SERVE_ALARM_SECRET", ""))
    if served["alarm_syslog"]:
        syslog(served["alarm_syslog"])
    deployment = ExaminedDeployment(
        bundle=bundle,
        anonymous=served["no_keys"],
        identity=chosen_settings(IdentitySettings, served),
        source=archive_source(served["source"], served["source_mib"], served["source_seconds"]),
        **{name: served[name] for name in _AS_SERVED},
    )
    if served["allow_code"]:
        see_working_directory()
    return examine(deployment)


_AS_SERVED = (
    "state",
    "store",
    "host",
    "allow_code",
    "expect",
    "certificate",
    "private_key",
    "client_ca",
    "fhir",
)
