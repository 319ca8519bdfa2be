"""The settings of ``medward serve`` as options: for each field a flag, an environment variable, a line in a file.

On the command line beats the environment, which beats the file. `Limits` stand at the top of the file, others in a
table of their own: ``[identity] issuer`` is ``--identity-issuer`` and ``MEDWARD_SERVE_IDENTITY_ISSUER``.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from medward.guard.errors import MedwardError
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.limits import Limits

VARIABLE_PREFIX = "MEDWARD_SERVE_"
OPTION_TABLES: dict[type, str] = {Limits: "", IdentitySettings: "identity"}
"""Where in the file the fields of each kind of settings stand: at its top, or in the table of that name."""
_S = TypeVar("_S")


def setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, whose last parameter is ``**settings``, with an option for every field in the tables, and a file."""
    own = inspect.signature(command, eval_str=True)
    given = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
    made = [_parameter(kind, each) for kind in OPTION_TABLES for each in fields(kind)]
    said = "TOML file with settings by the names of their options: workers = 4, and a table [identity]"
    config = Annotated[
        Path | None, typer.Option(envvar=f"{VARIABLE_PREFIX}CONFIG", help=said, callback=_read, is_eager=True)
    ]
    made.append(_keyword("config", config, None))

    def with_settings(**options: Any) -> None:
        options.pop("config")
        command(**options)

    with_settings.__doc__, with_settings.__name__ = command.__doc__, command.__name__
    return with_parameters(with_settings, [*given, *made])


def with_parameters(command: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """A command that does what `command` does, whose options Typer reads from `parameters`."""

    def made(**options: Any) -> None:
        command(**options)

    made.__doc__, made.__name__ = command.__doc__, command.__name__
    made.__annotations__ = {each.name: each.annotation for each in parameters}
    made.__signature__ = inspect.Signature([*parameters])  # type: ignore[attr-defined]  # no type declares it
    return made


def chosen_settings(kind: type[_S], options: Mapping[str, Any]) -> _S:
    """The settings of `kind`, one of `OPTION_TABLES`, that `options` say."""
    return kind(**{each.name: options[_option_name(kind, each.name)] for each in fields(kind)})  # type: ignore[arg-type]


def _option_name(kind: type, name: str) -> str:
    return f"{OPTION_TABLES[kind]}_{name}" if OPTION_TABLES[kind] else name


def _parameter(kind: type, setting: Field[Any]) -> inspect.Parameter:
    name = _option_name(kind, setting.name)
    option = typer.Option(
        envvar=VARIABLE_PREFIX + name.upper(),
        help=setting.metadata["help"],
        rich_help_panel=(OPTION_TABLES[kind] or "limits").capitalize(),
    )
    return _keyword(name, Annotated[get_type_hints(kind)[setting.name], option], setting.default)


def _keyword(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _read(context: typer.Context, path: Path | None) -> Path | None:
    """Take what the file says for what neither the command line nor the environment does."""
    if path is None:
        return None
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MedwardError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MedwardError(f"{path}: not TOML: {error}") from None
    defaults = dict(context.default_map or {})
    for kind, table in OPTION_TABLES.items():
        found = (
            said.pop(table, {}) if table else {name: said[name] for name in said if name not in OPTION_TABLES.values()}
        )
        where = f"{path}: [{table}]" if table else f"{path}"
        if not isinstance(found, dict):
            raise MedwardError(f"{where} must be a table, got {found!r}")
        for name, value in found.items():
            defaults[_option_name(kind, name.replace("-", "_"))] = _checked(where, kind, name, value)
    context.default_map = defaults
    return path


def _checked(where: str, kind: type, name: str, value: Any) -> Any:
    """`value` as the option `name` takes it; a list of texts is words with spaces between them."""
    kinds = get_type_hints(kind)
    wanted = kinds.get(name.replace("-", "_"))
    if wanted is None:
        what = "no setting" if OPTION_TABLES[kind] else "no limit"
        raise MedwardError(f"{where}: {name!r} is {what}; one of {', '.join(kinds)}")
    if (
        wanted is str
        and OPTION_TABLES[kind]
        and isinstance(value, list)
        and all(isinstance(each, str) for each in value)
    ):
        return " ".join(value)
    if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else wanted):
        raise MedwardError(f"{where}: {name} must be of type {wanted.__name__}, got {value!r}")
    return value
