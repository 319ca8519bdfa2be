"""Commands that refuse an option said twice: only the last would count, and nobody would be told."""

from __future__ import annotations

from typing import Any

import typer.core

from medward.guard.errors import MedwardError


class SaidOnce(typer.core.TyperCommand):
    """A command whose options are each said once, but for those that are lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as Typer does. Raises `MedwardError` for an option that is said twice."""
        options = [each for each in self.params if each.param_type_name == "option" and not each.multiple]
        names = {spelling: each.opts[0] for each in options for spelling in each.opts}
        said = [names[word.partition("=")[0]] for word in args if word.partition("=")[0] in names]
        if twice := next((name for name in said if said.count(name) > 1), None):
            raise MedwardError(f"{twice}: is said {said.count(twice)} times, and only one can count; say it once")
        rest: list[str] = super().parse_args(ctx, args)
        return rest
