"""Privacy filters: what a policy takes out of answers that are text, conversation by conversation, and how often."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from medward.guard.errors import MedwardError
from medward.guard.privacy_policy import ALL_KINDS, PrivacyPolicy
from medward.guard.release.conversation import Conversation

if TYPE_CHECKING:  # needs the extra `text`
    from medward.guard.release.memory.memory_filter import MemoryFilter
    from medward.guard.release.text.filter import TextFilter
    from medward.guard.release.text.known import KnownIdentifiers


class PrivacyFilters:
    """Privacy filters open conversations filtered as the section ``[privacy]`` says, and count what is replaced in all.

    Guarantee: what a `Conversation` with these filters guarantees; a filter that the policy asks for is never left out,
    and one that it switches off is in `notes`. Counts are by kind and hold no text. For threads: a conversation is one
    thread's, the filters are everyone's.
    Raises `MedwardError` where the policy takes nothing out, where `memory` is missing or is switched off, and where
    the extra `text` is missing.
    """

    def __init__(self, policy: PrivacyPolicy, *, memory: MemoryFilter | None = None) -> None:
        _check_memory(policy, memory)
        self._policy, self._memory = policy, memory
        self._identifiers = _text_filter(policy) if policy.identifiers else None
        self._lock = threading.Lock()
        self._replaced: Counter[str] = Counter()
        self.conversation()  # what would fail at the first answer fails here

    def conversation(self, known: KnownIdentifiers | None = None) -> Conversation:
        """The filters of a new conversation, about a patient of whom these identifiers are `known`.

        They count for nothing where the policy leaves identifiers in.
        """
        return Conversation(
            identifiers=self._identifiers,
            memory=self._memory,
            known=known if self._policy.identifiers else None,
            remembered=self._policy.remembered,
            on_redaction=self._count,
        )

    @property
    def replaced(self) -> Mapping[str, int]:
        """How many parts of answers were replaced so far, by the kind that their marks name."""
        with self._lock:
            return dict(self._replaced)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the policy leaves in answers, a sentence each."""
        chosen = self._policy
        left = ", ".join(kind for kind in ALL_KINDS if kind not in chosen.kinds)
        said = {
            "identifiers are left in answers: privacy.identifiers = false": not chosen.identifiers,
            f"identifiers of some kinds are left in answers, as privacy.kinds says: {left}": bool(left),
            "training text is left in answers: privacy.memory = false": not chosen.memory,
        }
        return tuple(sentence for sentence, true in said.items() if true)

    def _count(self, kind: str) -> None:
        with self._lock:
            self._replaced[str(kind)] += 1


def _check_memory(policy: PrivacyPolicy, memory: MemoryFilter | None) -> None:
    """Refuse a policy that takes nothing out, and a memory filter that is not what the policy says."""
    if not isinstance(policy, PrivacyPolicy):
        raise MedwardError(
            f"privacy filters: policy must be its section [privacy], Policy.load(path).privacy, got "
            f"{type(policy).__name__}"
        )
    if not policy.identifiers and not policy.memory:
        raise MedwardError(
            "privacy.identifiers = false and privacy.memory = false: nothing is taken out of answers; set one of them "
            "to true"
        )
    if policy.memory and memory is None:
        raise MedwardError("privacy.memory = true, and there is no memory filter; give memory=MemoryFilter.load(path)")
    if memory is not None and not policy.memory:
        raise MedwardError(
            "privacy.memory = false, and a memory filter was given that would not be used; set it to true, or leave "
            "the filter out"
        )


def _text_filter(policy: PrivacyPolicy) -> TextFilter:
    try:
        from medward.guard.release.text import IdentifierKind, TextFilter
    except ModuleNotFoundError as error:
        raise MedwardError(f"privacy.identifiers = true needs {error.name}: pip install 'medward[text]'") from None
    return TextFilter(language=policy.language, kinds=frozenset(map(IdentifierKind, policy.kinds)))
