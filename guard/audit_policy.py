"""What a deployment keeps of its answers: the section ``[audit]``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

KeptAnswers = Literal["digests", "decisions", "scores"]


class AuditPolicy(BaseModel):
    """Audit policy: what a record of a query keeps of the `answers`.

    "digests" are keyed: who holds an answer and the salt can show that it is the one on record, and the log tells no
    diagnosis to others. "decisions" also keeps these in words, "scores" besides them the scores as they were released:
    whoever reads the log then has what the level gave away, of every account. Opaque outputs and texts are never kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: KeptAnswers = "digests"

    def to_toml(self) -> str:
        """The section with every key spelled out."""
        return _TEMPLATE.format(a=self)


_TEMPLATE = """
[audit]                      # what the log keeps of an answer, besides its level
answers = "{a.answers}"          # keyed "digests", or also "decisions" in words, or also "scores" as they were released
"""
