"""A query once it was let in: the one thing that is handed on through the guard."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medward.guard.accounts.names import checked_principal
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import UNKNOWN_ORIGIN, Array, Principal, Query, QueryOrigin

if TYPE_CHECKING:  # needs the extra `text`
    from medward.guard.release.text.known import KnownIdentifiers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """A request is a checked query: `principal` in its one spelling, `inputs` as the model takes them.

    ``digests (n,)`` name the rows in records and states without telling of them, ``asked (n,)`` all that an answer to a
    row rests on, which for a text is also what is known of the patient; `id` names the answer. `pictures`
    make the images in which text is looked for, where these are not the rows themselves. `known` are identifiers of
    each row's patient, where the model writes reports and any are. `retrieved` inputs come from the site's archive.
    `study_digest` names the study in records, "" for none: a keyed digest, since a UID is an identifier.
    """

    id: str
    principal: Principal
    inputs: Array
    digests: tuple[str, ...]
    asked: tuple[str, ...]
    study: str = ""
    pictures: Sequence[Callable[[], Array]] = ()
    known: Sequence[KnownIdentifiers | None] = ()
    retrieved: bool = False
    study_digest: str = ""
    origin: QueryOrigin = UNKNOWN_ORIGIN

    @classmethod
    def admit(cls, query: Query, spec: ModelSpec, salt: bytes) -> Request:
        """Check `query` at the door; `salt` keys the digests. Raises `MedwardError` for what `spec` does not take."""
        principal = checked_principal(query.principal)
        inputs = spec.check(query.inputs)
        if query.pictures and len(query.pictures) != len(inputs):
            raise MedwardError(f"pictures: need one for each of the {len(inputs)} inputs, got {len(query.pictures)}")
        if query.known and not isinstance(spec.task, WrittenReport):
            raise MedwardError("known: identifiers are taken out of texts, and this model writes none; leave them out")
        if query.known and len(query.known) != len(inputs):
            raise MedwardError(f"known: need one for each of the {len(inputs)} inputs, got {len(query.known)}")
        digests = keyed_digests(inputs, salt)
        return cls(
            id=query.id or uuid.uuid4().hex,
            principal=principal,
            inputs=inputs,
            digests=digests,
            asked=_asked(digests, query.known, salt) if query.known else digests,
            study=query.study,
            pictures=query.pictures,
            known=query.known,
            retrieved=query.retrieved,
            study_digest=keyed_study(query.study, salt) if query.study else "",
            origin=query.origin,
        )

    @property
    def organisation(self) -> str:
        """The first level of the principal."""
        return self.principal[0]

    @property
    def accounts(self) -> tuple[str, ...]:
        """The keys of the account's parents, from the organisation down, and its own last."""
        return tuple("/".join(self.principal[:depth]) for depth in range(1, len(self.principal) + 1))

    @property
    def account(self) -> str:
        """The key of the account that asks."""
        return self.accounts[-1]


def keyed_digests(inputs: Array, salt: bytes) -> tuple[str, ...]:
    """Sixteen hex digits ``(n,)`` for each row, of its bytes and `salt`."""
    rows = np.ascontiguousarray(inputs)
    return tuple(hashlib.blake2b(row.tobytes(), key=salt, digest_size=8).hexdigest() for row in rows)


def keyed_study(study: str, salt: bytes) -> str:
    """Thirty-two hex digits that stand for the name of a study in records, of which only who has `salt` can tell."""
    return hashlib.blake2b(study.encode(), key=salt, digest_size=16, person=b"study").hexdigest()


def _asked(digests: Sequence[str], known: Sequence[KnownIdentifiers | None], salt: bytes) -> tuple[str, ...]:
    """The digests of rows with what is known of each patient, which changes what leaves of a text."""
    said = (repr(None if each is None else each.values).encode() for each in known)
    named = (hashlib.blake2b(each, key=salt, digest_size=8).hexdigest() for each in said)
    return tuple(f"{digest}:{name}" for digest, name in zip(digests, named, strict=True))
