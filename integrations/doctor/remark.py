"""What an examination says: a sentence on each part, and of what is to be mended how."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from medward.guard.errors import MedwardError, UnavailableError

RemarkState = Literal["well", "note", "mend"]
"""Nothing to do; to be known, such as what a policy switches off; missing or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A remark is a sentence on a `part` of a host or deployment, with the remedy where there is something to mend."""

    part: str
    said: str
    state: RemarkState = "well"
    remedy: str = ""

    @property
    def content(self) -> dict[str, str]:
        """The remark as plain data."""
        return {"part": self.part, "state": self.state, "said": self.said, "remedy": self.remedy}


def examined(part: str, look: Callable[[], Iterable[Remark]], remedy: str) -> list[Remark]:
    """What `look` finds; where it fails, a remark that says so is all, for an examination ends with no error.

    `remedy` is the one of a failure whose own sentence names none.
    """
    try:
        return [*look()]
    except (MedwardError, UnavailableError) as error:
        said, _, own = str(error).partition("; ")
        return [Remark(part=part, said=said, state="mend", remedy=own or remedy)]
    except OSError as error:
        said = f"{error.filename or part}: {error.strerror or type(error).__name__}"
        return [Remark(part=part, said=said, state="mend", remedy=remedy)]
    except ModuleNotFoundError as error:
        return [Remark(part=part, said=f"this needs {error.name}", state="mend", remedy="pip install 'medward[serve]'")]
    except Exception as error:  # its text may hold anything
        said = f"this could not be examined ({type(error).__name__})"
        return [Remark(part=part, said=said, state="mend", remedy="report it: that is a mistake of medward doctor")]
