"""What a person sees while a validation runs: a bar on a terminal, one line per finished run elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar over `total` runs, which says what it is `doing`; silent unless `shown`.

    Of runs that take minutes it also says that each has begun, where `begins`.
    """

    def __init__(
        self,
        *,
        total: int,
        shown: bool = True,
        doing: str = "validating",
        console: Console | None = None,
        begins: bool = False,
    ) -> None:
        self._begins = begins
        self._console = console or Console(stderr=True, quiet=not shown, highlight=False)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._bar = Bar(*columns, console=self._console, disable=not (shown and self._console.is_terminal))
        self._task = self._bar.add_task(doing, total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, what: str) -> None:
        """Say something of a run that is going on."""
        self._bar.console.print(what, markup=False, soft_wrap=True)

    def begin(self, what: str) -> None:
        """Say that a run begins, where that is said."""
        if self._begins:
            self.say(f"{what}: begun")

    def done(self, what: str, outcome: str, *, recalled: bool = False, steps: int = 1) -> None:
        """Say that one run (or `steps` of them) is finished and what came of it."""
        kept = " (kept from before)" if recalled else ""
        self._bar.console.print(f"{what}: {outcome}{kept}", markup=False, soft_wrap=True)
        self._bar.advance(self._task, steps)
