"""What the routes share: the guard behind its pool, and who may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Header, HTTPException, Path, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.pipeline import Guard
from medward.guard.report_stream import ReportStream
from medward.guard.spec import ModelSpec
from medward.guard.types import Answer, Array, Level, Principal, Query
from medward.integrations.serving.keys import KeyStore, Scope
from medward.integrations.serving.limits import Limits, Pool
from medward.integrations.serving.metrics import Metrics

if TYPE_CHECKING:  # needs the extra `text`
    from medward.guard.release.text.known import KnownIdentifiers

LONGEST_STUDY = 128  # characters; a UID has 64
bearer = HTTPBearer(auto_error=False, description="A key made by `medward keys add`.")
Study = Annotated[
    str,
    Header(
        alias="Medward-Study",
        max_length=LONGEST_STUDY,
        description="What all images of the request belong to, as a StudyInstanceUID: slices of one study look alike.",
    ),
]
header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key, without a scheme.")


@dataclass(frozen=True, slots=True)
class Received:
    """The rows of a request, the studies that its files say they are of, what makes the files' own images, and what is
    known of their patients.
    """

    inputs: Sized
    studies: frozenset[str] = frozenset()
    pictures: Sequence[Callable[[], Array]] = ()
    known: Sequence[KnownIdentifiers | None] = ()

    @property
    def study(self) -> str:
        """The one study of all files, or ""."""
        if len(self.studies) > 1:
            raise MedwardError(
                f"the files are of {len(self.studies)} studies; send those of one study per request, or say in the "
                "header Medward-Study what they all belong to"
            )
        return next(iter(self.studies), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A guard, and the bounds within which it is asked."""

    guard: Guard
    limits: Limits
    pool: Pool
    metrics: Metrics
    version: str

    async def answer(self, principal: Principal, read: Callable[[], Received], study: str = "") -> Answer:
        """Read the inputs, of one `study`, and answer them in a worker thread; `read` may raise `MedwardError`.

        Without a `study` said it is the one that the files say, of which there may then be one only.

        The caller holds a slot of the pool. An answer that is withheld because a part does not answer raises
        `UnavailableError`: the client is to ask again, not to take it for a verdict. It stays on record as it is.
        """
        answer = await self.pool.run(lambda: self.guard.answer(self._query(principal, read, study)))
        self.metrics.answer(answer)
        _refuse_unavailable(answer)
        return answer

    async def stream(self, principal: Principal, read: Callable[[], Received], study: str = "") -> ReportStream:
        """Read the one input, and admit a report of it that is yet to be written, in a worker thread; see `answer`.

        Whoever gets it closes it.
        """
        stream = await self.pool.run(lambda: self.guard.stream(self._query(principal, read, study)))
        if stream.level is Level.WITHHELD:
            self.metrics.answer(stream.answer)
            _refuse_unavailable(stream.answer)
        return stream

    def _query(self, principal: Principal, read: Callable[[], Received], study: str) -> Query:
        received = read()
        rows = len(received.inputs)
        if rows > self.limits.rows:
            raise MedwardError(f"inputs: at most {self.limits.rows} rows per request, got {rows}")
        return Query(
            principal=principal,
            inputs=received.inputs,
            study=study or received.study,
            pictures=received.pictures,
            known=received.known,
        )


def _refuse_unavailable(answer: Answer) -> None:
    if answer.unavailable:
        raise UnavailableError(f"withheld: {', '.join(answer.unavailable)}")


async def presented_token(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    api_key: Annotated[str | None, Security(header)],
) -> str | None:
    """The key that a request presents, in either header."""
    return credentials.credentials if credentials else api_key


@dataclass(frozen=True, slots=True)
class Caller:
    """Turns a request's key into its principal: 401 without one, 403 for the wrong scope."""

    keys: KeyStore
    scope: Scope

    async def __call__(self, token: Annotated[str | None, Depends(presented_token)]) -> Principal:
        """Who asks."""
        key = self.keys.authenticate(token) if token else None
        if key is None:
            raise HTTPException(401, "send a valid key as Authorization: Bearer or X-API-Key", CHALLENGE)
        if key.scope != self.scope:
            raise HTTPException(403, f"this key is for {key.scope}, the route needs one for {self.scope}")
        return key.principal


@dataclass(frozen=True, slots=True)
class Holds:
    """Tells whether a request holds a key of a scope, and refuses nobody; False while the keys cannot be read."""

    keys: KeyStore
    scope: Scope

    async def __call__(self, token: Annotated[str | None, Depends(presented_token)]) -> bool:
        """Whether it does."""
        try:
            await Caller(self.keys, self.scope)(token)
        except (HTTPException, IntegrityError):
            return False
        return True


async def everybody() -> bool:
    """Whoever asks holds what is asked for: the development mode without keys."""
    return True


CHALLENGE = {"WWW-Authenticate": "Bearer"}


async def anonymous() -> Principal:
    """Everybody is one principal: the development mode without keys."""
    return ("anonymous",)


def model_name(spec: ModelSpec) -> Any:
    """The path parameter that OpenAPI documents with the one name served here."""
    return Path(description="The model's name.", json_schema_extra={"enum": [spec.name]})
