"""``medward serve``: a bundle behind its guard over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medward.guard.commissioning.period import LONGEST_MINUTES, CommissioningAsked
from medward.guard.errors import MedwardError
from medward.integrations.cli.lines import printed_log
from medward.integrations.cli.options import (
    AllowCode,
    BundlePath,
    Expect,
    StateOption,
    StoreOption,
    console,
    see_working_directory,
)
from medward.integrations.cli.setting_options import chosen_settings, setting_options
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.limits import Limits

if TYPE_CHECKING:
    from medward.integrations.clinical.dicomweb_source import DicomWebSource


@setting_options
def serve_command(
    bundle: BundlePath,
    state: StateOption = Path("state"),
    store: StoreOption = None,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="answer anyone; only on this machine")] = False,
    resize: Annotated[bool, typer.Option("--resize", help="resize uploaded images to the model's size")] = False,
    allow_code: AllowCode = False,
    expect: Expect = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM; with --private-key serves TLS")] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="PEM; clients must show a certificate of these authorities, besides their key")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="a web page's origin that may ask from a browser, as https://viewer.example; several times"),
    ] = None,
    alarm_webhook: Annotated[
        str | None,
        typer.Option(
            envvar="MEDWARD_SERVE_ALARM_WEBHOOK",
            help="https address that each alarm is posted to; MEDWARD_SERVE_ALARM_SECRET signs it",
        ),
    ] = None,
    alarm_syslog: Annotated[
        str | None,
        typer.Option(envvar="MEDWARD_SERVE_ALARM_SYSLOG", help="where each alarm is a line: /dev/log, or host:514"),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"], typer.Option(envvar="MEDWARD_SERVE_LOG_FORMAT", help="the log on stderr")
    ] = "text",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(envvar="MEDWARD_SERVE_LOG_LEVEL")
    ] = "info",
    commission: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LONGEST_MINUTES,
            help="minutes for which one organisation is told what is strange about its inputs, charged nothing",
        ),
    ] = None,
    commission_for: Annotated[str | None, typer.Option(help="the organisation; needed where several have keys")] = None,
    commission_number: Annotated[
        int, typer.Option(min=1, help="2 for a second commissioning once the first ended, and so on")
    ] = 1,
    fhir: Annotated[
        Path | None, typer.Option(help="TOML file: whose identifiers PatientIDs are, codes of classes and findings")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            envvar="MEDWARD_SERVE_SOURCE", help="DICOMweb archive that studies are fetched from, by their UIDs"
        ),
    ] = None,
    source_mib: Annotated[int, typer.Option(min=1, help="MiB that one study of the archive may have")] = 256,
    source_seconds: Annotated[float, typer.Option(min=0.1, help="seconds in which the archive must answer")] = 60.0,
    **settings: Any,
) -> None:
    """Serve a bundle behind its guard over HTTP.

    Each limit and each setting of [identity] is an option, an environment variable MEDWARD_SERVE_..., or a line in the
    file of --config. What the archive asks for is read from MEDWARD_SOURCE_AUTHORIZATION, as "Bearer TOKEN".
    """
    if commission is None and (commission_for is not None or commission_number != 1):
        raise MedwardError("commission-for and commission-number: say for how many minutes with --commission")
    from medward.integrations.serving import serve_bundle as run
    from medward.integrations.serving.alarm_notices import syslog, webhook

    notices = [webhook(alarm_webhook, os.environ.get("MEDWARD_SERVE_ALARM_SECRET", ""))] if alarm_webhook else []
    notices += [syslog(alarm_syslog)] if alarm_syslog else []
    limits, identity = chosen_settings(Limits, settings), chosen_settings(IdentitySettings, settings)
    if allow_code:
        see_working_directory()
    with printed_log(console, "medward.serving"):
        run(
            bundle,
            state=state,
            store=store,
            host=host,
            port=port,
            anonymous=no_keys,
            resize=resize,
            limits=limits,
            allow_code=allow_code,
            expect=expect,
            certificate=certificate,
            private_key=private_key,
            client_ca=client_ca,
            identity=identity,
            commissioning=_asked(commission, commission_for, commission_number),
            origins=allow_origin or (),
            notices=notices,
            log_format=log_format,
            log_level=log_level,
            fhir=fhir,
            source=archive_source(source, source_mib, source_seconds),
        )


def _asked(minutes: int | None, organisation: str | None, number: int) -> CommissioningAsked | None:
    if minutes is None:
        return None
    return CommissioningAsked(minutes=minutes, organisation=organisation, number=number)


def archive_source(url: str | None, mib: int, seconds: float) -> DicomWebSource | None:
    """The archive that the options say, None for none."""
    if url is None:
        return None
    from medward.integrations.clinical.dicomweb_source import DicomWebSource

    authorization = os.environ.get("MEDWARD_SOURCE_AUTHORIZATION", "")
    return DicomWebSource(url=url, authorization=authorization, most_bytes=mib * 2**20, seconds=seconds)
