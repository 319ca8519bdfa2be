"""The bounds of ``medward serve`` as options: for each of `Limits` a flag, an environment variable, a line in a file.

On the command line beats the environment, which beats the file.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from medward.guard.errors import MedwardError
from medward.integrations.serving.limits import Limits

VARIABLE_PREFIX = "MEDWARD_SERVE_"


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, whose last parameter is ``**limits``, with an option for every field of `Limits` and ``--config``."""
    own = inspect.signature(command, eval_str=True)
    kinds = get_type_hints(Limits)
    given = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
    made = [_parameter(each, kinds[each.name]) for each in fields(Limits)]
    said = "TOML file with limits by the names of their options: workers = 4"
    config = Annotated[
        Path | None, typer.Option(envvar=f"{VARIABLE_PREFIX}CONFIG", help=said, callback=_read, is_eager=True)
    ]
    made.append(_keyword("config", config, None))

    def with_limits(**options: Any) -> None:
        options.pop("config")
        command(**options)

    with_limits.__signature__ = own.replace(parameters=[*given, *made])  # type: ignore[attr-defined]
    with_limits.__annotations__ = {each.name: each.annotation for each in (*given, *made)}
    with_limits.__doc__, with_limits.__name__ = command.__doc__, command.__name__
    return with_limits


def _parameter(bound: Field[Any], kind: type) -> inspect.Parameter:
    option = typer.Option(
        envvar=VARIABLE_PREFIX + bound.name.upper(), help=bound.metadata["help"], rich_help_panel="Limits"
    )
    return _keyword(bound.name, Annotated[kind, option], bound.default)


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
    kinds = get_type_hints(Limits)
    for name, value in said.items():
        kind = kinds.get(name.replace("-", "_"))
        if kind is None:
            raise MedwardError(f"{path}: {name!r} is no limit; one of {', '.join(kinds)}")
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise MedwardError(f"{path}: {name} must be of type {kind.__name__}, got {value!r}")
    context.default_map = {**(context.default_map or {}), **{key.replace("-", "_"): said[key] for key in said}}
    return path
